//! How much there is of everything, and what a way of reading it costs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::forecast::whole;
use super::opening;
use super::reach::{self, route_name};
use super::state::{Learnt, Reach, Recall, Way};
use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::replication::Mode;

/// Records of a listing of which nothing is known.
const LISTED: f64 = 1000.0;
/// Children of a parent of whom nothing is known.
const CHILDREN: f64 = 3.0;
/// Part of the records that change in a day, of which nothing is known.
const CHANGED: f64 = 0.01;
/// Part of the parents whose only row follows from what is known, or that are left to another request,
/// where nothing is known.
const APART: f64 = 0.2;
/// Records that listings bring over those that are wanted, where they are sifted.
const SIFTED: f64 = 1.25;

/// What a stream is expected to ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) slices: f64,
    pub(super) requests: f64,
    pub(super) points: f64,
}

impl Share {
    fn add(&mut self, other: Self) {
        self.slices += other.slices;
        self.requests += other.requests;
        self.points += other.points;
    }
}

/// A count with its thousands apart.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// How much there is.
pub(super) struct Outlook<'plan> {
    plan: &'plan Plan,
    recall: &'plan Recall,
    now: DateTime<Utc>,
    /// Values of each queue.
    queues: Vec<f64>,
    /// Rows of each stream, and whether that is assumed.
    rows: BTreeMap<&'plan str, (f64, bool)>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}

fn points(stream: &StreamPlan, requests: f64, objects: f64) -> f64 {
    requests * real(stream.cost.base) + objects * real(stream.cost.object)
}

impl<'plan> Outlook<'plan> {
    pub(super) fn new(plan: &'plan Plan, recall: &'plan Recall, now: DateTime<Utc>) -> Self {
        let queues = vec![0.0; plan.queues.len()];
        let mut outlook = Self { plan, recall, now, queues, rows: BTreeMap::new() };
        for stream in &plan.streams {
            let rows = outlook.all_rows(stream);
            outlook.rows.insert(&stream.name, rows);
            let mut fed: Vec<usize> =
                stream.requests.iter().flat_map(|one| &one.feeds).map(|feed| feed.queue).collect();
            fed.sort_unstable();
            fed.dedup();
            for queue in fed {
                if let Some(count) = outlook.queues.get_mut(queue) {
                    *count += rows.0;
                }
            }
        }
        outlook
    }

    fn learnt(&self, stream: &StreamPlan) -> Option<Learnt> {
        let learnt = self.recall.streams.get(&stream.name).map(|state| state.learnt.clone());
        learnt.filter(|learnt| !learnt.route.is_empty())
    }

    /// Rows of a stream in all, and whether that is assumed.
    fn all_rows(&self, stream: &StreamPlan) -> (f64, bool) {
        if let Some(learnt) = self.learnt(stream) {
            return (real(learnt.rows), false);
        }
        let rows = stream.own_requests().iter().map(|request| match &request.iterate {
            Iterate::Queue { queue, chunk: None, .. } => self.queue(*queue) * CHILDREN,
            _ => LISTED,
        });
        (rows.fold(0.0, f64::max), true)
    }

    pub(super) fn is_assumed(&self, stream: &StreamPlan) -> bool {
        self.rows.get(stream.name.as_str()).is_some_and(|(_, assumed)| *assumed)
    }

    fn rows(&self, stream: &StreamPlan) -> f64 {
        self.rows.get(stream.name.as_str()).map_or(0.0, |(rows, _)| *rows)
    }

    fn queue(&self, queue: usize) -> f64 {
        self.queues.get(queue).copied().unwrap_or_default()
    }

    /// Records of a stream that changed since a value of its cursor.
    fn changed(&self, stream: &StreamPlan, bound: i64) -> f64 {
        let state = self.recall.stream(&stream.name);
        let rows = self.rows(stream);
        if let Some(expected) = state.expected_changes(bound, self.now) {
            return expected.min(rows);
        }
        let known = self.recall.streams.contains_key(&stream.name);
        let days = if known { state.days_since(bound, self.now) } else { 1.0 };
        (rows * CHANGED * days).clamp(1.0, rows.max(1.0))
    }

    /// Values of a queue that a reach is about.
    fn items(&self, queue: usize, reach: Reach) -> f64 {
        let Reach::Since(bound) = reach else { return self.queue(queue) };
        let feeds = |stream: &&std::sync::Arc<StreamPlan>| {
            stream.requests.iter().flat_map(|one| &one.feeds).any(|feed| feed.queue == queue)
        };
        let changed = self.plan.streams.iter().filter(feeds);
        changed.map(|stream| self.changed(stream, bound)).sum()
    }

    /// What several streams ask for, each its share; of a request that they share the first has it.
    pub(super) fn shares(&self, all: &[(&StreamPlan, Way)]) -> Vec<Share> {
        let mut walked: Vec<String> = Vec::new();
        let mut shares: Vec<Share> = Vec::new();
        for (place, (stream, way)) in all.iter().enumerate() {
            let mut share = Share::default();
            if way.reach != Reach::Nothing {
                share = self.alone((stream, *way), &walked);
                let walks = reach::active(stream, *way)
                    .filter(|(_, request)| matches!(request.iterate, Iterate::Once));
                walked.extend(walks.map(|(_, request)| request.listing()));
                share.add(self.shared(place, all));
            }
            shares.push(share);
        }
        shares
    }

    /// What one stream asks for, requests that it shares aside, and listings that others have `walked`.
    pub(super) fn alone(&self, (stream, way): (&StreamPlan, Way), walked: &[String]) -> Share {
        let bears = !reach::active(stream, way).any(|(_, request)| {
            matches!(request.iterate, Iterate::Once) && walked.contains(&request.listing())
        });
        let route = route_name(stream, way);
        let learnt = self.learnt(stream);
        let learnt = learnt.filter(|learnt| learnt.route == route && learnt.bearer == bears);
        match (way.reach, learnt) {
            (Reach::Nothing, _) => Share::default(),
            (Reach::Failed, _) => {
                let failed = self.recall.stream(&stream.name).failed.len();
                let count = real(u64::try_from(failed).unwrap_or(u64::MAX));
                Share { slices: count, requests: count, points: points(stream, count, count) }
            }
            (Reach::Complete, Some(learnt)) => {
                let requests = real(learnt.requests.saturating_sub(learnt.shared));
                let paid = learnt.points.saturating_sub(learnt.shared_points);
                let points = match stream.cost.base {
                    0 => 0.0,
                    _ if learnt.points > 0 => real(paid),
                    _ => points(stream, requests, real(learnt.rows.saturating_sub(learnt.derived))),
                };
                Share { slices: real(learnt.slices), requests, points }
            }
            _ => self.modelled(stream, way, walked),
        }
    }

    /// The same by what requests are like.
    fn modelled(&self, stream: &StreamPlan, way: Way, walked: &[String]) -> Share {
        let mut share = Share::default();
        let rows = self.rows_of(stream, way.reach);
        for (_, request) in reach::active(stream, way) {
            let once = matches!(request.iterate, Iterate::Once);
            if once && walked.contains(&request.listing()) {
                continue;
            }
            share.add(self.request(stream, request, way.reach, rows));
        }
        share
    }

    /// Rows that a reach brings.
    fn rows_of(&self, stream: &StreamPlan, reach: Reach) -> f64 {
        let all = self.rows(stream);
        match reach {
            Reach::Since(bound) if stream.cursor.is_some() => self.changed(stream, bound),
            Reach::Since(_) => {
                let (mut now, mut whole) = (0.0, 0.0);
                for request in stream.own_requests() {
                    if let Iterate::Queue { queue, .. } = request.iterate {
                        now += self.items(queue, reach);
                        whole += self.queue(queue);
                    }
                }
                all * now / f64::max(whole, 1.0)
            }
            _ => all,
        }
    }

    /// What a request that is not shared costs, given the rows it brings.
    fn request(
        &self,
        stream: &StreamPlan,
        request: &RequestPlan,
        reach: Reach,
        rows: f64,
    ) -> Share {
        let page = request.pager.largest_page().map_or(f64::INFINITY, f64::from);
        let sifted = !request.having.is_empty() || !request.within.is_empty();
        let mut objects = if sifted { rows * SIFTED } else { rows };
        let apart = matches!(&request.iterate, Iterate::Queue { only: Some(_), .. });
        let newest_first = stream.cursor.as_ref().is_some_and(|cursor| cursor.newest_first);
        let (slices, least) = match &request.iterate {
            Iterate::Once => (1.0, 1.0),
            Iterate::Values { values, .. } => {
                let count = real(u64::try_from(values.len()).unwrap_or(u64::MAX));
                (count, count)
            }
            Iterate::Range { from, to, step, .. } => {
                let count =
                    real(u64::try_from(to.saturating_sub(*from) / (*step).max(1)).unwrap_or(0))
                        + 1.0;
                (count, count)
            }
            Iterate::Queue { queue, chunk, only, .. } => {
                let items = self.items(*queue, reach);
                let slices = match chunk {
                    Some(chunk) => (items / real(u64::try_from(*chunk).unwrap_or(1))).ceil(),
                    None => items,
                };
                if request.routed.found.is_some() {
                    objects += items;
                }
                let asked = match only {
                    Some(_) => items * APART,
                    None => slices * (1.0 - self.derived(stream, request)),
                };
                if only.is_some() {
                    objects *= APART;
                } else {
                    objects *= 1.0 - self.derived_rows(stream, request, rows);
                }
                (slices, asked)
            }
        };
        if request.routed.silent {
            return Share { slices, ..Share::default() };
        }
        if request.routed.embedded.is_some() {
            // What it asks for by itself is told with what it shares.
            return Share { slices, ..Share::default() };
        }
        if newest_first && matches!(reach, Reach::Since(_)) {
            // The page that ends the listing brings records from before, too.
            let state = self.recall.stream(&stream.name);
            let first = opening::size((stream, request), reach, &state, self.now);
            let first = first.map_or(page, f64::from);
            let pages = ((objects - first).max(0.0) / page).ceil();
            objects = (first + pages * page).min(self.rows(stream));
        }
        let mut requests = least.max((objects / page).ceil());
        if let Some(fetch) = &request.routed.fetch {
            let unknown = self.unknown(stream);
            let chunk = real(u64::try_from(fetch.chunk).unwrap_or(u64::MAX));
            requests += (unknown / chunk.min(page)).ceil();
            objects += unknown;
        }
        if let Some(descend) = &request.descend
            && descend.unless.is_none()
        {
            requests += if apart { rows * APART } else { rows };
        }
        Share { slices, requests, points: points(stream, requests, objects) }
    }

    /// Records of a stream that look otherwise than when they were last read.
    fn unknown(&self, stream: &StreamPlan) -> f64 {
        let rows = self.rows(stream);
        let merges = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Incremental);
        let state =
            self.recall.streams.get(&stream.name).filter(|state| {
                merges && state.reads == stream.reads && state.writes == stream.writes
            });
        let known = real(self.recall.known(&stream.name));
        match state.and_then(|state| state.complete_at) {
            Some(at) => self.changed(stream, at.timestamp_micros()).max(rows - known).min(rows),
            None => rows,
        }
    }

    /// Part of the parents whose only row follows from what is known.
    fn derived(&self, stream: &StreamPlan, request: &RequestPlan) -> f64 {
        if request.routed.derive.is_none() {
            return 0.0;
        }
        let learnt = self.learnt(stream).filter(|learnt| learnt.derived > 0);
        learnt.map_or(APART, |learnt| real(learnt.derived) / real(learnt.slices.max(1)))
    }

    /// Part of the rows that follow from what is known.
    fn derived_rows(&self, stream: &StreamPlan, request: &RequestPlan, rows: f64) -> f64 {
        let Iterate::Queue { queue, .. } = request.iterate else { return 0.0 };
        let derived = self.derived(stream, request) * self.queue(queue);
        (derived / rows.max(1.0)).min(1.0)
    }

    /// The share of a stream in the requests that it has together with others, and those that it sends
    /// because nobody else wants the object.
    fn shared(&self, place: usize, all: &[(&StreamPlan, Way)]) -> Share {
        let mut share = Share::default();
        let Some((stream, way)) = all.get(place) else { return share };
        for (_, request) in reach::active(stream, *way) {
            let (Some(embedded), Iterate::Queue { queue, .. }) =
                (&request.routed.embedded, &request.iterate)
            else {
                continue;
            };
            let items = self.items(*queue, way.reach);
            let mut first = None;
            let (mut none, mut others) = (1.0, 1.0);
            let mut one = 0.0;
            for (at, (other, theirs)) in all.iter().enumerate() {
                for (_, theirs) in reach::active(other, *theirs) {
                    let same =
                        theirs.routed.embedded.as_ref().is_some_and(|e| e.path == embedded.path);
                    if !same {
                        continue;
                    }
                    let apart = self.derived(other, theirs);
                    one = one * apart + none * (1.0 - apart);
                    none *= apart;
                    if at != place {
                        others *= apart;
                    }
                    first = first.or(Some(at));
                }
            }
            let wants = 1.0 - self.derived(stream, request);
            let single = items * wants * others;
            let joint = items * (1.0 - none - one).max(0.0);
            let rows = self.rows_of(stream, way.reach);
            let objects = rows * (1.0 - self.derived_rows(stream, request, rows));
            let learnt = self.learnt(stream).filter(|learnt| {
                learnt.route == route_name(stream, *way) && way.reach == Reach::Complete
            });
            // Among what was learnt are those that it sent by itself then.
            let sent =
                learnt.as_ref().map_or(0.0, |one| real(one.requests.saturating_sub(one.shared)));
            let requests = (single - sent).max(0.0);
            share.requests += requests;
            share.points += requests * real(stream.cost.base);
            let paid = learnt.filter(|learnt| learnt.points > 0).map_or(0.0, |learnt| {
                real(learnt.points.saturating_sub(learnt.shared_points))
                    - sent * real(stream.cost.base)
            });
            let inside = (objects * real(stream.cost.object) - paid.max(0.0)).max(0.0);
            share.points += inside;
            if first == Some(place) {
                share.requests += joint;
                share.points += joint * real(stream.cost.base + stream.cost.carrier);
            }
        }
        share
    }

    /// What a set of ways costs: what counts most first.
    pub(super) fn price(&self, all: &[(&StreamPlan, Way)]) -> (f64, f64) {
        let mut total = Share::default();
        self.shares(all).into_iter().for_each(|share| total.add(share));
        for queue in Self::only_for(all) {
            let feeders = self.plan.streams.iter().filter(|stream| {
                stream.requests.iter().flat_map(|one| &one.feeds).any(|feed| feed.queue == queue)
            });
            for feeder in feeders {
                total.add(self.alone((feeder, Way { reach: Reach::Complete, route: 0 }), &[]));
            }
        }
        let counts_points = all.iter().any(|(stream, _)| stream.cost.base > 0);
        if counts_points { (total.points, total.requests) } else { (total.requests, total.points) }
    }

    /// Queues that these ways need and the streams' own requests do not.
    fn only_for(all: &[(&StreamPlan, Way)]) -> Vec<usize> {
        let own = |stream: &StreamPlan| -> Vec<usize> {
            stream.own_requests().iter().flat_map(reach::queues).collect()
        };
        let mut only: Vec<usize> = Vec::new();
        for (stream, way) in all {
            let known = own(stream);
            let needed =
                reach::active(stream, *way).flat_map(|(_, request)| reach::queues(request));
            only.extend(needed.filter(|queue| !known.contains(queue)));
        }
        only.sort_unstable();
        only.dedup();
        only
    }

    /// Why a stream is read in this way.
    pub(super) fn why(&self, stream: &StreamPlan, way: Way, all: &[(&StreamPlan, Way)]) -> String {
        if way.reach == Reach::Nothing {
            return "fresh enough".to_owned();
        }
        if !reach::has_own_requests(stream, way.reach) {
            return "what changed".to_owned();
        }
        if stream.routes.len() < 2 {
            return "the only route".to_owned();
        }
        if stream.wanted == Some(way.route) {
            return "asked for".to_owned();
        }
        let priced = |route: usize| {
            let set: Vec<_> = all
                .iter()
                .map(|(other, theirs)| {
                    let same = other.name == stream.name;
                    (*other, if same { Way { route, ..*theirs } } else { *theirs })
                })
                .collect();
            self.price(&set).0
        };
        let unit = if stream.cost.base > 0 { "points" } else { "requests" };
        if way.route == 0 {
            let refused = self.recall.streams.get(&stream.name).map(|state| &state.refused);
            let refused = refused.into_iter().flatten().map(|(route, _)| format!("`{route}`"));
            let refused = refused.collect::<Vec<_>>().join(", ");
            return if refused.is_empty() {
                format!("the fewest {unit}")
            } else {
                format!("the API refused {refused}")
            };
        }
        match whole(priced(0) - priced(way.route)) {
            0 => format!("as few {unit} as any"),
            saved => format!("saves {} {unit}", thousands(saved)),
        }
    }
}
