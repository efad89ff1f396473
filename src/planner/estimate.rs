//! Chooses the cheapest route of each stream, and estimates what a run costs.
//!
//! Numbers of rows come from earlier full reads, and from assumptions where there are none. Everything is a
//! function of the plan and of the saved state, so that the same run always takes the same routes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::plan::{Plan, StreamPlan};
use crate::planner::cardinality::{Assumptions, Cardinality};
use crate::planner::cost_model::ExpectedCost;
use crate::planner::numbers::whole;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::SavedState;

/// Time for which weir does not retry a refused route.
pub(crate) const REFUSED: TimeDelta = TimeDelta::days(7);
/// Maximum number of combinations of routes to compare. With more, the route of each stream is chosen separately.
const MAX_SETS: usize = 4096;
/// Relative difference in cost that does not justify more requests.
const LITTLE: f64 = 0.002;

/// Estimate for one stream of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamEstimate {
    /// Stream.
    pub stream: String,
    /// Whether it only feeds its children.
    pub feeder: bool,
    /// Read plan, for a person: `everything`, `changes since …`, `nothing`.
    pub reach: String,
    /// Name of the route.
    pub route: String,
    /// Reason for the route, for a person.
    pub why: String,
    /// Whether the figures depend on assumptions, for example about the number of changes.
    pub assumed: bool,
    /// Number of slices.
    pub slices: u64,
    /// Number of requests, without retries. A shared request counts for the first of its streams.
    pub requests: u64,
    /// Points, by the costs in the spec; 0 without a quota.
    pub points: u64,
    /// Probable minimum and maximum of the requests, from low and high assumptions.
    pub requests_range: [u64; 2],
    /// Probable minimum and maximum of the points.
    pub points_range: [u64; 2],
    /// Cost of a full read by the default route.
    pub naive: Baseline,
}

/// Cost of a full read by the default route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// Number of requests.
    pub requests: u64,
    /// Points, by the costs in the spec; 0 without a quota.
    pub points: u64,
}

/// Estimates each stream of a run, in the plan's order. Leaves out streams that only feed others and are not
/// needed.
pub fn estimate_streams(
    plan: &Plan,
    saved: &SavedState,
    read_plans: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> Vec<StreamEstimate> {
    let cardinality = Cardinality::new(plan, saved, now);
    let part = |stream: &StreamPlan| {
        stream.output.is_some() || read_plan_of(read_plans, stream) != ReadPlan::Skip
    };
    let all: Vec<(&StreamPlan, ReadPlan)> = plan
        .streams
        .iter()
        .map(AsRef::as_ref)
        .filter(|s| part(s))
        .map(|s| (s, read_plan_of(read_plans, s)))
        .collect();
    let shares = cardinality.shares(&all);
    let under = |assume| Cardinality::assuming(assume, plan, saved, now).shares(&all);
    let (least, most) = (under(Assumptions::LEAST), under(Assumptions::MOST));
    let range = |place: usize, of: fn(&ExpectedCost) -> f64| {
        let figure = |shares: &[ExpectedCost]| whole(shares.get(place).map_or(0.0, of));
        let (least, likely, most) = (figure(&least), figure(&shares), figure(&most));
        [least.min(likely), most.max(likely)]
    };
    let everything: Vec<(&StreamPlan, ReadPlan)> =
        all.iter().map(|(stream, _)| (*stream, ReadPlan::full(stream))).collect();
    let naive: Vec<ExpectedCost> = everything
        .iter()
        .map(|(stream, read_plan)| cardinality.alone(stream, *read_plan, &[]))
        .collect();
    let expected =
        |(place, ((stream, read_plan), (share, naive))): (usize, (&(&StreamPlan, ReadPlan), _))| {
            let (share, naive): (&ExpectedCost, &ExpectedCost) = (share, naive);
            StreamEstimate {
                stream: stream.name.clone(),
                feeder: stream.output.is_none(),
                reach: read_plan.shown(stream),
                route: read_plan.route_name(stream).to_owned(),
                why: cardinality.why(stream, *read_plan, &all),
                assumed: cardinality.is_assumed(stream, *read_plan),
                slices: whole(share.slices),
                requests: whole(share.requests),
                points: whole(share.points),
                requests_range: range(place, |share| share.requests),
                points_range: range(place, |share| share.points),
                naive: Baseline { requests: whole(naive.requests), points: whole(naive.points) },
            }
        };
    all.iter().zip(shares.iter().zip(&naive)).enumerate().map(expected).collect()
}

fn read_plan_of(read_plans: &BTreeMap<String, ReadPlan>, stream: &StreamPlan) -> ReadPlan {
    read_plans.get(&stream.name).copied().unwrap_or(ReadPlan::Skip)
}

/// Chooses the routes of the streams. Streams that may share requests are decided together.
pub(crate) fn routes(
    plan: &Plan,
    saved: &SavedState,
    needs: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> BTreeMap<String, usize> {
    let cardinality = Cardinality::new(plan, saved, now);
    let need = |stream: &StreamPlan| needs.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
    let mut left: Vec<&StreamPlan> = plan.streams.iter().map(AsRef::as_ref).collect();
    left.retain(|stream| !need(stream).sends_changes(stream) && !need(stream).is_skip());
    let mut chosen = BTreeMap::new();
    while let Some(first) = left.first().copied() {
        let (together, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|other| other.name == first.name || may_share(first, other));
        left = others;
        let options: Vec<Vec<ReadPlan>> =
            together.iter().map(|stream| options(stream, need(stream), saved, now)).collect();
        let sets: usize = options.iter().map(Vec::len).product();
        let best = if sets <= MAX_SETS {
            cheapest(&cardinality, &together, &options)
        } else {
            let single = together.iter().zip(&options);
            single
                .flat_map(|(stream, read_plans)| {
                    cheapest(&cardinality, &[*stream], std::slice::from_ref(read_plans))
                })
                .collect()
        };
        let names = together.iter().map(|stream| stream.name.clone());
        chosen.extend(names.zip(best.into_iter().map(ReadPlan::route)));
    }
    chosen
}

/// Whether two streams have routes that may share requests.
fn may_share(one: &StreamPlan, other: &StreamPlan) -> bool {
    let paths = |stream: &StreamPlan| -> Vec<String> {
        let embedded = stream.requests.iter().filter_map(|request| request.kind.embedded());
        embedded.map(|embedded| embedded.path.clone()).collect()
    };
    let theirs = paths(other);
    paths(one).iter().any(|path| theirs.contains(path))
}

/// The read plans that a stream can use.
fn options(
    stream: &StreamPlan,
    need: ReadPlan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> Vec<ReadPlan> {
    let read_plan = |route| need.by_route(route);
    let fits = |route: usize| {
        let by_parents = stream.routes.get(route).is_some_and(|route| route.by_parents);
        need.is_full() || need.bound().is_some() && by_parents
    };
    if let Some(wanted) = stream.wanted.filter(|wanted| fits(*wanted)) {
        return vec![read_plan(wanted)];
    }
    let state = saved.stream(&stream.name);
    let refused =
        |name: &String| state.refused_routes.get(name).is_some_and(|at| now - *at < REFUSED);
    let routes = stream.routes.iter().enumerate();
    // With `--limit`, listing all records would cost more than the few rows.
    let routes = routes
        .filter(|(at, one)| *at == 0 || stream.limit.is_none() && fits(*at) && !refused(&one.name));
    routes.map(|(at, _)| read_plan(at)).collect()
}

/// The cheapest combination of read plans. Of combinations with about the same cost, the one with the fewest
/// requests wins, then the first.
fn cheapest(
    cardinality: &Cardinality<'_>,
    streams: &[&StreamPlan],
    options: &[Vec<ReadPlan>],
) -> Vec<ReadPlan> {
    let mut sets: Vec<Vec<ReadPlan>> = vec![Vec::new()];
    for read_plans in options {
        sets = sets
            .iter()
            .flat_map(|set| {
                read_plans.iter().map(move |read_plan| [set.as_slice(), &[*read_plan]].concat())
            })
            .collect();
    }
    let price = |set: &Vec<ReadPlan>| {
        let all: Vec<_> = streams.iter().copied().zip(set.iter().copied()).collect();
        cardinality.price(&all)
    };
    let priced: Vec<((f64, f64), Vec<ReadPlan>)> =
        sets.into_iter().map(|set| (price(&set), set)).collect();
    let least = priced.iter().map(|(price, _)| price.0).fold(f64::INFINITY, f64::min);
    let nearly_cheapest =
        priced.into_iter().filter(|(price, _)| price.0 <= least * (1.0 + LITTLE) + 0.5);
    let mut best: Option<((f64, f64), Vec<ReadPlan>)> = None;
    for (price, set) in nearly_cheapest {
        let better = best.as_ref().is_none_or(|(known, _)| {
            price.1 < known.1 - 0.5 || (price.1 - known.1).abs() <= 0.5 && price.0 < known.0 - 0.5
        });
        if better {
            best = Some((price, set));
        }
    }
    best.map(|(_, set)| set).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanOptions;
    use crate::plan::testing::{plan_under, plan_with_points, stream};
    use crate::progress::saved::{ChangeStats, FullReadStats, StreamState};

    const DAY: i64 = 24 * 3_600_000_000;
    const WEEK: i64 = 7 * DAY;
    /// 2026-03-02T00:00:00Z.
    const NOW: i64 = 1_772_409_600_000_000;

    /// A parent and its children: with a listing of all children, with a listing that must be filtered, and with
    /// shared requests. No run has read the children by these routes, so their costs are computed.
    const STREAMS: &str = "
  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true } }
  c: { for_each: ids, get: '/p/{{ id }}/c', key: [id], refresh: 1d, columns: { id: text }, routes: { list: {
    get: /c, page_size: { param: limit, max: 50 }, paginate: { next_url: { at: next } } } } }
  f: { for_each: ids, get: '/p/{{ id }}/f', key: [id], columns: { id: text, type: text }, routes: { list: {
    get: /f, page_size: { param: limit, max: 50 }, paginate: { next_url: { at: next } }, filter: { type: x } } } }
  a: { for_each: ids, get: '/p/{{ id }}/a', key: [id], refresh: 1d, columns: { id: text }, routes: { fused: {
    for_each: ids, get: '/p/{{ id }}', query: { a: 'true' }, records: a.results,
    embedded: { more: a.more, cursor: a.next, param: cursor } } } }
  b: { for_each: ids, get: '/p/{{ id }}/b', key: [id], refresh: 1d, columns: { id: text }, routes: { fused: {
    for_each: ids, get: '/p/{{ id }}', query: { b: 'true' }, records: b.results,
    embedded: { more: b.more, cursor: b.next, param: cursor } } } }
";
    const FULL: ReadPlan = ReadPlan::Full { route: 0 };
    const PARENTS: ReadPlan = ReadPlan::ChangedParents { since: NOW - DAY, route: 0 };

    fn time(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    /// The saved state of a stream with this number of rows, read by a route that no longer exists.
    fn rows(rows: u64) -> StreamState {
        let full_read =
            FullReadStats { route: "former".to_owned(), rows, ..FullReadStats::default() };
        StreamState { full_read, ..StreamState::default() }
    }

    fn of_points(points: bool, options: &PlanOptions) -> Plan {
        let plan = if points { plan_with_points } else { plan_under };
        plan(STREAMS, "mode: incremental", options)
    }

    /// Checks the chosen route of a stream, given the number of parents and of its own rows.
    #[track_caller]
    fn check_route(
        name: &str,
        points: bool,
        (parents, own): (u64, u64),
        (options, need): (&PlanOptions, ReadPlan),
        (change, expected): (&dyn Fn(&mut StreamState), usize),
    ) {
        let plan = of_points(points, options);
        let mut saved = SavedState::default();
        let mut state = rows(own);
        change(&mut state);
        saved.streams.insert("p".to_owned(), rows(parents));
        saved.streams.insert(name.to_owned(), state);
        let needs = BTreeMap::from([(name.to_owned(), need)]);
        let chosen = routes(&plan, &saved, &needs, time(NOW));
        assert_eq!(chosen.get(name), Some(&expected), "{name}, {parents} parents, {own} rows");
    }

    #[track_caller]
    fn check_requests(parents: u64, own: u64, expected: usize) {
        check_route(
            "c",
            false,
            (parents, own),
            (&PlanOptions::default(), FULL),
            (&|_| (), expected),
        );
    }

    #[test]
    fn the_route_with_the_fewest_requests_wins() {
        check_requests(100, 300, 1);
        check_requests(7, 300, 1);
        // Equal cost: the default route.
        check_requests(6, 300, 0);
        check_requests(5, 300, 0);
        check_requests(1, 0, 0);
        check_requests(0, 0, 0);
        check_requests(1000, 50_000, 0);
        check_requests(1001, 50_000, 1);
    }

    #[track_caller]
    fn check_points(name: &str, parents: u64, own: u64, expected: usize) {
        check_route(
            name,
            true,
            (parents, own),
            (&PlanOptions::default(), FULL),
            (&|_| (), expected),
        );
    }

    #[test]
    fn the_route_with_the_fewest_points_wins_where_the_api_counts_them() {
        check_points("c", 100, 300, 1);
        check_points("c", 6, 300, 0);
        check_points("c", 5, 300, 0);
        // The listing also costs the records that the filter drops. Default: 1,000 requests and 1,960 records are
        // 2,960 points. Listing: 59 requests and 2,940 records are 2,999 points.
        check_points("f", 1000, 1960, 0);
        // 2,890 against 2,892 points: 2 more points are worth 942 fewer requests.
        check_points("f", 1000, 1890, 1);
        check_points("f", 1000, 100, 1);
    }

    #[track_caller]
    fn check_open(
        options: &PlanOptions,
        need: ReadPlan,
        refused: Option<(&str, i64)>,
        expected: usize,
    ) {
        let change = |state: &mut StreamState| {
            state.refused_routes.extend(refused.map(|(name, at)| (name.to_owned(), time(at))));
        };
        check_route("c", false, (100, 300), (options, need), (&change, expected));
    }

    #[test]
    fn a_route_is_open_unless_it_was_refused_or_does_not_fit() {
        let any = PlanOptions::default();
        let wanted = |name: &str| PlanOptions {
            routes: vec![("c".to_owned(), name.to_owned())],
            ..PlanOptions::default()
        };
        check_open(&any, FULL, None, 1);
        check_open(&any, FULL, Some(("list", NOW)), 0);
        check_open(&any, FULL, Some(("list", NOW - WEEK + 1)), 0);
        check_open(&any, FULL, Some(("list", NOW - WEEK)), 1);
        check_open(&any, FULL, Some(("other", NOW)), 1);
        check_open(&PlanOptions { limit: Some(10), ..PlanOptions::default() }, FULL, None, 0);
        check_open(&wanted("default"), FULL, None, 0);
        check_open(&wanted("list"), FULL, Some(("list", NOW)), 1);
        let limited = PlanOptions { limit: Some(10), ..wanted("list") };
        check_open(&limited, FULL, None, 1);
        // The listing cannot be restricted to the children of changed parents.
        check_open(&any, PARENTS, None, 0);
        check_open(&wanted("list"), PARENTS, None, 0);
    }

    #[test]
    fn streams_that_need_no_route_get_none() {
        let plan = of_points(false, &PlanOptions::default());
        let needs = BTreeMap::from([
            ("p".to_owned(), ReadPlan::Changes { since: NOW - DAY }),
            ("c".to_owned(), ReadPlan::Skip),
            ("a".to_owned(), ReadPlan::Retry),
        ]);
        let chosen = routes(&plan, &SavedState::default(), &needs, time(NOW));
        assert_eq!(chosen, BTreeMap::from([("a".to_owned(), 0)]));
    }

    /// Checks the routes of two streams that may share requests.
    #[track_caller]
    fn check_together(
        a: ReadPlan,
        b: ReadPlan,
        refused: Option<&str>,
        expected: [Option<usize>; 2],
    ) {
        let plan = of_points(false, &PlanOptions::default());
        let mut saved = SavedState::default();
        saved.streams.insert("p".to_owned(), rows(100));
        let refused = refused.map(|name| (name.to_owned(), time(NOW))).into_iter().collect();
        saved.streams.insert(
            "b".to_owned(),
            StreamState { refused_routes: refused, ..StreamState::default() },
        );
        let needs = BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let chosen = routes(&plan, &saved, &needs, time(NOW));
        assert_eq!(["a", "b"].map(|name| chosen.get(name).copied()), expected, "{a:?} {b:?}");
    }

    #[test]
    fn streams_that_may_share_requests_choose_their_routes_together() {
        check_together(FULL, FULL, None, [Some(1), Some(1)]);
        check_together(FULL, FULL, Some("fused"), [Some(0), Some(0)]);
        check_together(FULL, ReadPlan::Skip, None, [Some(0), None]);
        check_together(ReadPlan::Retry, FULL, None, [Some(0), Some(0)]);
    }

    /// Checks name, requests and reason of the estimates of streams with 100 parents.
    #[track_caller]
    fn check_estimate(
        points: bool,
        read_plans: &[(&str, ReadPlan)],
        expected: &[(&str, u64, &str)],
    ) {
        let plan = of_points(points, &PlanOptions::default());
        let mut saved = SavedState::default();
        saved.streams.insert("p".to_owned(), rows(100));
        saved.streams.insert("c".to_owned(), rows(300));
        let all = plan.streams.iter().map(|stream| (stream.name.clone(), ReadPlan::Skip));
        let mut all_read_plans: BTreeMap<String, ReadPlan> = all.collect();
        all_read_plans
            .extend(read_plans.iter().map(|(name, read_plan)| ((*name).to_owned(), *read_plan)));
        let estimates = estimate_streams(&plan, &saved, &all_read_plans, time(NOW));
        let found: Vec<_> = estimates
            .iter()
            .filter(|one| read_plans.iter().any(|(name, _)| *name == one.stream))
            .map(|one| (one.stream.as_str(), one.requests, one.why.as_str()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_shared_request_counts_for_the_first_of_its_streams() {
        let fused = ReadPlan::Full { route: 1 };
        check_estimate(
            false,
            &[("a", fused), ("b", fused)],
            &[("a", 100, "saves 100 requests"), ("b", 0, "saves 100 requests")],
        );
        check_estimate(false, &[("a", fused)], &[("a", 100, "as few requests as any")]);
        check_estimate(
            false,
            &[("a", FULL), ("b", fused)],
            &[("a", 100, "the fewest requests"), ("b", 100, "as few requests as any")],
        );
        check_estimate(
            false,
            &[("a", FULL), ("b", FULL)],
            &[("a", 100, "the fewest requests"), ("b", 100, "the fewest requests")],
        );
    }

    #[test]
    fn the_estimate_says_why_a_route_was_chosen() {
        let list = ReadPlan::Full { route: 1 };
        let changes = ReadPlan::Changes { since: NOW - DAY };
        check_estimate(false, &[("c", ReadPlan::Skip)], &[("c", 0, "fresh enough")]);
        check_estimate(false, &[("p", changes)], &[("p", 1, "what changed")]);
        check_estimate(false, &[("p", FULL)], &[("p", 1, "the only route")]);
        check_estimate(false, &[("c", list)], &[("c", 6, "saves 94 requests")]);
        check_estimate(false, &[("c", FULL)], &[("c", 100, "the fewest requests")]);
        check_estimate(true, &[("c", list)], &[("c", 6, "saves 94 points")]);
        check_estimate(true, &[("c", FULL)], &[("c", 100, "the fewest points")]);
    }

    /// Checks the likely requests of a listing, their range, and whether they are assumed, given the saved state.
    #[track_caller]
    fn check_range(read_plan: ReadPlan, state: StreamState, expected: (u64, [u64; 2], bool)) {
        let streams = "  s: { get: /s, key: [id], columns: { id: text, at: timestamp }, \
                       page_size: { param: limit, max: 50 }, paginate: { next_url: { at: next } }, \
                       cursor: { field: at, newest_first: true } }\n";
        let plan = plan_under(streams, "mode: incremental", &PlanOptions::default());
        let mut saved = SavedState::default();
        saved.streams.insert("s".to_owned(), state);
        let read_plans = BTreeMap::from([("s".to_owned(), read_plan)]);
        let all = estimate_streams(&plan, &saved, &read_plans, time(NOW));
        let found = (all[0].requests, all[0].requests_range, all[0].assumed);
        assert_eq!(found, expected, "{read_plan:?}");
        assert_eq!(all[0].reach, read_plan.shown(stream(&plan, "s")));
    }

    #[test]
    fn the_range_of_an_estimate_contains_the_likely_value() {
        let full_read = |requests| StreamState {
            full_read: FullReadStats {
                route: "default".to_owned(),
                requests,
                rows: 50 * requests,
                bearer: true,
                ..FullReadStats::default()
            },
            ..StreamState::default()
        };
        check_range(FULL, full_read(100), (100, [75, 126], false));
        check_range(FULL, full_read(0), (0, [0, 1], false));
        check_range(FULL, StreamState::default(), (20, [1, 61], true));
        check_range(ReadPlan::Skip, full_read(100), (0, [0, 0], false));
        let changes = ReadPlan::Changes { since: NOW - DAY };
        let changed = |rows| StreamState {
            changes: Some(ChangeStats { days: 1.0, rows, ..ChangeStats::default() }),
            ..full_read(100)
        };
        check_range(changes, changed(10), (1, [1, 7], true));
        check_range(changes, changed(150), (3, [1, 18], true));
    }
}
