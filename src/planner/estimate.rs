//! Which route of each stream is the cheapest, and what a run will cost.
//!
//! How much there is was learnt by earlier runs; where none has shown it, it is assumed. Everything is a
//! function of the plan and of what is remembered, so that the same run always takes the same routes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::plan::{Plan, StreamPlan};
use crate::planner::cardinality::{Assumptions, Outlook};
use crate::planner::cost_model::Share;
use crate::planner::numbers::whole;
use crate::planner::read_plan;
use crate::progress::saved::{Reach, SavedState, Way};

/// Time for which a route that was refused is not tried again.
pub(crate) const REFUSED: TimeDelta = TimeDelta::days(7);
/// Sets of routes that are compared; beyond them each stream is looked at for itself.
const MAX_SETS: usize = 4096;
/// Part of the points that is not worth more requests.
const LITTLE: f64 = 0.002;

/// What a run is expected to ask of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
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
    pub naive: Naive,
}

/// What a complete reading by a stream's own requests asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Naive {
    /// Requests.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
}

/// What a run is expected to ask for, stream by stream in the plan's order. Streams that only feed and
/// are not needed are left out.
pub fn forecast(
    plan: &Plan,
    recall: &SavedState,
    ways: &BTreeMap<String, Way>,
    now: DateTime<Utc>,
) -> Vec<Expected> {
    let outlook = Outlook::new(plan, recall, now);
    let part =
        |stream: &StreamPlan| stream.output.is_some() || way_of(ways, stream) != Way::NOTHING;
    let all: Vec<(&StreamPlan, Way)> = plan
        .streams
        .iter()
        .map(AsRef::as_ref)
        .filter(|s| part(s))
        .map(|s| (s, way_of(ways, s)))
        .collect();
    let shares = outlook.shares(&all);
    let under = |assume| Outlook::assuming(assume, plan, recall, now).shares(&all);
    let (least, most) = (under(Assumptions::LEAST), under(Assumptions::MOST));
    let range = |place: usize, of: fn(&Share) -> f64| {
        let figure = |shares: &[Share]| whole(shares.get(place).map_or(0.0, of));
        let (least, likely, most) = (figure(&least), figure(&shares), figure(&most));
        [least.min(likely), most.max(likely)]
    };
    let everything: Vec<(&StreamPlan, Way)> =
        all.iter().map(|(stream, _)| (*stream, Way { reach: Reach::Complete, route: 0 })).collect();
    let naive: Vec<Share> = everything.iter().map(|one| outlook.alone(*one, &[])).collect();
    let expected = |(place, ((stream, way), (share, naive))): (usize, (&(&StreamPlan, Way), _))| {
        let (share, naive): (&Share, &Share) = (share, naive);
        Expected {
            stream: stream.name.clone(),
            feeder: stream.output.is_none(),
            reach: read_plan::shown(stream, way.reach),
            route: read_plan::route_name(stream, *way).to_owned(),
            why: outlook.why(stream, *way, &all),
            assumed: outlook.is_assumed((stream, *way)),
            slices: whole(share.slices),
            requests: whole(share.requests),
            points: whole(share.points),
            requests_range: range(place, |share| share.requests),
            points_range: range(place, |share| share.points),
            naive: Naive { requests: whole(naive.requests), points: whole(naive.points) },
        }
    };
    all.iter().zip(shares.iter().zip(&naive)).enumerate().map(expected).collect()
}

fn way_of(ways: &BTreeMap<String, Way>, stream: &StreamPlan) -> Way {
    ways.get(&stream.name).copied().unwrap_or(Way::NOTHING)
}

/// Chooses the routes of the streams: of those that ask for the same objects together.
pub(crate) fn routes(
    plan: &Plan,
    recall: &SavedState,
    needs: &BTreeMap<String, Reach>,
    now: DateTime<Utc>,
) -> BTreeMap<String, usize> {
    let outlook = Outlook::new(plan, recall, now);
    let need = |stream: &StreamPlan| needs.get(&stream.name).copied().unwrap_or(Reach::Nothing);
    let mut left: Vec<&StreamPlan> = plan.streams.iter().map(AsRef::as_ref).collect();
    left.retain(|stream| {
        read_plan::has_own_requests(stream, need(stream)) && need(stream) != Reach::Nothing
    });
    let mut chosen = BTreeMap::new();
    while let Some(first) = left.first().copied() {
        let (together, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|other| other.name == first.name || meet(first, other));
        left = others;
        let options: Vec<Vec<Way>> =
            together.iter().map(|stream| options(stream, need(stream), recall, now)).collect();
        let sets: usize = options.iter().map(Vec::len).product();
        let best = if sets <= MAX_SETS {
            cheapest(&outlook, &together, &options)
        } else {
            let single = together.iter().zip(&options);
            single
                .flat_map(|(stream, ways)| {
                    cheapest(&outlook, &[*stream], std::slice::from_ref(ways))
                })
                .collect()
        };
        let names = together.iter().map(|stream| stream.name.clone());
        chosen.extend(names.zip(best.into_iter().map(|way| way.route)));
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
fn options(stream: &StreamPlan, need: Reach, recall: &SavedState, now: DateTime<Utc>) -> Vec<Way> {
    let way = |route| Way { reach: need, route };
    let fits = |route: usize| {
        let by_parents = stream.routes.get(route).is_some_and(|route| route.by_parents);
        need == Reach::Complete || (matches!(need, Reach::Since(_)) && by_parents)
    };
    if let Some(wanted) = stream.wanted.filter(|wanted| fits(*wanted)) {
        return vec![way(wanted)];
    }
    let state = recall.stream(&stream.name);
    let refused =
        |name: &String| state.refused_routes.get(name).is_some_and(|at| now - *at < REFUSED);
    let routes = stream.routes.iter().enumerate();
    // A first look at a few rows is not worth a listing of all.
    let routes = routes
        .filter(|(at, one)| *at == 0 || stream.limit.is_none() && fits(*at) && !refused(&one.name));
    routes.map(|(at, _)| way(at)).collect()
}

/// The cheapest set of ways, but for a little: of those that cost about as much the one with the fewest
/// requests, and of equal ones the first.
fn cheapest(outlook: &Outlook<'_>, streams: &[&StreamPlan], options: &[Vec<Way>]) -> Vec<Way> {
    let mut sets: Vec<Vec<Way>> = vec![Vec::new()];
    for ways in options {
        sets = sets
            .iter()
            .flat_map(|set| ways.iter().map(move |way| [set.as_slice(), &[*way]].concat()))
            .collect();
    }
    let price = |set: &Vec<Way>| {
        let all: Vec<_> = streams.iter().copied().zip(set.iter().copied()).collect();
        outlook.price(&all)
    };
    let priced: Vec<((f64, f64), Vec<Way>)> =
        sets.into_iter().map(|set| (price(&set), set)).collect();
    let least = priced.iter().map(|(price, _)| price.0).fold(f64::INFINITY, f64::min);
    let about = priced.into_iter().filter(|(price, _)| price.0 <= least * (1.0 + LITTLE) + 0.5);
    let mut best: Option<((f64, f64), Vec<Way>)> = None;
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
