//! What a run reads of each stream, given what is remembered of it and what its children need.

use chrono::DateTime;

use crate::plan::{Iterate, OWN, RequestPlan, StreamPlan};
use crate::progress::saved::{Reach, Way};
use crate::progress::versions::VersionKind;
use crate::replication::Mode;
use crate::write::Disposition;

/// Name under which it is remembered that the requests for changes were refused.
pub(crate) const CHANGES: &str = "changes";

/// The queues that a request waits for.
pub(crate) fn queues(request: &RequestPlan) -> impl Iterator<Item = usize> {
    let consumed = match request.iterate {
        Iterate::Queue { queue, .. } => Some(queue),
        _ => None,
    };
    consumed.into_iter().chain(request.parent_in.iter().map(|(queue, _)| *queue))
}

/// The requests that a way sends, with their numbers among those of its reach.
pub(crate) fn active(stream: &StreamPlan, way: Way) -> impl Iterator<Item = (usize, &RequestPlan)> {
    let all = requests(stream, way.reach);
    let route = stream.routes.get(way.route).map(|route| route.requests.clone());
    let range = match route {
        Some(range) if has_own_requests(stream, way.reach) => range,
        _ => 0..all.len(),
    };
    all.iter().enumerate().skip(range.start).take(range.len())
}

/// All requests of which a reach may send some.
pub(crate) fn requests(stream: &StreamPlan, reach: Reach) -> &[RequestPlan] {
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
pub(crate) fn has_own_requests(stream: &StreamPlan, reach: Reach) -> bool {
    std::ptr::eq(requests(stream, reach), stream.requests.as_slice())
}

/// Whether a way asks for the rows of changed records alone, by their ids.
pub(crate) fn fetches(stream: &StreamPlan, way: Way) -> bool {
    stream.output.is_some()
        && active(stream, way).any(|(_, request)| request.routed.fetch.is_some())
}

/// Whether all rows of a stream are written in this way, those that have not changed too.
pub fn writes_all(stream: &StreamPlan, way: Way) -> bool {
    way.reach == Reach::Complete && !fetches(stream, way)
}

/// What is to be remembered of a stream that is read in this way.
pub(crate) fn remembers(stream: &StreamPlan, way: Way) -> Option<VersionKind> {
    let output = stream.output.as_ref()?;
    let reads = matches!(way.reach, Reach::Complete | Reach::Since(_));
    if stream.follows_parents() || reads && stream.bounds_children() {
        return Some(VersionKind::Parents);
    }
    if output.table.disposition != Disposition::Merge || way.reach == Reach::Nothing {
        return None;
    }
    stream.requests.iter().find_map(|request| request.routed.look.as_ref())?;
    let whole = way.reach == Reach::Complete && has_own_requests(stream, way.reach);
    Some(if whole && output.mode == Mode::Incremental {
        VersionKind::Fingerprints
    } else {
        VersionKind::Overwritten
    })
}

/// Name of the route that a way takes.
pub(crate) fn route_name(stream: &StreamPlan, way: Way) -> &str {
    let route = stream.routes.get(way.route).filter(|_| has_own_requests(stream, way.reach));
    route.map_or(OWN, |route| &route.name)
}

/// Name under which it is remembered that the API refused a way.
pub(crate) fn refusable(stream: &StreamPlan, way: Way) -> &str {
    if has_own_requests(stream, way.reach) { route_name(stream, way) } else { CHANGES }
}

/// A reach, for a person.
pub(crate) fn shown(stream: &StreamPlan, reach: Reach) -> String {
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
pub(crate) fn is_gated(stream: &StreamPlan, reach: Reach) -> bool {
    stream.cursor.is_none() && matches!(reach, Reach::Since(_))
}

/// The queues that a stream may feed, some of them perhaps several times.
pub(crate) fn fed(stream: &StreamPlan) -> impl Iterator<Item = usize> {
    let all = stream.requests.iter().chain(&stream.changes);
    all.flat_map(|request| &request.feeds).map(|feed| feed.queue)
}

/// The range that a backfill reads; `None` when the stream is not to be backfilled.
pub fn range(stream: &StreamPlan) -> Option<Reach> {
    let backfilled = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Backfill);
    let range = stream.cursor.as_ref().filter(|_| backfilled).and_then(|cursor| cursor.range);
    range.map(|(from, to)| Reach::Range(from, to))
}
