//! Which route of each stream is the cheapest, and what a run will cost.
//!
//! How much there is was learnt by earlier runs; where none has shown it, it is assumed. Everything is a
//! function of the plan and of what is remembered, so that the same run always takes the same routes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::plan::{Plan, StreamPlan};
use crate::planner::cardinality::{Assumptions, Cardinality};
use crate::planner::cost_model::ExpectedCost;
use crate::planner::numbers::whole;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::SavedState;

/// Time for which a route that was refused is not tried again.
pub(crate) const REFUSED: TimeDelta = TimeDelta::days(7);
/// Sets of routes that are compared; beyond them each stream is looked at for itself.
const MAX_SETS: usize = 4096;
/// Part of the points that is not worth more requests.
const LITTLE: f64 = 0.002;

/// What a run is expected to ask of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamEstimate {
    /// Stream.
    pub stream: String,
    /// Whether it only feeds its children.
    pub feeder: bool,
    /// What is read of it, for a person: `everything`, `changes since …`, `nothing`.
    pub reach: String,
    /// The route by which it is read.
    pub route: String,
    /// Why this route, for a person.
    pub why: String,
    /// Whether the figures are estimates of how much there is, or has changed.
    pub assumed: bool,
    /// Slices.
    pub slices: u64,
    /// Requests, without retries. One that several streams share counts for the first of them.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
    /// Between how many requests it will probably be: of what is assumed, as little and as much as can be
    /// expected.
    pub requests_range: [u64; 2],
    /// The same of points.
    pub points_range: [u64; 2],
    /// What a complete reading by the stream's own requests would ask for.
    pub naive: Baseline,
}

/// What a complete reading by a stream's own requests asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Baseline {
    /// Requests.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
}

/// What a run is expected to ask for, stream by stream in the plan's order. Streams that only feed and
/// are not needed are left out.
pub fn forecast(
    plan: &Plan,
    saved: &SavedState,
    read_plans: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> Vec<StreamEstimate> {
    let outlook = Cardinality::new(plan, saved, now);
    let part = |stream: &StreamPlan| {
        stream.output.is_some() || way_of(read_plans, stream) != ReadPlan::Skip
    };
    let all: Vec<(&StreamPlan, ReadPlan)> = plan
        .streams
        .iter()
        .map(AsRef::as_ref)
        .filter(|s| part(s))
        .map(|s| (s, way_of(read_plans, s)))
        .collect();
    let shares = outlook.shares(&all);
    let under = |assume| Cardinality::assuming(assume, plan, saved, now).shares(&all);
    let (least, most) = (under(Assumptions::LEAST), under(Assumptions::MOST));
    let range = |place: usize, of: fn(&ExpectedCost) -> f64| {
        let figure = |shares: &[ExpectedCost]| whole(shares.get(place).map_or(0.0, of));
        let (least, likely, most) = (figure(&least), figure(&shares), figure(&most));
        [least.min(likely), most.max(likely)]
    };
    let everything: Vec<(&StreamPlan, ReadPlan)> =
        all.iter().map(|(stream, _)| (*stream, ReadPlan::full(stream))).collect();
    let naive: Vec<ExpectedCost> = everything.iter().map(|one| outlook.alone(*one, &[])).collect();
    let expected =
        |(place, ((stream, read_plan), (share, naive))): (usize, (&(&StreamPlan, ReadPlan), _))| {
            let (share, naive): (&ExpectedCost, &ExpectedCost) = (share, naive);
            StreamEstimate {
                stream: stream.name.clone(),
                feeder: stream.output.is_none(),
                reach: read_plan.shown(stream),
                route: read_plan.route_name(stream).to_owned(),
                why: outlook.why(stream, *read_plan, &all),
                assumed: outlook.is_assumed((stream, *read_plan)),
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

fn way_of(read_plans: &BTreeMap<String, ReadPlan>, stream: &StreamPlan) -> ReadPlan {
    read_plans.get(&stream.name).copied().unwrap_or(ReadPlan::Skip)
}

/// Chooses the routes of the streams: of those that ask for the same objects together.
pub(crate) fn routes(
    plan: &Plan,
    saved: &SavedState,
    needs: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> BTreeMap<String, usize> {
    let outlook = Cardinality::new(plan, saved, now);
    let need = |stream: &StreamPlan| needs.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
    let mut left: Vec<&StreamPlan> = plan.streams.iter().map(AsRef::as_ref).collect();
    left.retain(|stream| !need(stream).sends_changes(stream) && !need(stream).is_skip());
    let mut chosen = BTreeMap::new();
    while let Some(first) = left.first().copied() {
        let (together, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|other| other.name == first.name || meet(first, other));
        left = others;
        let options: Vec<Vec<ReadPlan>> =
            together.iter().map(|stream| options(stream, need(stream), saved, now)).collect();
        let sets: usize = options.iter().map(Vec::len).product();
        let best = if sets <= MAX_SETS {
            cheapest(&outlook, &together, &options)
        } else {
            let single = together.iter().zip(&options);
            single
                .flat_map(|(stream, read_plans)| {
                    cheapest(&outlook, &[*stream], std::slice::from_ref(read_plans))
                })
                .collect()
        };
        let names = together.iter().map(|stream| stream.name.clone());
        chosen.extend(names.zip(best.into_iter().map(ReadPlan::route)));
    }
    chosen
}

/// Whether two streams have routes that may share requests.
fn meet(one: &StreamPlan, other: &StreamPlan) -> bool {
    let paths = |stream: &StreamPlan| -> Vec<String> {
        let embedded =
            stream.requests.iter().filter_map(|request| request.routed.embedded.as_ref());
        embedded.map(|embedded| embedded.path.clone()).collect()
    };
    let theirs = paths(other);
    paths(one).iter().any(|path| theirs.contains(path))
}

/// The ways that are open to a stream.
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
    // A first look at a few rows is not worth a listing of all.
    let routes = routes
        .filter(|(at, one)| *at == 0 || stream.limit.is_none() && fits(*at) && !refused(&one.name));
    routes.map(|(at, _)| read_plan(at)).collect()
}

/// The cheapest set of ways, but for a little: of those that cost about as much the one with the fewest
/// requests, and of equal ones the first.
fn cheapest(
    outlook: &Cardinality<'_>,
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
        outlook.price(&all)
    };
    let priced: Vec<((f64, f64), Vec<ReadPlan>)> =
        sets.into_iter().map(|set| (price(&set), set)).collect();
    let least = priced.iter().map(|(price, _)| price.0).fold(f64::INFINITY, f64::min);
    let about = priced.into_iter().filter(|(price, _)| price.0 <= least * (1.0 + LITTLE) + 0.5);
    let mut best: Option<((f64, f64), Vec<ReadPlan>)> = None;
    for (price, set) in about {
        let better = best.as_ref().is_none_or(|(known, _)| {
            price.1 < known.1 - 0.5 || (price.1 - known.1).abs() <= 0.5 && price.0 < known.0 - 0.5
        });
        if better {
            best = Some((price, set));
        }
    }
    best.map(|(_, set)| set).unwrap_or_default()
}
