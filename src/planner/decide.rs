//! Decides what a run reads of each stream, from what is saved of it and what its children need.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::planner::estimate;
use crate::planner::read_plan::{CHANGES, active, fed, queues, range};
use crate::progress::saved::{Reach, SavedState, StreamState, Way};
use crate::replication::Mode;
use crate::spec::Refresh;

/// Decides for every stream, children first, since their needs decide about their parents.
pub(crate) fn decide(
    plan: &Plan,
    recall: &SavedState,
    now: DateTime<Utc>,
) -> BTreeMap<String, Way> {
    let needs = plan.streams.iter().map(|stream| {
        let reach = own_need(plan, stream, &recall.stream(&stream.name), now);
        (stream.name.clone(), reach)
    });
    let needs: BTreeMap<String, Reach> = needs.collect();
    let routes = estimate::routes(plan, recall, &needs, now);
    let mut ways: BTreeMap<String, Way> = BTreeMap::new();
    for stream in plan.streams.iter().rev() {
        let mut reach = needs.get(&stream.name).copied().unwrap_or(Reach::Nothing);
        for child in plan.streams.iter().filter(|child| child.name != stream.name) {
            let theirs = ways.get(&child.name).copied().unwrap_or(Way::NOTHING);
            let asks = active(child, theirs).any(|(_, request)| waits_for(request, stream));
            if asks && theirs.reach != Reach::Nothing {
                let state = recall.stream(&child.name);
                reach = wider(reach, need_of((stream, child), theirs.reach, &state, now));
            }
        }
        let route = routes.get(&stream.name).copied().unwrap_or_default();
        ways.insert(stream.name.clone(), Way { reach, route });
    }
    ways
}

/// Whether a request needs what a stream feeds.
fn waits_for(request: &RequestPlan, stream: &StreamPlan) -> bool {
    fed(stream).any(|queue| queues(request).any(|other| other == queue))
}

/// What the stream itself is to read, its children aside.
fn own_need(plan: &Plan, stream: &StreamPlan, state: &StreamState, now: DateTime<Utc>) -> Reach {
    let Some(output) = &stream.output else { return Reach::Nothing };
    match output.mode {
        Mode::Incremental => {}
        Mode::Backfill => return range(stream).unwrap_or(Reach::Nothing),
        Mode::DefinitionOnly => return Reach::Nothing,
        Mode::FullRefresh | Mode::Truncate | Mode::Snapshot => return Reach::Complete,
    }
    // Slices that were refused are asked for again by the numbers of their requests.
    let other = state.shape != stream.shape && !state.refused_slices.is_empty();
    let changed = state.reads != stream.reads || state.writes != stream.writes || other;
    let refused = state.refused_routes.get(CHANGES).is_some_and(|at| now - *at < estimate::REFUSED);
    let whole = changed || refused && stream.changes_apart;
    let Some(complete_at) = state.complete_at.filter(|_| !whole) else { return Reach::Complete };
    let due = match stream.refresh {
        Refresh::WithParent => parent_cursor(&plan.streams, stream).is_none(),
        every @ Refresh::Every(_) => is_due(every, complete_at, now),
    };
    if due {
        return Reach::Complete;
    }
    match (&stream.cursor, state.cursor) {
        (Some(cursor), Some(last)) if !stream.changes.is_empty() => {
            return Reach::Since(last.saturating_sub(cursor.lookback));
        }
        (Some(_), _) => return Reach::Complete,
        (None, _) => {}
    }
    match (parent_cursor(&plan.streams, stream), state.gate) {
        (Some(lookback), Some(gate)) => Reach::Since(gate.saturating_sub(lookback)),
        (Some(_), None) => Reach::Complete,
        (None, _) => Reach::Nothing,
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
    (parent, child): (&StreamPlan, &StreamPlan),
    reach: Reach,
    state: &StreamState,
    now: DateTime<Utc>,
) -> Reach {
    let can_bound = parent.cursor.is_some() && !parent.changes.is_empty();
    // The parent itself may not be written, and then nothing else sees to it that it is listed whole.
    let anchored = parent.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
    let due = !anchored && state.parents_at.is_none_or(|at| is_due(parent.refresh, at, now));
    match reach {
        Reach::Nothing | Reach::Failed => Reach::Nothing,
        // Only a child without a cursor of its own follows its parents' changes.
        Reach::Since(bound) if can_bound && child.cursor.is_none() && !due => Reach::Since(bound),
        Reach::Since(_) | Reach::Complete | Reach::Range(..) => Reach::Complete,
    }
}

/// What takes in both.
pub(crate) fn wider(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (Reach::Nothing, any) | (any, Reach::Nothing) => any,
        (Reach::Since(one), Reach::Since(other)) => Reach::Since(one.min(other)),
        (Reach::Range(..), Reach::Since(_)) => one,
        _ => Reach::Complete,
    }
}
