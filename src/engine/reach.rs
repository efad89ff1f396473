//! What a run reads of each stream, given what is remembered of it and what its children need.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::forecast;
use super::parents::About;
use super::state::{Reach, Recall, StreamState, Way};
use crate::plan::{Iterate, OWN, Plan, RequestPlan, StreamPlan};
use crate::replication::Mode;
use crate::spec::Refresh;
use crate::write::Disposition;

/// Name under which it is remembered that the requests for changes were refused.
const CHANGES: &str = "changes";

/// Decides for every stream, children first, since their needs decide about their parents.
pub(super) fn decide(plan: &Plan, recall: &Recall, now: DateTime<Utc>) -> BTreeMap<String, Way> {
    let needs = plan.streams.iter().map(|stream| {
        let reach = own_need(plan, stream, &recall.stream(&stream.name), now);
        (stream.name.clone(), reach)
    });
    let needs: BTreeMap<String, Reach> = needs.collect();
    let routes = forecast::routes(plan, recall, &needs, now);
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

/// The queues that a request waits for.
pub(super) fn queues(request: &RequestPlan) -> impl Iterator<Item = usize> {
    let consumed = match request.iterate {
        Iterate::Queue { queue, .. } => Some(queue),
        _ => None,
    };
    consumed.into_iter().chain(request.parent_in.iter().map(|(queue, _)| *queue))
}

/// The requests that a way sends, with their numbers among those of its reach.
pub(super) fn active(stream: &StreamPlan, way: Way) -> impl Iterator<Item = (usize, &RequestPlan)> {
    let all = requests(stream, way.reach);
    let route = stream.routes.get(way.route).map(|route| route.requests.clone());
    let range = match route {
        Some(range) if has_own_requests(stream, way.reach) => range,
        _ => 0..all.len(),
    };
    all.iter().enumerate().skip(range.start).take(range.len())
}

/// All requests of which a reach may send some.
pub(super) fn requests(stream: &StreamPlan, reach: Reach) -> &[RequestPlan] {
    let anchored = stream.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
    let changes = match reach {
        Reach::Complete => anchored,
        Reach::Since(_) => stream.cursor.is_some(),
        Reach::Range(..) => true,
        Reach::Failed | Reach::Nothing => false,
    };
    if changes && !stream.changes.is_empty() { &stream.changes } else { &stream.requests }
}

/// Whether a reach sends the stream's own requests, not those for changes.
pub(super) fn has_own_requests(stream: &StreamPlan, reach: Reach) -> bool {
    std::ptr::eq(requests(stream, reach), stream.requests.as_slice())
}

/// Whether a way asks for the rows of changed records alone, by their ids.
pub(super) fn fetches(stream: &StreamPlan, way: Way) -> bool {
    stream.output.is_some()
        && active(stream, way).any(|(_, request)| request.routed.fetch.is_some())
}

/// Whether all rows of a stream are written in this way, those that have not changed too.
pub fn writes_all(stream: &StreamPlan, way: Way) -> bool {
    way.reach == Reach::Complete && !fetches(stream, way)
}

/// What is to be remembered of a stream that is read in this way.
pub(super) fn remembers(stream: &StreamPlan, way: Way) -> Option<About> {
    let output = stream.output.as_ref()?;
    let reads = matches!(way.reach, Reach::Complete | Reach::Since(_));
    if stream.follows_parents() || reads && stream.bounds_children() {
        return Some(About::Parents);
    }
    if output.table.disposition != Disposition::Merge || way.reach == Reach::Nothing {
        return None;
    }
    stream.requests.iter().find_map(|request| request.routed.look.as_ref())?;
    let whole = way.reach == Reach::Complete && has_own_requests(stream, way.reach);
    Some(if whole && output.mode == Mode::Incremental { About::Looks } else { About::Touched })
}

/// Name of the route that a way takes.
pub(super) fn route_name(stream: &StreamPlan, way: Way) -> &str {
    let route = stream.routes.get(way.route).filter(|_| has_own_requests(stream, way.reach));
    route.map_or(OWN, |route| &route.name)
}

/// Name under which it is remembered that the API refused a way.
pub(super) fn refusable(stream: &StreamPlan, way: Way) -> &str {
    if has_own_requests(stream, way.reach) { route_name(stream, way) } else { CHANGES }
}

/// A reach, for a person.
pub(super) fn shown(stream: &StreamPlan, reach: Reach) -> String {
    let value = |bound: i64| match &stream.cursor {
        Some(cursor) => cursor.shown(bound),
        None => {
            DateTime::from_timestamp_micros(bound).unwrap_or_default().format("%FT%TZ").to_string()
        }
    };
    match reach {
        Reach::Complete => "everything".to_owned(),
        Reach::Since(bound) if stream.cursor.is_some() => format!("changes since {}", value(bound)),
        Reach::Since(bound) => format!("parents changed since {}", value(bound)),
        Reach::Range(from, to) => format!("from {} to {}", value(from), value(to)),
        Reach::Failed => "refused slices".to_owned(),
        Reach::Nothing => "nothing".to_owned(),
    }
}

/// Whether a reach of a stream follows what changed of its parents.
pub(super) fn is_gated(stream: &StreamPlan, reach: Reach) -> bool {
    stream.cursor.is_none() && matches!(reach, Reach::Since(_))
}

/// The queues that a stream may feed, some of them perhaps several times.
pub(super) fn fed(stream: &StreamPlan) -> impl Iterator<Item = usize> {
    let all = stream.requests.iter().chain(&stream.changes);
    all.flat_map(|request| &request.feeds).map(|feed| feed.queue)
}

/// The range that a backfill reads; `None` when the stream is not to be backfilled.
pub fn range(stream: &StreamPlan) -> Option<Reach> {
    let backfilled = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Backfill);
    let range = stream.cursor.as_ref().filter(|_| backfilled).and_then(|cursor| cursor.range);
    range.map(|(from, to)| Reach::Range(from, to))
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
    let other = state.shape != stream.shape && !state.failed.is_empty();
    let changed = state.reads != stream.reads || state.writes != stream.writes || other;
    let refused = state.refused.get(CHANGES).is_some_and(|at| now - *at < forecast::REFUSED);
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
pub(super) fn need_of(
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
pub(super) fn wider(one: Reach, other: Reach) -> Reach {
    match (one, other) {
        (Reach::Nothing, any) | (any, Reach::Nothing) => any,
        (Reach::Since(one), Reach::Since(other)) => Reach::Since(one.min(other)),
        (Reach::Range(..), Reach::Since(_)) => one,
        _ => Reach::Complete,
    }
}
