//! Estimates the number of rows and queue values, and how many of them change.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::planner::numbers::real;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{ChangeStats, FullReadStats, SavedState};
use crate::replication::Mode;

/// Values that the estimate assumes where neither an earlier run nor a count of the API provides them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assumptions {
    /// Number of records of a listing.
    listed: f64,
    /// Minimum number of records of a listing that the API does not count, even if counted listings are smaller.
    uncounted: f64,
    /// Mean number of children of a parent.
    children: f64,
    /// Added to the number of children, multiplied by the square root of the number of parents: a single parent
    /// may have hundreds of children.
    spread: f64,
    /// Fraction of the records that change in a day.
    changed: f64,
    /// Factor between the expected and the actual number of changes.
    growth: f64,
    /// Scale of additional changes, which matter on sites with few records: 0 for none, or 1.
    pub(crate) surge: f64,
    /// Fraction of the parents whose only row is derived without a request.
    derived: f64,
    /// Fraction of the parents that a route leaves to its second request.
    pub(crate) apart: f64,
    /// Fraction of the parents that a search does not find, so that weir requests them one by one.
    pub(crate) missed: f64,
    /// Number of records of a page whose size the spec does not set.
    page: f64,
    /// Number of listed records per counted record: a search may miss archived and new records.
    listed_per_counted: f64,
    /// Share of an unread stream in the records that the API counts for several streams together, relative to the
    /// average share of a read stream.
    absent: f64,
    /// Number of listed records per wanted record, where weir filters the listing.
    pub(crate) filtered: f64,
    /// Fraction of the pages that are requested in addition to the first page of each parent.
    pub(crate) further: f64,
    /// Fraction of the records whose children are requested although the listing may contain them.
    pub(crate) below: f64,
    /// Factor between the figures of the last full read and those of the next one.
    pub(crate) growth_of_full_read: f64,
}

impl Assumptions {
    /// Assumptions of the likely estimate.
    const LIKELY: Self = Self {
        listed: 1000.0,
        uncounted: 0.0,
        children: 3.0,
        spread: 0.0,
        changed: 0.01,
        growth: 1.0,
        surge: 0.0,
        derived: 0.3,
        apart: 0.08,
        missed: 0.2,
        page: 50.0,
        listed_per_counted: 1.25,
        absent: 1.0,
        filtered: 1.5,
        further: 0.0,
        below: 0.0,
        growth_of_full_read: 1.0,
    };
    /// Assumptions of the lower bound.
    pub(crate) const LEAST: Self = Self {
        listed: 1.0,
        children: 0.0,
        changed: 0.0,
        growth: 0.0,
        derived: 1.0,
        apart: 0.0,
        missed: 0.0,
        page: f64::INFINITY,
        listed_per_counted: 0.9,
        absent: 20.0,
        filtered: 1.0,
        growth_of_full_read: 0.75,
        ..Self::LIKELY
    };
    /// Assumptions of the upper bound.
    pub(crate) const MOST: Self = Self {
        listed: 3000.0,
        uncounted: 250.0,
        children: 5.0,
        spread: 350.0,
        changed: 0.05,
        growth: 4.0,
        surge: 1.0,
        derived: 0.0,
        apart: 0.3,
        missed: 0.5,
        page: 10.0,
        listed_per_counted: 1.8,
        absent: 0.0,
        filtered: 2.0,
        further: 1.0,
        below: 0.7,
        growth_of_full_read: 1.25,
    };
}

/// Estimated numbers of rows and queue values.
pub(crate) struct Cardinality<'plan> {
    pub(crate) plan: &'plan Plan,
    pub(crate) saved: &'plan SavedState,
    pub(crate) now: DateTime<Utc>,
    pub(crate) assume: Assumptions,
    /// Number of values of each queue, indexed like `Plan::queues`.
    queues: Vec<f64>,
    /// Number of rows of each stream, and whether it is assumed.
    rows: BTreeMap<&'plan str, (f64, bool)>,
}

impl<'plan> Cardinality<'plan> {
    pub(crate) fn new(plan: &'plan Plan, saved: &'plan SavedState, now: DateTime<Utc>) -> Self {
        Self::assuming(Assumptions::LIKELY, plan, saved, now)
    }

    /// Estimates under the given assumptions.
    pub(crate) fn assuming(
        assume: Assumptions,
        plan: &'plan Plan,
        saved: &'plan SavedState,
        now: DateTime<Utc>,
    ) -> Self {
        let (queues, rows) = (Vec::new(), BTreeMap::new());
        let mut cardinality = Self { plan, saved, now, assume, queues, rows };
        cardinality.fill(&BTreeMap::new());
        // Counts of several streams together are divided by the parents of each, so they are used last.
        for together in [false, true] {
            let counted = cardinality.counted(together);
            if !counted.is_empty() {
                cardinality.fill(&counted);
            }
        }
        cardinality
    }

    /// Estimates all rows and queue values. `known` has the rows of some streams, and whether these are assumed.
    fn fill(&mut self, known: &BTreeMap<&'plan str, (f64, bool)>) {
        self.queues = vec![0.0; self.plan.queues.len()];
        // If the largest counted listing is small, assume that the uncounted listings are small, too.
        let largest = known.values().map(|(rows, _)| *rows).fold(0.0, f64::max);
        let largest = largest.max(self.assume.uncounted);
        let listed = if known.is_empty() { f64::INFINITY } else { largest };
        let listed = listed.min(self.assume.listed);
        for stream in &self.plan.streams {
            let rows = known.get(stream.name.as_str()).copied();
            let rows = rows.unwrap_or_else(|| self.all_rows(stream, listed));
            self.rows.insert(&stream.name, rows);
            let mut fed: Vec<usize> =
                stream.requests.iter().flat_map(|one| &one.feeds).map(|feed| feed.queue).collect();
            fed.sort_unstable();
            fed.dedup();
            for queue in fed {
                if let Some(count) = self.queues.get_mut(queue) {
                    *count += rows.0;
                }
            }
        }
    }

    /// Number of records per page: as declared in the spec, or the average of the last full read.
    pub(crate) fn page(&self, stream: &StreamPlan, request: &RequestPlan) -> f64 {
        if let Some(size) = request.pager.largest_page() {
            return f64::from(size);
        }
        if !request.pager.is_paged() {
            return f64::INFINITY;
        }
        let full_read = self.saved.streams.get(&stream.name).map(|state| &state.full_read);
        let full_read = full_read.filter(|full_read| full_read.rows > 0 && full_read.requests > 0);
        let full_read = full_read.map(|full_read| real(full_read.rows) / real(full_read.requests));
        full_read.map_or(self.assume.page, |page| page.max(1.0))
    }

    /// Rows of the streams that the API counted, without counts of several streams unless `together`. A
    /// count of several streams is reduced by the rows of those that were read in full. The rest is divided among
    /// the others by their weights.
    #[expect(clippy::cast_precision_loss, reason = "a few streams")]
    fn counted(&self, together: bool) -> BTreeMap<&'plan str, (f64, bool)> {
        let mut rows = BTreeMap::new();
        for counted in self.saved.counted.iter().filter(|one| together || one.streams.len() == 1) {
            let states = counted.streams.iter().filter_map(|name| self.saved.streams.get(name));
            let full_read =
                states.map(|state| &state.full_read).filter(|one| !one.route.is_empty());
            let known: Vec<u64> = full_read.map(|full_read| full_read.rows).collect();
            let left = real(counted.records.saturating_sub(known.iter().sum()));
            let unknown = self.plan.streams.iter().filter(|stream| {
                counted.streams.contains(&stream.name) && self.full_read(stream).is_none()
            });
            let unknown: Vec<_> = unknown.collect();
            let left = left * self.assume.listed_per_counted;
            let left = left + 5.0 * self.assume.surge;
            let part = |stream: &'plan StreamPlan| (&*stream.name, self.weight(stream));
            let unknown: Vec<_> = unknown.into_iter().map(|stream| part(stream)).collect();
            let read: f64 = unknown.iter().map(|(_, part)| part).sum();
            let absent = counted.streams.iter().filter(|name| {
                let is_read = self.plan.streams.iter().any(|stream| stream.name == **name);
                !is_read && !self.saved.streams.contains_key(*name)
            });
            let absent = absent.count() as f64 * self.assume.absent;
            let all = read * (1.0 + absent / unknown.len().max(1) as f64);
            // Assumed: an API may count more or fewer records than it lists.
            rows.extend(
                unknown
                    .into_iter()
                    .map(|(name, part)| (name, (left * part / all.max(f64::MIN_POSITIVE), true))),
            );
        }
        rows
    }

    /// Weight of a stream in a count of several streams: its number of parents, or its assumed rows without any.
    fn weight(&self, stream: &StreamPlan) -> f64 {
        let parents = stream.own_requests().iter().filter_map(|request| match request.iterate {
            Iterate::Queue { queue, chunk: None, .. } => Some(self.queue(queue)),
            _ => None,
        });
        let parents = parents.reduce(f64::max).unwrap_or_else(|| self.rows(stream).max(1.0));
        parents.max(self.assume.surge)
    }

    pub(crate) fn full_read(&self, stream: &StreamPlan) -> Option<FullReadStats> {
        let full_read = self.saved.streams.get(&stream.name).map(|state| state.full_read.clone());
        full_read.filter(|full_read| !full_read.route.is_empty())
    }

    /// Number of all rows of a stream, and whether it is assumed. `listed` is assumed for a listing.
    fn all_rows(&self, stream: &StreamPlan, listed: f64) -> (f64, bool) {
        if let Some(full_read) = self.full_read(stream) {
            return (real(full_read.rows), false);
        }
        // The inputs request this number of records by name.
        if stream.min_rows > 0 {
            return (real(stream.min_rows), true);
        }
        let rows = stream.own_requests().iter().map(|request| match &request.iterate {
            Iterate::Queue { queue, chunk: None, .. } => {
                let parents = self.queue(*queue);
                parents * self.assume.children + parents.sqrt() * self.assume.spread
            }
            Iterate::Values { values, .. } if values.is_empty() => 0.0,
            _ => listed,
        });
        (rows.fold(0.0, f64::max), true)
    }

    /// Whether the estimate of a read plan depends on assumptions.
    pub(crate) fn is_assumed(&self, stream: &StreamPlan, read_plan: ReadPlan) -> bool {
        let known =
            self.full_read(stream).is_some_and(|one| one.route == read_plan.route_name(stream));
        match read_plan {
            ReadPlan::Skip => false,
            ReadPlan::Full { .. } | ReadPlan::FromAnchor => !known,
            // The number of changes is never known in advance.
            _ => true,
        }
    }

    pub(crate) fn rows(&self, stream: &StreamPlan) -> f64 {
        self.rows.get(stream.name.as_str()).map_or(0.0, |(rows, _)| *rows)
    }

    fn queue(&self, queue: usize) -> f64 {
        self.queues.get(queue).copied().unwrap_or_default()
    }

    /// Days that an incremental read from a bound covers.
    fn days(&self, stream: &StreamPlan, bound: i64) -> f64 {
        let state = self.saved.streams.get(&stream.name);
        state.map_or(1.0, |state| state.days_since(bound, self.now))
    }

    /// Figures of the last incremental read.
    fn changes(&self, stream: &StreamPlan) -> Option<ChangeStats> {
        let state = self.saved.streams.get(&stream.name)?;
        state.changes.filter(|changes| changes.days > 0.0)
    }

    /// Estimated number of changes in a number of days among a number of records.
    fn expected_changes(&self, expected: f64, among: f64, days: f64) -> f64 {
        let surge = self.assume.surge * (5.0 + 3.0 * (among * days).sqrt());
        (expected * self.assume.growth + surge).min(among + 5.0 * self.assume.surge)
    }

    /// Number of records of a stream that change in a number of days.
    fn changed(&self, stream: &StreamPlan, days: f64) -> f64 {
        let rows = self.rows(stream);
        let expected = match self.changes(stream) {
            Some(last) => real(last.rows) * days / last.days,
            None => (rows * self.assume.changed * days).clamp(1.0, rows.max(1.0)),
        };
        self.expected_changes(expected, rows, days)
    }

    /// Number of queue values that a stream consumes under a read plan. The stream's own last incremental read is
    /// the best source: parents that are listed again only because of a lookback are not requested again.
    pub(crate) fn items(&self, queue: usize, stream: &StreamPlan, read_plan: ReadPlan) -> f64 {
        let Some(bound) = read_plan.bound() else { return self.queue(queue) };
        let days = self.days(stream, bound);
        if let Some(last) = self.changes(stream).filter(|_| stream.cursor.is_none()) {
            return self.expected_changes(
                real(last.parents) * days / last.days,
                self.queue(queue),
                days,
            );
        }
        let feeds = |stream: &&std::sync::Arc<StreamPlan>| {
            stream.requests.iter().flat_map(|one| &one.feeds).any(|feed| feed.queue == queue)
        };
        let changed = self.plan.streams.iter().filter(feeds);
        changed.map(|feeder| self.changed(feeder, days)).sum()
    }

    /// Number of rows that a read plan returns.
    pub(crate) fn rows_of(&self, stream: &StreamPlan, read_plan: ReadPlan) -> f64 {
        let all = self.rows(stream);
        match (read_plan, self.changes(stream)) {
            (ReadPlan::Changes { since }, _) => self.changed(stream, self.days(stream, since)),
            (ReadPlan::ChangedParents { since, .. }, Some(last)) => {
                let days = self.days(stream, since);
                let expected = self.expected_changes(real(last.rows) * days / last.days, all, days);
                // A single parent may have hundreds of children.
                expected + self.assume.spread * days.min(1.0).sqrt()
            }
            (ReadPlan::ChangedParents { .. }, None) => {
                let (mut changed, mut all_parents) = (0.0, 0.0);
                for request in stream.own_requests() {
                    if let Iterate::Queue { queue, .. } = request.iterate {
                        changed += self.items(queue, stream, read_plan);
                        all_parents += self.queue(queue);
                    }
                }
                all * changed / f64::max(all_parents, 1.0)
            }
            _ => all,
        }
    }

    /// Number of records of a stream whose fingerprint is new or changed.
    pub(crate) fn unknown(&self, stream: &StreamPlan) -> f64 {
        let rows = self.rows(stream);
        let merges = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Incremental);
        let state = self.saved.streams.get(&stream.name);
        let state = state.filter(|state| merges && state.holds_for(stream));
        let known = real(self.saved.fingerprint_count(&stream.name));
        match state.and_then(|state| state.complete_at) {
            Some(at) => {
                let days = self.days(stream, at.timestamp_micros());
                self.changed(stream, days).max(rows - known).min(rows)
            }
            None => rows,
        }
    }

    /// Fraction of the parents whose only row is derived without a request. Changed parents have more rows than
    /// others, so an incremental read uses the figures of the last one.
    pub(crate) fn derived(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        request: &RequestPlan,
    ) -> f64 {
        if request.derive.is_none() {
            return 0.0;
        }
        let part = |derived: u64, all: u64| (all > 0).then(|| real(derived) / real(all));
        let changed = self.changes(stream).filter(|_| read_plan.bound().is_some());
        let changed = changed.and_then(|last| part(last.derived, last.parents));
        let full_read = self.full_read(stream).filter(|full_read| full_read.derived > 0);
        let full_read = full_read.and_then(|full_read| part(full_read.derived, full_read.slices));
        changed.or(full_read).unwrap_or(self.assume.derived)
    }

    /// Fraction of the rows that are derived without a request.
    pub(crate) fn derived_rows(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        request: &RequestPlan,
        rows: f64,
    ) -> f64 {
        let Iterate::Queue { queue, .. } = request.iterate else { return 0.0 };
        let items = self.items(queue, stream, read_plan);
        let derived = self.derived(stream, read_plan, request) * items;
        (derived / rows.max(1.0)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{planned, stream};
    use crate::progress::saved::{RecordCount, StreamState};

    const STREAMS: &str = "
  listed: { get: /listed, key: [id], feeds: { ids: id }, columns: { id: text, at: timestamp },
    page_size: { param: limit, max: 50 }, paginate: { next_url: { at: next } },
    cursor: { field: at, newest_first: true } }
  other: { get: /other, key: [id], columns: { id: text }, paginate: { next_url: { at: next } } }
  named: { get: /named, key: [id], min_rows: '7', columns: { id: text } }
  none: { for_each: { values: [], as: v }, get: '/none/{{ v }}', key: [id], columns: { id: text } }
  some: { for_each: { values: [x, y], as: v }, get: '/some/{{ v }}', key: [id], columns: { id: text } }
  child: { for_each: ids, get: '/listed/{{ id }}/c', key: [id], refresh: 1d, columns: { id: text } }
  chunks: { for_each: { queue: ids, chunk: 10 }, get: '/c', query: { id: \"{{ ids | join(',') }}\" }, key: [id],
    columns: { id: text } }
";
    const DAY: i64 = 86_400_000_000;
    const NOW: i64 = 1_772_409_600_000_000;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_micros(NOW).unwrap()
    }

    fn full_read(rows: u64, requests: u64) -> StreamState {
        let full_read = FullReadStats {
            route: "default".to_owned(),
            rows,
            requests,
            ..FullReadStats::default()
        };
        StreamState { full_read, ..StreamState::default() }
    }

    /// Rows and requests of streams that were read in full, and counts of streams.
    #[derive(Default)]
    struct Given<'test> {
        full_read: &'test [(&'test str, u64, u64)],
        counted: &'test [(&'test [&'test str], u64)],
    }

    impl Given<'_> {
        fn saved(&self) -> SavedState {
            let streams = self.full_read.iter();
            let streams = streams
                .map(|(name, rows, requests)| ((*name).to_owned(), full_read(*rows, *requests)));
            let counted = self.counted.iter().map(|(names, records)| RecordCount {
                streams: names.iter().map(|name| (*name).to_owned()).collect(),
                records: *records,
            });
            let (streams, counted) = (streams.collect(), counted.collect());
            SavedState { streams, counted, ..SavedState::default() }
        }
    }

    #[track_caller]
    fn check_rows(name: &str, known: &Given<'_>, expected: u64) {
        let plan = planned(STREAMS, "mode: incremental");
        let saved = known.saved();
        let cardinality = Cardinality::new(&plan, &saved, now());
        assert_eq!(
            crate::planner::numbers::whole(cardinality.rows(stream(&plan, name))),
            expected,
            "{name}"
        );
    }

    #[test]
    fn rows_are_from_a_full_read_or_counted_or_assumed() {
        let nothing = Given::default();
        check_rows("listed", &nothing, 1000);
        check_rows("named", &nothing, 7);
        check_rows("none", &nothing, 0);
        check_rows("some", &nothing, 1000);
        check_rows("child", &nothing, 3000);
        check_rows("chunks", &nothing, 1000);
        let full_read = Given { full_read: &[("listed", 40, 1), ("child", 9, 40)], ..nothing };
        check_rows("listed", &full_read, 40);
        check_rows("child", &full_read, 9);
        let parents = Given { full_read: &[("listed", 40, 1)], ..Given::default() };
        check_rows("child", &parents, 120);
        check_rows("other", &parents, 1000);
        // A listing has more records than a search counts. An uncounted listing is at most as large as the largest.
        let counted = Given { counted: &[(&["listed"], 80)], ..Given::default() };
        check_rows("listed", &counted, 100);
        check_rows("child", &counted, 300);
        check_rows("other", &counted, 100);
        let both = Given { counted: &[(&["listed"], 80)], full_read: &[("listed", 40, 1)] };
        check_rows("listed", &both, 40);
        // A count of two streams is divided by their assumed rows.
        let together = Given { counted: &[(&["listed", "other"], 80)], ..Given::default() };
        check_rows("listed", &together, 50);
        check_rows("other", &together, 50);
        let rest =
            Given { counted: &[(&["listed", "other"], 80)], full_read: &[("listed", 40, 1)] };
        check_rows("other", &rest, 50);
    }

    #[track_caller]
    fn check_page(name: &str, full_read: &[(&str, u64, u64)], expected: f64) {
        let plan = planned(STREAMS, "mode: incremental");
        let saved = Given { full_read, ..Given::default() }.saved();
        let stream = stream(&plan, name);
        let page = Cardinality::new(&plan, &saved, now()).page(stream, &stream.requests[0]);
        assert!(
            (page - expected).abs() < 1e-9 || page.total_cmp(&expected).is_eq(),
            "{name}: {page}"
        );
    }

    #[test]
    fn a_page_has_the_declared_or_the_average_number_of_records() {
        check_page("listed", &[("listed", 400, 4)], 50.0);
        check_page("other", &[], 50.0);
        check_page("other", &[("other", 400, 4)], 100.0);
        check_page("other", &[("other", 4, 400)], 1.0);
        check_page("other", &[("other", 0, 4)], 50.0);
        check_page("named", &[("named", 400, 4)], f64::INFINITY);
    }

    /// Checks the number of rows that a read plan returns, given the figures of the last incremental read.
    #[track_caller]
    fn check_changed(name: &str, plan: ReadPlan, last: Option<ChangeStats>, expected: u64) {
        let all = planned(STREAMS, "mode: incremental");
        let mut saved =
            Given { full_read: &[("listed", 400, 8), ("child", 1200, 400)], ..Given::default() }
                .saved();
        saved.streams.get_mut(name).unwrap().changes = last;
        let rows = Cardinality::new(&all, &saved, now()).rows_of(stream(&all, name), plan);
        assert_eq!(crate::planner::numbers::whole(rows), expected, "{name} {plan:?}");
    }

    #[test]
    fn changes_are_extrapolated_from_the_last_incremental_read() {
        let since = |days: i64| ReadPlan::Changes { since: NOW - days * DAY };
        let parents = |days: i64| ReadPlan::ChangedParents { since: NOW - days * DAY, route: 0 };
        let last =
            |rows| Some(ChangeStats { days: 2.0, rows, parents: 5, ..ChangeStats::default() });
        check_changed("listed", ReadPlan::Full { route: 0 }, last(10), 400);
        check_changed("listed", since(1), last(10), 5);
        check_changed("listed", since(2), last(10), 10);
        check_changed("listed", since(400), last(10), 400);
        // 1 % of the records change in a day, and at least one.
        check_changed("listed", since(1), None, 4);
        check_changed("listed", since(0), None, 1);
        check_changed("listed", since(1000), None, 400);
        check_changed("child", parents(1), last(60), 30);
        // The same fraction of the rows as of the parents.
        check_changed("child", parents(1), None, 12);
    }
}
