//! The events that the workers of a stream send to its loader.

use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::progress::item::QueueItem;
use crate::progress::saved::{Doubt, RefusedSlice};
use crate::progress::slices::{OpenItem, OpenListing, OpenSlice};
use crate::write::SliceNumber;

/// A slice: the part of a stream that one sequence of requests reads, such as the children of one parent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    pub(crate) request: usize,
    /// Position of its first value in the queue, or in the list of its request.
    pub(crate) from: u64,
    /// Position after its last value.
    pub(crate) to: u64,
    /// Index of its value, if the values come from a list or range.
    pub(crate) number: u64,
    /// Number of restarts.
    pub(crate) attempt: u32,
    pub(crate) items: Vec<QueueItem>,
    /// Parents whose rows it replaces.
    pub(crate) parents: Vec<String>,
    /// Whether the bound of an incremental run does not apply, because no run has read the records of its parents.
    pub(crate) unbounded: bool,
}

impl Slice {
    /// Identifies it among the slices of the stream.
    pub(crate) fn number(&self) -> SliceNumber {
        let Self { request, from, attempt, .. } = *self;
        SliceNumber { request, from, attempt, aside: false }
    }

    /// Its saved form, with its unfinished listings.
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

/// An event of a slice.
#[derive(Debug)]
pub(crate) enum SliceEvent {
    /// A page was read.
    Page {
        slice: Arc<Slice>,
        batch: Option<RecordBatch>,
        /// Whether the page belongs to another request than the slice's own listing.
        aside: bool,
        /// Unfinished listings; empty if the slice is finished.
        rest: Vec<OpenListing>,
        /// Greatest value of the cursor on the page.
        newest: Option<i64>,
        /// Reason to assume that rows are missing.
        gap: Option<String>,
        /// Whether nothing of the slice was left out so far.
        whole: bool,
        /// Records to save the fingerprints of, so that a later run recognises changes.
        seen: Vec<SeenRecord>,
    },
    /// Its parents have not changed, so that no request was sent.
    Unchanged(Slice),
    /// It restarts with the listings in `rest`. The loader discards its rows so far.
    Restart { slice: Arc<Slice>, restarted: Arc<Slice>, rest: Vec<OpenListing> },
    /// The API refused it. The loader discards its rows.
    Refused(Arc<Slice>, RefusedSlice),
    /// The API reports that an object does not exist: the object of the slice, or a child of one of its records.
    Gone { slice: Option<Arc<Slice>>, doubt: Doubt },
    /// The API refused one of its values. The rows of the other values stay.
    Part(RefusedSlice),
    /// The API refused a part of it, and the stream continues without. The text says which rows are missing.
    Left(RefusedSlice, String),
    /// Rows are missing.
    Gap(String),
    /// The API does not support the route.
    RouteRefused,
}

/// A record and its fingerprint.
#[derive(Debug)]
pub(crate) struct SeenRecord {
    /// Its id, with its fingerprint.
    pub(crate) item: QueueItem,
    /// Whether the row in the target stays, because the record has not changed.
    pub(crate) stays: bool,
    /// Whether the record is complete. The next run reads incomplete records again.
    pub(crate) whole: bool,
}
