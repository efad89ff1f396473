//! Decides what a run reads of each stream, from what is saved of it and what its children need.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::planner::estimate;
use crate::planner::read_plan::{CHANGES, ReadPlan, fed, queues};
use crate::progress::saved::{SavedState, StreamState};
use crate::replication::Mode;
use crate::spec::Refresh;

/// Decides for every stream, children first, since their needs decide about their parents.
pub(crate) fn decide(
    plan: &Plan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> BTreeMap<String, ReadPlan> {
    let needs = plan.streams.iter().map(|stream| {
        let need = own_need(plan, stream, &saved.stream(&stream.name), now);
        (stream.name.clone(), need)
    });
    let needs: BTreeMap<String, ReadPlan> = needs.collect();
    let routes = estimate::routes(plan, saved, &needs, now);
    let mut read_plans: BTreeMap<String, ReadPlan> = BTreeMap::new();
    for stream in plan.streams.iter().rev() {
        let mut need = needs.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        for child in plan.streams.iter().filter(|child| child.name != stream.name) {
            let theirs = read_plans.get(&child.name).copied().unwrap_or(ReadPlan::Skip);
            let asks = theirs.active(child).any(|(_, request)| waits_for(request, stream));
            if asks && !theirs.is_skip() {
                let state = saved.stream(&child.name);
                need = wider(stream, need, need_of((stream, child), theirs, &state, now));
            }
        }
        let route = routes.get(&stream.name).copied().unwrap_or_default();
        read_plans.insert(stream.name.clone(), need.by_route(route));
    }
    read_plans
}

/// Whether a request needs what a stream feeds.
fn waits_for(request: &RequestPlan, stream: &StreamPlan) -> bool {
    fed(stream).any(|queue| queues(request).any(|other| other == queue))
}

/// What the stream itself is to read, its children aside.
fn own_need(plan: &Plan, stream: &StreamPlan, state: &StreamState, now: DateTime<Utc>) -> ReadPlan {
    let Some(output) = &stream.output else { return ReadPlan::Skip };
    match output.mode {
        Mode::Incremental => {}
        Mode::Backfill => return ReadPlan::backfill(stream).unwrap_or(ReadPlan::Skip),
        Mode::DefinitionOnly => return ReadPlan::Skip,
        Mode::FullRefresh | Mode::Truncate | Mode::Snapshot => return ReadPlan::full(stream),
    }
    // Slices that were refused are asked for again by the numbers of their requests.
    let other = state.shape != stream.shape && !state.refused_slices.is_empty();
    let changed = state.reads != stream.reads || state.writes != stream.writes || other;
    let refused = state.refused_routes.get(CHANGES).is_some_and(|at| now - *at < estimate::REFUSED);
    let whole = changed || refused && stream.changes_apart;
    let Some(complete_at) = state.complete_at.filter(|_| !whole) else {
        return ReadPlan::full(stream);
    };
    let due = match stream.refresh {
        Refresh::WithParent => parent_cursor(&plan.streams, stream).is_none(),
        every @ Refresh::Every(_) => is_due(every, complete_at, now),
    };
    if due {
        return ReadPlan::full(stream);
    }
    match (&stream.cursor, state.cursor) {
        (Some(cursor), Some(last)) if !stream.changes.is_empty() => {
            return ReadPlan::Changes { since: last.saturating_sub(cursor.lookback) };
        }
        (Some(_), _) => return ReadPlan::full(stream),
        (None, _) => {}
    }
    match (parent_cursor(&plan.streams, stream), state.gate) {
        (Some(lookback), Some(gate)) => {
            ReadPlan::ChangedParents { since: gate.saturating_sub(lookback), route: 0 }
        }
        (Some(_), None) => ReadPlan::full(stream),
        (None, _) => ReadPlan::Skip,
    }
}

/// Whether what was read whole at that time is to be read whole again. A time that lies ahead was told by a
/// clock that was wrong, and says nothing.
fn is_due(refresh: Refresh, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let Refresh::Every(age) = refresh else { return false };
    at > now || now - at >= chrono::TimeDelta::from_std(age).unwrap_or(chrono::TimeDelta::MAX)
}

/// The look-back of the cursor of the streams that feed this one; `None` when one has no cursor.
fn parent_cursor(streams: &[Arc<StreamPlan>], stream: &StreamPlan) -> Option<i64> {
    let mut lookback = None;
    for request in stream.own_requests() {
        let Iterate::Queue { queue, .. } = request.iterate else { return None };
        for parent in streams.iter().filter(|parent| fed(parent).any(|one| one == queue)) {
            let cursor = parent.cursor.as_ref().filter(|_| !parent.changes.is_empty())?;
            lookback = lookback.max(Some(cursor.lookback));
        }
    }
    lookback
}

/// What a child needs of its parent.
pub(crate) fn need_of(
    (parent, _child): (&StreamPlan, &StreamPlan),
    child_reads: ReadPlan,
    state: &StreamState,
    now: DateTime<Utc>,
) -> ReadPlan {
    let can_bound = parent.cursor.is_some() && !parent.changes.is_empty();
    // The parent itself may not be written, and then nothing else sees to it that it is listed whole.
    let anchored = parent.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
    let due = !anchored && state.parents_at.is_none_or(|at| is_due(parent.refresh, at, now));
    match child_reads {
        ReadPlan::Skip | ReadPlan::Retry => ReadPlan::Skip,
        // Only a child without a cursor of its own follows its parents' changes.
        ReadPlan::ChangedParents { since, .. } if can_bound && !due => ReadPlan::Changes { since },
        _ => ReadPlan::full(parent),
    }
}

/// The smallest plan that covers both; the route is that of `one`.
pub(crate) fn wider(stream: &StreamPlan, one: ReadPlan, other: ReadPlan) -> ReadPlan {
    use ReadPlan::{Backfill, ChangedParents, Changes, Skip};
    match (one, other) {
        (Skip, any) | (any, Skip) => any,
        (Changes { since: one }, Changes { since: other }) => Changes { since: one.min(other) },
        (ChangedParents { since: one, route }, ChangedParents { since: other, .. }) => {
            ChangedParents { since: one.min(other), route }
        }
        (Backfill { .. }, Changes { .. } | ChangedParents { .. }) => one,
        _ => ReadPlan::full(stream).by_route(one.route()),
    }
}
