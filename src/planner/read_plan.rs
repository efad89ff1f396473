//! What a run reads of a stream, and the questions that this decides.

use chrono::DateTime;

use crate::plan::{Iterate, OWN, RequestPlan, StreamPlan};
use crate::progress::saved::Reach;
use crate::progress::versions::VersionKind;
use crate::replication::Mode;
use crate::write::Disposition;

/// Name under which the state records that the API refused the requests for changes.
pub(crate) const CHANGES: &str = "changes";

/// What a run reads of a stream, and by which of the stream's requests. Routes go by their number in
/// [`StreamPlan::routes`]; 0 is the default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// All rows, by a route.
    Full {
        /// The route.
        route: usize,
    },
    /// All rows since the anchor of the stream's cursor, by the requests for changes.
    FromAnchor,
    /// Rows that changed since a value of the stream's own cursor, by the requests for changes.
    Changes {
        /// The value.
        since: i64,
    },
    /// The children of parents that changed since a value of the parents' cursor, by a route.
    ChangedParents {
        /// The value.
        since: i64,
        /// The route.
        route: usize,
    },
    /// Rows whose cursor lies in a range, by the requests for changes where the stream has any.
    Backfill {
        /// Lower bound.
        from: i64,
        /// Upper bound.
        to: i64,
    },
    /// The slices that earlier runs were refused, by the default route.
    Retry,
    /// Nothing.
    Skip,
}

impl ReadPlan {
    /// All rows by the default route, or since the anchor where the stream has one.
    pub fn full(stream: &StreamPlan) -> Self {
        let anchored = stream.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
        if anchored && !stream.changes.is_empty() {
            Self::FromAnchor
        } else {
            Self::Full { route: 0 }
        }
    }

    /// What changed since a value of the stream's own cursor, or of that of its parents where it has none. A
    /// stream with a cursor and no requests for changes is read in full.
    pub fn since(stream: &StreamPlan, since: i64) -> Self {
        match stream.cursor {
            Some(_) if stream.changes.is_empty() => Self::full(stream),
            Some(_) => Self::Changes { since },
            None => Self::ChangedParents { since, route: 0 },
        }
    }

    /// The range that a backfill reads; `None` when the stream is not to be backfilled.
    pub fn backfill(stream: &StreamPlan) -> Option<Self> {
        let backfilled = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Backfill);
        let range = stream.cursor.as_ref().filter(|_| backfilled).and_then(|cursor| cursor.range);
        range.map(|(from, to)| Self::Backfill { from, to })
    }

    /// The plan that an open run has saved.
    pub fn restored(stream: &StreamPlan, saved: Reach, route: usize) -> Self {
        match saved {
            Reach::Complete => Self::full(stream),
            Reach::Since(since) => Self::since(stream, since),
            Reach::Range(from, to) => Self::Backfill { from, to },
            Reach::Failed => Self::Retry,
            Reach::Nothing => Self::Skip,
        }
        .by_route(route)
    }

    /// The plan as the state keeps it, without its route.
    pub fn saved(self) -> Reach {
        match self {
            Self::Full { .. } | Self::FromAnchor => Reach::Complete,
            Self::Changes { since } | Self::ChangedParents { since, .. } => Reach::Since(since),
            Self::Backfill { from, to } => Reach::Range(from, to),
            Self::Retry => Reach::Failed,
            Self::Skip => Reach::Nothing,
        }
    }

    /// The same by another route; plans that take none stay as they are.
    #[must_use]
    pub fn by_route(self, route: usize) -> Self {
        match self {
            Self::Full { .. } => Self::Full { route },
            Self::ChangedParents { since, .. } => Self::ChangedParents { since, route },
            other => other,
        }
    }

    /// Number of the route; 0 for plans that take none.
    pub fn route(self) -> usize {
        match self {
            Self::Full { route } | Self::ChangedParents { route, .. } => route,
            _ => 0,
        }
    }

    /// Whether all rows are read.
    pub fn is_full(self) -> bool {
        matches!(self, Self::Full { .. } | Self::FromAnchor)
    }

    /// Whether nothing is read.
    pub fn is_skip(self) -> bool {
        self == Self::Skip
    }

    /// The value since which changes are read, of the stream or of its parents.
    pub fn bound(self) -> Option<i64> {
        match self {
            Self::Changes { since } | Self::ChangedParents { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether it reads all rows, or all changes since a bound.
    pub(crate) fn is_full_or_incremental(self) -> bool {
        self.is_full() || self.bound().is_some()
    }

    /// Whether the children of changed parents are read, and those of the others stay.
    pub(crate) fn follows_parents(self) -> bool {
        matches!(self, Self::ChangedParents { .. })
    }

    /// Whether it sends the stream's requests for changes instead of those of a route.
    pub(crate) fn sends_changes(self, stream: &StreamPlan) -> bool {
        match self {
            Self::FromAnchor | Self::Changes { .. } => true,
            Self::Backfill { .. } => !stream.changes.is_empty(),
            _ => false,
        }
    }

    /// All requests of which it may send some; progress numbers them by their position here.
    pub(crate) fn requests(self, stream: &StreamPlan) -> &[RequestPlan] {
        if self.sends_changes(stream) { &stream.changes } else { &stream.requests }
    }

    /// The requests that it sends, with their numbers in [`Self::requests`].
    pub(crate) fn active(self, stream: &StreamPlan) -> impl Iterator<Item = (usize, &RequestPlan)> {
        let all = self.requests(stream);
        let route = stream.routes.get(self.route()).map(|route| route.requests.clone());
        let range = route.filter(|_| !self.sends_changes(stream)).unwrap_or(0..all.len());
        all.iter().enumerate().skip(range.start).take(range.len())
    }

    /// Whether its slices are those of the stream's default route: one per parent.
    pub(crate) fn has_slices_by_parents(self, stream: &StreamPlan) -> bool {
        let route = stream.routes.get(self.route());
        self.sends_changes(stream) || route.is_none_or(|route| route.by_parents)
    }

    /// Whether it fetches the rows of changed records alone, by their ids.
    pub(crate) fn fetches_by_id(self, stream: &StreamPlan) -> bool {
        stream.output.is_some()
            && self.active(stream).any(|(_, request)| request.routed.fetch.is_some())
    }

    /// Whether it writes all rows of the stream, those that have not changed too.
    pub fn writes_all(self, stream: &StreamPlan) -> bool {
        self.is_full() && !self.fetches_by_id(stream)
    }

    /// What the state keeps of the stream's records or parents after such a run.
    pub(crate) fn remembers(self, stream: &StreamPlan) -> Option<VersionKind> {
        let output = stream.output.as_ref()?;
        if stream.follows_parents() || self.is_full_or_incremental() && stream.bounds_children() {
            return Some(VersionKind::Parents);
        }
        if output.table.disposition != Disposition::Merge || self.is_skip() {
            return None;
        }
        stream.requests.iter().find_map(|request| request.routed.look.as_ref())?;
        let whole = self.is_full() && !self.sends_changes(stream);
        Some(if whole && output.mode == Mode::Incremental {
            VersionKind::Fingerprints
        } else {
            VersionKind::Overwritten
        })
    }

    /// Name of the route.
    pub(crate) fn route_name(self, stream: &StreamPlan) -> &str {
        let route = stream.routes.get(self.route()).filter(|_| !self.sends_changes(stream));
        route.map_or(OWN, |route| &route.name)
    }

    /// Name under which the state records that the API refused its requests.
    pub(crate) fn refusal_name(self, stream: &StreamPlan) -> &str {
        if self.sends_changes(stream) { CHANGES } else { self.route_name(stream) }
    }

    /// The plan in words: `everything`, `changes since …`, `nothing`.
    pub(crate) fn shown(self, stream: &StreamPlan) -> String {
        let value = |bound: i64| {
            stream.cursor.as_ref().map_or_else(
                || {
                    let time = DateTime::from_timestamp_micros(bound).unwrap_or_default();
                    time.format("%FT%TZ").to_string()
                },
                |cursor| cursor.shown(bound),
            )
        };
        match self {
            Self::Full { .. } | Self::FromAnchor => "everything".to_owned(),
            Self::Changes { since } => format!("changes since {}", value(since)),
            Self::ChangedParents { since, .. } => format!("parents changed since {}", value(since)),
            Self::Backfill { from, to } => format!("from {} to {}", value(from), value(to)),
            Self::Retry => "refused slices".to_owned(),
            Self::Skip => "nothing".to_owned(),
        }
    }
}

/// The queues that a request waits for.
pub(crate) fn queues(request: &RequestPlan) -> impl Iterator<Item = usize> {
    let consumed = match request.iterate {
        Iterate::Queue { queue, .. } => Some(queue),
        _ => None,
    };
    consumed.into_iter().chain(request.parent_in.iter().map(|(queue, _)| *queue))
}

/// The queues that a stream may feed, some of them perhaps several times.
pub(crate) fn fed(stream: &StreamPlan) -> impl Iterator<Item = usize> {
    let all = stream.requests.iter().chain(&stream.changes);
    all.flat_map(|request| &request.feeds).map(|feed| feed.queue)
}
