//! The read plan of a stream: what a run reads of it.

use chrono::DateTime;

use crate::plan::{Iterate, OWN, RequestPlan, StreamPlan};
use crate::progress::saved::Reach;
use crate::progress::versions::VersionKind;
use crate::replication::Mode;
use crate::write::Disposition;

/// Name under which the state records a refusal of the requests for changes.
pub(crate) const CHANGES: &str = "changes";

/// What a run reads of a stream, and by which requests. A route is its index in [`StreamPlan::routes`]; 0 is the
/// default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// All rows, by a route.
    Full {
        /// The route.
        route: usize,
    },
    /// All rows since the anchor of the stream's cursor, by its requests for changes.
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
    /// The slices that the API refused in earlier runs, by the default route.
    Retry,
    /// Nothing.
    Skip,
}

impl ReadPlan {
    /// A full read by the default route, or from the anchor if the stream has one.
    pub fn full(stream: &StreamPlan) -> Self {
        let anchored = stream.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
        if anchored && !stream.changes.is_empty() {
            Self::FromAnchor
        } else {
            Self::Full { route: 0 }
        }
    }

    /// An incremental read since a value of the stream's own cursor or, without one, of its parents' cursor. A
    /// stream with a cursor and no requests for changes is read in full.
    pub fn since(stream: &StreamPlan, since: i64) -> Self {
        match stream.cursor {
            Some(_) if stream.changes.is_empty() => Self::full(stream),
            Some(_) => Self::Changes { since },
            None => Self::ChangedParents { since, route: 0 },
        }
    }

    /// The range that a backfill reads; `None` if the stream is not backfilled.
    pub fn backfill(stream: &StreamPlan) -> Option<Self> {
        let backfilled = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Backfill);
        let range = stream.cursor.as_ref().filter(|_| backfilled).and_then(|cursor| cursor.range);
        range.map(|(from, to)| Self::Backfill { from, to })
    }

    /// The read plan that an open run has saved.
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

    /// The saved form of the read plan, without its route.
    pub fn saved(self) -> Reach {
        match self {
            Self::Full { .. } | Self::FromAnchor => Reach::Complete,
            Self::Changes { since } | Self::ChangedParents { since, .. } => Reach::Since(since),
            Self::Backfill { from, to } => Reach::Range(from, to),
            Self::Retry => Reach::Failed,
            Self::Skip => Reach::Nothing,
        }
    }

    /// The same by another route; read plans without a route are unchanged.
    #[must_use]
    pub fn by_route(self, route: usize) -> Self {
        match self {
            Self::Full { .. } => Self::Full { route },
            Self::ChangedParents { since, .. } => Self::ChangedParents { since, route },
            other => other,
        }
    }

    /// Index of the route; 0 for read plans without a route.
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

    /// The cursor value, of the stream or its parents, since which changes are read.
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

    /// Whether only the children of changed parents are read.
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

    /// The list that contains the requests it sends. Saved progress numbers requests by their position in it.
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

    /// Whether it has one slice per parent, like the default route.
    pub(crate) fn has_slices_by_parents(self, stream: &StreamPlan) -> bool {
        let route = stream.routes.get(self.route());
        self.sends_changes(stream) || route.is_none_or(|route| route.by_parents)
    }

    /// Whether it fetches only the rows of changed records, by their IDs.
    pub(crate) fn fetches_by_id(self, stream: &StreamPlan) -> bool {
        stream.output.is_some()
            && self.active(stream).any(|(_, request)| request.kind.fetch().is_some())
    }

    /// Whether it writes all rows of the stream, including unchanged ones.
    pub fn writes_all(self, stream: &StreamPlan) -> bool {
        self.is_full() && !self.fetches_by_id(stream)
    }

    /// The kind of versions that such a run saves, of the stream's records or parents.
    pub(crate) fn saved_versions(self, stream: &StreamPlan) -> Option<VersionKind> {
        let output = stream.output.as_ref()?;
        if stream.follows_parents() || self.is_full_or_incremental() && stream.bounds_children() {
            return Some(VersionKind::Parents);
        }
        if output.table.disposition != Disposition::Merge || self.is_skip() {
            return None;
        }
        stream.requests.iter().find_map(|request| request.fingerprint.as_ref())?;
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

    /// Name under which the state records a refusal of its requests.
    pub(crate) fn refusal_name(self, stream: &StreamPlan) -> &str {
        if self.sends_changes(stream) { CHANGES } else { self.route_name(stream) }
    }

    /// The read plan for a person: `everything`, `changes since …`, `nothing`.
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

/// The queues that a request consumes or looks values up in.
pub(crate) fn queues(request: &RequestPlan) -> impl Iterator<Item = usize> {
    let consumed = match request.iterate {
        Iterate::Queue { queue, .. } => Some(queue),
        _ => None,
    };
    consumed.into_iter().chain(request.parent_in.iter().map(|(queue, _)| *queue))
}

/// The queues that a stream may feed, possibly with duplicates.
pub(crate) fn fed(stream: &StreamPlan) -> impl Iterator<Item = usize> {
    let all = stream.requests.iter().chain(&stream.changes);
    all.flat_map(|request| &request.feeds).map(|feed| feed.queue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{plan_under, planned, stream};
    use crate::plan::{Plan, PlanOptions};

    const STREAMS: &str = "
  listed: { get: /listed, key: [id], feeds: { listed_ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true } }
  numbered: { get: /numbered, key: [id], columns: { id: text, n: int },
    cursor: { field: n, requests: [{ get: /n, query: { since: '{{ cursor }}' } }] } }
  anchored: { get: /anchored, key: [id], columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true, anchor: '2026-01-01' } }
  child: { for_each: listed_ids, get: '/listed/{{ listed_id }}/c', key: [id], refresh: 1d, columns: { id: text },
    routes: { one: { for_each: listed_ids, get: '/one/{{ listed_id }}' },
      two: [{ get: /two }, { for_each: listed_ids, get: '/more/{{ listed_id }}' }] } }
  bounded: { for_each: listed_ids, get: '/listed/{{ listed_id }}/b', key: [id],
    columns: { id: text, at: timestamp }, cursor: { field: at, query: { since: '{{ cursor }}' } } }
  fetched: { get: /fetched, key: [id], columns: { id: text, body: text, v: int },
    routes: { list_then_fetch: { get: /short,
      fetch: { id: id, version: v, brings: [body], as: ids, chunk: 10, get: /fetched,
        query: { id: '{{ ids | join(\",\") }}' } } } } }
";
    const RANGE: ReadPlan = ReadPlan::Backfill { from: 3, to: 9 };

    fn incremental() -> Plan {
        planned(STREAMS, "mode: incremental")
    }

    fn full(route: usize) -> ReadPlan {
        ReadPlan::Full { route }
    }

    fn changes(since: i64) -> ReadPlan {
        ReadPlan::Changes { since }
    }

    fn parents(since: i64, route: usize) -> ReadPlan {
        ReadPlan::ChangedParents { since, route }
    }

    /// Checks the saved form of a read plan, and the read plan that is restored from it.
    #[track_caller]
    fn check_saved(name: &str, plan: ReadPlan, saved: Reach, restored: ReadPlan) {
        assert_eq!(plan.saved(), saved, "{name} {plan:?}");
        let all = incremental();
        let stream = stream(&all, name);
        assert_eq!(ReadPlan::restored(stream, saved, plan.route()), restored, "{name} {saved:?}");
    }

    #[test]
    fn a_saved_plan_is_restored_with_its_route() {
        check_saved("listed", full(0), Reach::Complete, full(0));
        check_saved("child", full(2), Reach::Complete, full(2));
        check_saved("anchored", ReadPlan::FromAnchor, Reach::Complete, ReadPlan::FromAnchor);
        check_saved("listed", changes(5), Reach::Since(5), changes(5));
        check_saved("child", parents(5, 1), Reach::Since(5), parents(5, 1));
        check_saved("listed", RANGE, Reach::Range(3, 9), RANGE);
        check_saved("child", ReadPlan::Retry, Reach::Failed, ReadPlan::Retry);
        check_saved("child", ReadPlan::Skip, Reach::Nothing, ReadPlan::Skip);
    }

    /// Checks the numbers of the requests that a read plan sends.
    #[track_caller]
    fn check_active(name: &str, plan: ReadPlan, is_changes: bool, expected: &[usize]) {
        let all = incremental();
        let stream = stream(&all, name);
        let numbers: Vec<usize> = plan.active(stream).map(|(number, _)| number).collect();
        assert_eq!(numbers, expected, "{name} {plan:?}");
        assert_eq!(plan.sends_changes(stream), is_changes, "{name} {plan:?}");
    }

    #[test]
    fn a_plan_sends_the_requests_of_its_route_or_those_for_changes() {
        check_active("child", full(0), false, &[0]);
        check_active("child", full(1), false, &[1]);
        check_active("child", full(2), false, &[2, 3]);
        check_active("child", parents(5, 1), false, &[1]);
        check_active("child", ReadPlan::Retry, false, &[0]);
        check_active("child", RANGE, false, &[0]);
        check_active("listed", full(0), false, &[0]);
        check_active("listed", changes(5), true, &[0]);
        check_active("listed", RANGE, true, &[0]);
        check_active("listed", ReadPlan::Retry, false, &[0]);
        check_active("anchored", ReadPlan::FromAnchor, true, &[0]);
    }

    /// Checks the kind of versions that a run saves.
    #[track_caller]
    fn check_saved_versions(name: &str, mode: &str, plan: ReadPlan, expected: Option<VersionKind>) {
        let range = Some(("2026-01-01".to_owned(), "2026-02-01".to_owned()));
        let all = plan_under(STREAMS, mode, &PlanOptions { range, ..PlanOptions::default() });
        assert_eq!(plan.saved_versions(stream(&all, name)), expected, "{name} {mode} {plan:?}");
    }

    #[test]
    fn a_run_saves_the_versions_that_the_next_run_needs() {
        let (merge, replace) = ("mode: incremental", "mode: full-refresh");
        check_saved_versions("child", merge, full(0), Some(VersionKind::Parents));
        check_saved_versions("child", merge, parents(5, 1), Some(VersionKind::Parents));
        check_saved_versions("child", replace, full(0), None);
        check_saved_versions("bounded", merge, full(0), Some(VersionKind::Parents));
        check_saved_versions("bounded", merge, changes(5), Some(VersionKind::Parents));
        check_saved_versions("bounded", merge, ReadPlan::Retry, None);
        check_saved_versions("fetched", merge, full(0), Some(VersionKind::Fingerprints));
        check_saved_versions("fetched", merge, full(1), Some(VersionKind::Fingerprints));
        check_saved_versions("fetched", merge, ReadPlan::Retry, Some(VersionKind::Overwritten));
        check_saved_versions("fetched", merge, ReadPlan::Skip, None);
        check_saved_versions("fetched", replace, full(1), None);
        check_saved_versions("listed", merge, full(0), None);
    }

    #[track_caller]
    fn check_shown(name: &str, plan: ReadPlan, expected: &str) {
        let all = incremental();
        assert_eq!(plan.shown(stream(&all, name)), expected);
    }

    #[test]
    fn a_plan_in_words() {
        check_shown("listed", full(0), "everything");
        check_shown("anchored", ReadPlan::FromAnchor, "everything");
        check_shown("listed", changes(1_500_000), "changes since 1970-01-01T00:00:01.500Z");
        check_shown("numbered", changes(17), "changes since 17");
        check_shown("child", parents(1_500_000, 1), "parents changed since 1970-01-01T00:00:01Z");
        check_shown("numbered", RANGE, "from 3 to 9");
        check_shown("child", ReadPlan::Retry, "refused slices");
        check_shown("child", ReadPlan::Skip, "nothing");
    }

    /// Checks the names of the route and of its refusal, whether all rows are written, and whether there is one
    /// slice per parent.
    #[track_caller]
    fn check_route(
        name: &str,
        plan: ReadPlan,
        names: [&str; 2],
        writes_all: bool,
        by_parents: bool,
    ) {
        let all = incremental();
        let stream = stream(&all, name);
        assert_eq!([plan.route_name(stream), plan.refusal_name(stream)], names, "{name} {plan:?}");
        assert_eq!(plan.writes_all(stream), writes_all, "{name} {plan:?}");
        assert_eq!(plan.has_slices_by_parents(stream), by_parents, "{name} {plan:?}");
    }

    #[test]
    fn a_route_has_a_name_and_decides_about_slices() {
        check_route("child", full(0), ["default", "default"], true, true);
        check_route("child", full(1), ["one", "one"], true, true);
        check_route("child", full(2), ["two", "two"], true, false);
        check_route("child", parents(5, 1), ["one", "one"], false, true);
        check_route("child", parents(5, 2), ["two", "two"], false, false);
        check_route("child", ReadPlan::Retry, ["default", "default"], false, true);
        check_route("listed", changes(5), ["default", "changes"], false, true);
        check_route("anchored", ReadPlan::FromAnchor, ["default", "changes"], true, true);
        check_route("listed", RANGE, ["default", "changes"], false, true);
        check_route("fetched", full(0), ["default", "default"], true, true);
        check_route("fetched", full(1), ["list_then_fetch", "list_then_fetch"], false, false);
    }

    #[test]
    fn read_plans_without_a_route_are_unchanged_by_one() {
        let plans = [ReadPlan::FromAnchor, changes(5), RANGE, ReadPlan::Retry, ReadPlan::Skip];
        for plan in plans {
            assert_eq!(plan.by_route(2), plan);
            assert_eq!(plan.route(), 0);
        }
        assert_eq!(full(0).by_route(2), full(2));
        assert_eq!(parents(5, 0).by_route(2), parents(5, 2));
    }

    /// Checks the read plan of changes since a bound, and the numbers of consumed and fed queues.
    #[track_caller]
    fn check_links(name: &str, since: ReadPlan, waits: usize, feeds: usize) {
        let all = incremental();
        let stream = stream(&all, name);
        assert_eq!(ReadPlan::since(stream, 5), since, "{name}");
        assert_eq!(stream.own_requests().iter().flat_map(queues).count(), waits, "{name}");
        let mut fed: Vec<usize> = fed(stream).collect();
        fed.dedup();
        assert_eq!(fed.len(), feeds, "{name}");
    }

    #[test]
    fn a_bound_is_that_of_the_stream_or_of_its_parents() {
        check_links("listed", changes(5), 0, 1);
        check_links("child", parents(5, 0), 1, 0);
        check_links("bounded", changes(5), 1, 0);
        check_links("fetched", parents(5, 0), 0, 0);
    }
}
