//! What the workers of a stream report to the task that owns its rows.

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::progress::item::QueueItem;
use crate::progress::saved::{Doubt, RefusedSlice};
use crate::progress::slices::{OpenItem, OpenListing, OpenSlice};
use crate::write::SliceNumber;

/// A slice: which one it is, and the values of its queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) request: usize,
    /// Its first number: a position in its queue, or its own.
    pub(crate) from: u64,
    /// The number after its last.
    pub(crate) to: u64,
    /// Number of its value, where it is not about values of a queue.
    pub(crate) number: u64,
    /// Times it was begun anew.
    pub(crate) attempt: u32,
    pub(crate) items: Vec<QueueItem>,
    /// The parents whose rows it replaces.
    pub(crate) parents: Vec<String>,
    /// It is read from its start, whatever the bound: no run has read its parents' records before.
    pub(crate) unbounded: bool,
}

impl Slice {
    /// Its number among all slices of the stream.
    pub(crate) fn number(&self) -> SliceNumber {
        let Self { request, from, attempt, .. } = *self;
        SliceNumber { request, from, attempt, aside: false }
    }

    /// The slice as it is saved.
    pub(crate) fn open(&self, listings: Vec<OpenListing>) -> OpenSlice {
        let item = |item: &QueueItem| {
            OpenItem(item.value.to_string(), item.stamp, item.carried.to_string())
        };
        let items = self.items.iter().map(item).collect();
        let Self { request, from, to, number, attempt, .. } = *self;
        OpenSlice { request, from, to, number, attempt, items, listings }
    }

    pub(crate) fn is(&self, open: &OpenSlice) -> bool {
        open.request == self.request && open.from == self.from
    }
}

/// What a worker tells of its slice.
#[derive(Debug)]
pub(crate) enum SliceEvent {
    /// A page was read.
    Page {
        slice: Arc<Slice>,
        batch: Option<RecordBatch>,
        /// Whether a request beside the slice's own listing brought it.
        aside: bool,
        /// Listings that have not ended; nothing: the slice is done.
        rest: Vec<OpenListing>,
        /// Greatest value of the cursor on the page.
        newest: Option<i64>,
        /// What says that rows are missing.
        gap: Option<String>,
        /// Whether nothing of the slice was left out so far.
        whole: bool,
        /// How records looked by which a later run tells whether they have changed.
        seen: Vec<SeenRecord>,
    },
    /// Its parents have not changed: nothing was asked.
    Unchanged(Slice),
    /// It begins anew, with the listings that follow: its rows so far do not count.
    Restart { slice: Arc<Slice>, anew: Arc<Slice>, rest: Vec<OpenListing> },
    /// It was refused: its rows do not count.
    Refused(Arc<Slice>, RefusedSlice),
    /// An object is gone, by what the API says: the slice itself, or something that hangs on one of its records.
    Gone { slice: Option<Arc<Slice>>, doubt: Doubt },
    /// One of its values was refused: the rows of its others count.
    Part(RefusedSlice),
    /// A part of it was refused, and the stream goes on without: what says that rows are missing.
    Left(RefusedSlice, String),
    /// Rows are missing.
    Gap(String),
    /// The API refuses the route.
    RouteRefused,
}

/// How a record looked.
#[derive(Debug)]
pub(crate) struct SeenRecord {
    /// Its id, with a hash of how it looked.
    pub(crate) item: QueueItem,
    /// Whether its row is not read, and the old one stays.
    pub(crate) stays: bool,
    /// Whether its row is as the API has it; one that came without a part is read again the next time.
    pub(crate) whole: bool,
}
