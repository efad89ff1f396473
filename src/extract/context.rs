//! The context that the workers of a stream share.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::extract::messages::{Slice, SliceEvent};
use crate::extract::pages::rows::RowBuilder;
use crate::extract::run_context::RunContext;
use crate::plan::{OWN, RequestPlan, StreamPlan};
use crate::planner::read_plan;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::RefusedSlice;
use crate::queue::Feeder;
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::report::counters::Stats;
use crate::report::{Event, SliceError};

/// The context that the workers of a stream share.
pub(crate) struct StreamContext {
    pub(crate) env: Arc<RunContext>,
    pub(crate) plan: Arc<StreamPlan>,
    /// What the run reads of the stream, and by which route.
    pub(crate) read_plan: ReadPlan,
    pub(crate) stats: Arc<Stats>,
    /// Per queue of the plan its feeder, if this stream feeds the queue.
    pub(crate) feeders: Vec<Option<Feeder>>,
    pub(crate) rows: Option<RowBuilder>,
    /// Whether the run saves fingerprints of the records.
    pub(crate) fingerprints: bool,
    pub(crate) notes: mpsc::Sender<SliceEvent>,
    /// Number of rows that the stream may still take; `None`: no limit.
    pub(crate) allowance: Mutex<Option<u64>>,
    /// Per request the current page size; 0 if the API has none.
    pub(crate) page_sizes: Arc<Vec<AtomicU32>>,
    /// Per request an estimate of the number of objects per response.
    pub(crate) estimates: Vec<ObjectEstimate>,
    /// The same for requests that are not in the plan.
    pub(crate) any: ObjectEstimate,
    /// Once it is cancelled, workers take no more slices.
    pub(crate) enough: tokio_util::sync::CancellationToken,
    /// Whether there is a sign that rows are missing.
    pub(crate) incomplete: AtomicBool,
    /// The first refusal.
    pub(crate) refusal: Mutex<Option<String>>,
    /// Requests that the API has answered.
    pub(crate) served: Mutex<Vec<usize>>,
    /// Requests of the route that the API does not support.
    pub(crate) refused: Mutex<Vec<usize>>,
}

impl StreamContext {
    /// The requests of this run.
    pub(crate) fn requests(&self) -> &[RequestPlan] {
        self.read_plan.requests(&self.plan)
    }

    /// The request with this index.
    pub(crate) fn request(&self, number: usize) -> &RequestPlan {
        match self.requests().get(number) {
            Some(request) => request,
            None => unreachable!("workers get only requests of the read plan"),
        }
    }

    /// Value of the cursor before which a newest-first listing ends.
    pub(crate) fn bound(&self) -> Option<i64> {
        let cursor = self.plan.cursor.as_ref()?;
        match self.read_plan {
            ReadPlan::Full { .. } | ReadPlan::FromAnchor => cursor.anchor,
            ReadPlan::Changes { since } | ReadPlan::ChangedParents { since, .. } => Some(since),
            ReadPlan::Backfill { from, .. } => Some(from),
            ReadPlan::Retry | ReadPlan::Skip => None,
        }
    }

    /// The cost of a request for a page of this size.
    pub(crate) fn price(&self, request: usize, page: Option<u32>) -> RequestCost<'_> {
        let estimate = self.estimates.get(request).unwrap_or(&self.any);
        RequestCost { cost: self.plan.cost, estimate, page }
    }

    /// Whether the run requests changes only.
    pub(crate) fn reads_changes(&self) -> bool {
        self.read_plan.sends_changes(&self.plan)
    }

    /// Whether a full read can replace the request for changes if the API refuses it. With an anchor or a range, a full
    /// read would return other rows.
    pub(crate) fn may_read_whole(&self) -> bool {
        let anchored = self.plan.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
        let since = self.read_plan.bound().is_some();
        since && !anchored && self.reads_changes() && self.plan.changes_apart
    }

    /// Whether the route has the same slices as the default route.
    pub(crate) fn is_by_parents(&self) -> bool {
        self.read_plan.has_slices_by_parents(&self.plan)
    }

    /// Whether the default route needs a queue, too.
    pub(crate) fn needs(&self, queue: usize) -> bool {
        let own = self.plan.own_requests().iter().flat_map(read_plan::queues);
        self.route() == OWN || own.into_iter().any(|one| one == queue)
    }

    /// Name of the route.
    pub(crate) fn route(&self) -> &str {
        self.plan.routes.get(self.read_plan.route()).map_or(OWN, |route| &route.name)
    }

    /// Whether the API has answered a request.
    pub(crate) fn is_served(&self, request: usize) -> bool {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).contains(&request)
    }

    /// Records that the API has answered a request.
    pub(crate) fn serve(&self, request: usize) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        if !served.contains(&request) {
            served.push(request);
        }
    }

    /// Whether the API has refused a request of the route, whatever the object.
    pub(crate) fn is_refused(&self, request: usize) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.contains(&request)
    }

    /// Records that the API refuses a request of the route, whatever the object. Returns `true` the first time.
    pub(crate) fn refuse(&self, request: usize) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !refused.contains(&request);
        refused.extend(first.then_some(request));
        first
    }

    pub(crate) async fn send(&self, note: SliceEvent) -> Result<()> {
        self.notes.send(note).await.map_err(|_| Error::target("the writer has stopped"))
    }

    /// Records that a part of a slice is missing.
    pub(crate) async fn leave(&self, failed: RefusedSlice, gap: String) -> Result<()> {
        self.incomplete.store(true, Ordering::Relaxed);
        self.send(SliceEvent::Left(failed, gap)).await
    }

    /// Records that rows are missing.
    pub(crate) async fn gap(&self, gap: impl Into<String> + Send) -> Result<()> {
        self.incomplete.store(true, Ordering::Relaxed);
        self.send(SliceEvent::Gap(gap.into())).await
    }

    /// A refused slice in its saved form.
    pub(crate) fn failed(&self, slice: &Slice, error: SliceError) -> RefusedSlice {
        let values = slice.items.iter().map(|item| item.value.to_string()).collect();
        let carried = slice.items.iter().map(|item| item.carried.to_string()).collect();
        let (request, number, recurs) = (slice.request, slice.number, self.reads_changes());
        RefusedSlice { request, number, values, carried, error, recurs }
    }

    /// Keeps the first refusal for the error message of a stream whose slices are all refused.
    pub(crate) fn keep_refusal(&self, error: &SliceError) {
        let mut first = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.message.clone());
    }

    /// Reports a refusal.
    pub(crate) fn record(&self, error: &SliceError) {
        self.keep_refusal(error);
        self.env.client.reporter.report(&Event::SliceSkipped { error: error.clone() });
    }
}
