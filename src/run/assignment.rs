//! Decides which streams run, and connects each to its queues and to the requests that streams share.

use std::{collections::BTreeMap, sync::Arc};

use crate::extract::links::{AssignedRequest, RequestLinks};
use crate::extract::run_context::RunContext;
use crate::extract::sharing::{fused, listings};
use crate::plan::{Iterate, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::planner::{first_page, read_plan};
use crate::progress::ranges::RangeSet;
use crate::progress::saved::SavedState;
use crate::progress::versions::{KnownFingerprints, VersionKind, VersionLog};
use crate::queue::Queue;
use crate::report::StreamReport;
use crate::run::stream::StreamTask;
use crate::run::stream_result::StreamResult;

/// Returns the tasks of the streams, and the results of the streams that have already ended in this run.
/// Registers all feeders and consumers of the queues before any stream runs.
pub(crate) fn tasks(
    env: &RunContext,
    streams: &[Arc<StreamPlan>],
    saved: &SavedState,
    read_plans: &BTreeMap<String, ReadPlan>,
) -> (Vec<StreamTask>, Vec<StreamResult>) {
    let queues = &env.queues.all;
    let read_plan =
        |plan: &StreamPlan| read_plans.get(&plan.name).copied().unwrap_or(ReadPlan::Skip);
    let running = streams.iter().filter(|plan| {
        let ended = saved.stream(&plan.name).ended_in(&env.run.id).is_some();
        !ended && !read_plan(plan).is_skip()
    });
    let running: Vec<_> = running.map(|plan| (Arc::clone(plan), read_plan(plan))).collect();
    let mut fused_requests = fused::fused_requests(&running);
    let mut shared_listings = listings::shared_listings(&running);
    // From the start of the run, so that a resumed process requests the same pages.
    let first_page_sizes = first_page::sizes(&running, saved, env.run.started_at);
    let (mut tasks, mut earlier) = (Vec::new(), Vec::new());
    for plan in streams {
        let before = saved.stream(&plan.name);
        let read_plan = read_plan(plan);
        let feeds = |number: usize| {
            let mut active = read_plan.active(plan).flat_map(|(_, request)| &request.feeds);
            active.any(|feed| feed.queue == number)
        };
        let fed = queues.iter().enumerate().map(|(number, queue)| feeds(number).then_some(queue));
        if let Some(last) = before.ended_in(&env.run.id) {
            fed.flatten().for_each(|queue| queue.ended(last.completeness));
            let report = StreamReport { earlier: true, ..last.report.clone() };
            let refused =
                before.refused_slices.iter().map(|refused| refused.error.clone()).collect();
            earlier.push(StreamResult { report, open: false, refused });
            continue;
        }
        let resumed = before.open.as_ref().filter(|open| open.run_id == env.run.id);
        let fingerprints = known_fingerprints(plan, read_plan, saved);
        let mut requests: Vec<Option<AssignedRequest>> = Vec::new();
        requests.resize_with(read_plan.requests(plan).len(), || None);
        for (number, request) in read_plan.active(plan) {
            let mut done = RangeSet::default();
            if let Some(open) = resumed {
                done = open.finished.get(number).cloned().unwrap_or_default();
                let begun = open.open.iter().filter(|slice| slice.request == number);
                begun.for_each(|slice| done.insert(slice.from, slice.to));
            }
            let consumed = match request.iterate {
                Iterate::Queue { queue, .. } => queues.get(queue),
                _ => None,
            };
            let watched = request.parent_in.iter();
            let watched = watched.filter_map(|(at, _)| Some((*at, queues.get(*at)?.watch())));
            let links = RequestLinks {
                fingerprints: fingerprints.clone(),
                fused: fused_requests.remove(&(plan.name.clone(), number)),
                shared_listing: shared_listings.remove(&(plan.name.clone(), number)),
                watches: watched.collect(),
                opening: first_page_sizes.get(&(plan.name.clone(), number)).copied(),
                ..RequestLinks::new(number)
            };
            requests[number] = Some(AssignedRequest {
                consumer: consumed.map(|queue| queue.consumer(done)),
                links,
            });
        }
        tasks.push(StreamTask {
            after: feeders_of(streams, plan, read_plan),
            requests,
            feeders: fed.map(|queue| queue.map(Queue::feeder)).collect(),
            parents: read_plan.saved_versions(plan).map(|kind| {
                let resumed = resumed.is_some();
                (kind, VersionLog::restored(kind, &plan.name, &saved.rest, resumed))
            }),
            plan: Arc::clone(plan),
            read_plan,
            before,
        });
    }
    (tasks, earlier)
}

/// Names of the streams that feed the queues of a stream.
fn feeders_of(streams: &[Arc<StreamPlan>], plan: &StreamPlan, read_plan: ReadPlan) -> Vec<String> {
    let needed = read_plan.active(plan).flat_map(|(_, request)| read_plan::queues(request));
    let needed: Vec<usize> = needed.collect();
    let feeds = |stream: &&Arc<StreamPlan>| {
        let mut feeds = stream.requests.iter().flat_map(|request| &request.feeds);
        stream.name != plan.name && feeds.any(|feed| needed.contains(&feed.queue))
    };
    streams.iter().filter(feeds).map(|stream| stream.name.clone()).collect()
}

/// The saved fingerprints of a stream whose unchanged rows need no request; `None` if the rows must be read again
/// because the spec or the replication has changed.
fn known_fingerprints(
    plan: &StreamPlan,
    read_plan: ReadPlan,
    saved: &SavedState,
) -> Option<KnownFingerprints> {
    let valid = saved.streams.get(&plan.name).is_some_and(|before| before.holds_for(plan));
    let fingerprints = read_plan.fetches_by_id(plan)
        && read_plan.saved_versions(plan) == Some(VersionKind::Fingerprints);
    (valid && fingerprints).then(|| KnownFingerprints::restored(&plan.name, &saved.rest))
}
