//! Which streams run, and the place of each in the queues and among the requests that streams share.

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
use crate::run::outcome::StreamResult;
use crate::run::stream::StreamTask;

/// Gives every stream its places in the queues, before any of them runs; and what those that have
/// ended in this run came to.
pub(crate) fn jobs(
    env: &RunContext,
    streams: &[Arc<StreamPlan>],
    saved: &SavedState,
    read_plans: &BTreeMap<String, ReadPlan>,
) -> (Vec<StreamTask>, Vec<StreamResult>) {
    let queues = &env.queues.all;
    let read_plan =
        |plan: &StreamPlan| read_plans.get(&plan.name).copied().unwrap_or(ReadPlan::Skip);
    let going = streams.iter().filter(|plan| {
        let ended = saved.stream(&plan.name).ended_in(&env.run.id).is_some();
        !ended && !read_plan(plan).is_skip()
    });
    let going: Vec<_> = going.map(|plan| (Arc::clone(plan), read_plan(plan))).collect();
    let mut fused_requests = fused::fused_requests(&going);
    let mut shared_listings = listings::shared_listings(&going);
    // By the start of the run, so that all its processes ask for the same pages.
    let openings = first_page::sizes(&going, saved, env.run.started_at);
    let (mut jobs, mut earlier) = (Vec::new(), Vec::new());
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
            let refused = before.refused_slices.iter().map(|failed| failed.error.clone()).collect();
            earlier.push(StreamResult { report, open: false, refused });
            continue;
        }
        let going_on = before.open.as_ref().filter(|open| open.run_id == env.run.id);
        let fingerprints = known_looks(plan, read_plan, saved);
        let mut requests: Vec<Option<AssignedRequest>> = Vec::new();
        requests.resize_with(read_plan.requests(plan).len(), || None);
        for (number, request) in read_plan.active(plan) {
            let Some(place) = requests.get_mut(number) else { continue };
            let mut done = RangeSet::default();
            if let Some(open) = going_on {
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
                opening: openings.get(&(plan.name.clone(), number)).copied(),
                ..RequestLinks::new(number)
            };
            *place = Some(AssignedRequest {
                consumer: consumed.map(|queue| queue.consumer(done)),
                links,
            });
        }
        jobs.push(StreamTask {
            after: feeders_of(streams, plan, read_plan),
            requests,
            feeders: fed.map(|queue| queue.map(Queue::feeder)).collect(),
            parents: read_plan.remembers(plan).map(|about| {
                let going_on = going_on.is_some();
                (about, VersionLog::restored(about, &plan.name, &saved.rest, going_on))
            }),
            plan: Arc::clone(plan),
            read_plan,
            before,
        });
    }
    (jobs, earlier)
}

/// The streams that feed the queues which a stream needs.
fn feeders_of(streams: &[Arc<StreamPlan>], plan: &StreamPlan, read_plan: ReadPlan) -> Vec<String> {
    let needed = read_plan.active(plan).flat_map(|(_, request)| read_plan::queues(request));
    let needed: Vec<usize> = needed.collect();
    let feeds = |stream: &&Arc<StreamPlan>| {
        let mut feeds = stream.requests.iter().flat_map(|request| &request.feeds);
        stream.name != plan.name && feeds.any(|feed| needed.contains(&feed.queue))
    };
    streams.iter().filter(feeds).map(|stream| stream.name.clone()).collect()
}

/// How the records of a stream looked whose rows need not be asked for. Rows that were read or written
/// otherwise do not stay.
fn known_looks(
    plan: &StreamPlan,
    read_plan: ReadPlan,
    saved: &SavedState,
) -> Option<KnownFingerprints> {
    let holds = saved.streams.get(&plan.name).is_some_and(|before| before.holds_for(plan));
    let fingerprints = read_plan.fetches_by_id(plan)
        && read_plan.remembers(plan) == Some(VersionKind::Fingerprints);
    (holds && fingerprints).then(|| KnownFingerprints::restored(&plan.name, &saved.rest))
}
