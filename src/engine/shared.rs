//! What the workers of a stream have in common.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::sync::mpsc;

use super::{
    Env,
    estimate::Estimate,
    load::Note,
    queue::Feeder,
    reach,
    rows::RowBuilder,
    state::{FailedSlice, Reach},
    stats::Stats,
};
use crate::error::{Error, Result};
use crate::plan::{RequestPlan, StreamPlan};

/// What the workers of a stream share.
pub(super) struct Shared {
    pub(super) env: Arc<Env>,
    pub(super) plan: Arc<StreamPlan>,
    /// What the run reads of the stream.
    pub(super) reach: Reach,
    pub(super) stats: Arc<Stats>,
    /// Per queue of the plan the feeder, where this stream feeds it.
    pub(super) feeders: Vec<Option<Feeder>>,
    pub(super) rows: Option<RowBuilder>,
    pub(super) notes: mpsc::Sender<Note>,
    /// Rows that may still be taken.
    pub(super) allowance: Mutex<Option<u64>>,
    /// Per request the page size asked for now; 0 where the API takes none.
    pub(super) page_sizes: Arc<Vec<AtomicU32>>,
    /// Per request the objects that its answers bring.
    pub(super) estimates: Vec<Estimate>,
    /// No more slices are taken once it is cancelled.
    pub(super) enough: tokio_util::sync::CancellationToken,
    /// Whether something says that rows are missing.
    pub(super) incomplete: AtomicBool,
    /// The first refusal.
    pub(super) refusal: Mutex<Option<String>>,
}

impl Shared {
    /// The requests of this run.
    pub(super) fn requests(&self) -> &[RequestPlan] {
        reach::requests(&self.plan, self.reach)
    }

    /// Value of the cursor before which a newest-first listing ends.
    pub(super) fn bound(&self) -> Option<i64> {
        let cursor = self.plan.cursor.as_ref()?;
        match self.reach {
            Reach::Complete => cursor.anchor,
            Reach::Since(bound) => Some(bound),
            Reach::Range(from, _) => Some(from),
            Reach::Failed | Reach::Nothing => None,
        }
    }

    pub(super) async fn tell(&self, note: Note) -> Result<()> {
        self.notes.send(note).await.map_err(|_| Error::target("the writer has stopped"))
    }

    /// Notes that a part of a slice is missing.
    pub(super) async fn leave(&self, failed: FailedSlice, gap: String) -> Result<()> {
        self.incomplete.store(true, Ordering::Relaxed);
        self.tell(Note::Left(failed, gap)).await
    }

    /// Notes that rows are missing.
    pub(super) async fn gap(&self, gap: impl Into<String> + Send) -> Result<()> {
        self.incomplete.store(true, Ordering::Relaxed);
        self.tell(Note::Gap(gap.into())).await
    }
}
