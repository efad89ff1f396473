//! Estimates the cost of read plans from the estimated numbers of rows and queue values.

use std::cmp::Ordering;

use crate::plan::{Iterate, RequestPlan, RouteKind, StreamPlan};
use crate::planner::cardinality::{Assumptions, Cardinality};
use crate::planner::numbers::{real, whole};
use crate::planner::read_plan::ReadPlan;
use crate::planner::{first_page, read_plan};

/// Expected cost of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ExpectedCost {
    pub(crate) slices: f64,
    pub(crate) requests: f64,
    pub(crate) points: f64,
}

impl ExpectedCost {
    fn add(&mut self, other: Self) {
        self.slices += other.slices;
        self.requests += other.requests;
        self.points += other.points;
    }

    /// Requests and points multiplied by a factor; the slices stay.
    fn times(self, factor: f64) -> Self {
        Self { requests: self.requests * factor, points: self.points * factor, ..self }
    }
}

/// A count with thousands separators.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

fn points(stream: &StreamPlan, requests: f64, objects: f64) -> f64 {
    requests * real(stream.cost.base) + objects * real(stream.cost.object)
}

impl Cardinality<'_> {
    /// Cost of each of several streams. A shared request counts for the first of its streams.
    pub(crate) fn shares(&self, all: &[(&StreamPlan, ReadPlan)]) -> Vec<ExpectedCost> {
        let mut listed: Vec<String> = Vec::new();
        let mut shares: Vec<ExpectedCost> = Vec::new();
        for (place, (stream, read_plan)) in all.iter().enumerate() {
            let mut share = ExpectedCost::default();
            if !read_plan.is_skip() {
                share = self.alone(stream, *read_plan, &listed);
                let listings = read_plan
                    .active(stream)
                    .filter(|(_, request)| matches!(request.iterate, Iterate::Once));
                listed.extend(listings.map(|(_, request)| request.listing()));
                share.add(self.shared(place, all));
            }
            shares.push(share);
        }
        shares
    }

    /// Cost of one stream without embedded requests, and without listings in `listed`, which other streams send.
    pub(crate) fn alone(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        listed: &[String],
    ) -> ExpectedCost {
        let share = self.expected(stream, read_plan, listed);
        if !read_plan.is_full() || self.full_read(stream).is_none() {
            return share;
        }
        // A stream that had no rows may have some now.
        let mut next = share.times(self.assume.growth_of_full_read);
        next.requests += self.assume.surge;
        next.points += points(stream, self.assume.surge, self.assume.surge);
        next
    }

    /// The same, assuming that a full read costs as much as the last one.
    fn expected(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        listed: &[String],
    ) -> ExpectedCost {
        let bears = !read_plan.active(stream).any(|(_, request)| {
            matches!(request.iterate, Iterate::Once) && listed.contains(&request.listing())
        });
        let route = read_plan.route_name(stream);
        let full_read = self.full_read(stream);
        let full_read =
            full_read.filter(|full_read| full_read.route == route && full_read.bearer == bears);
        match (read_plan, full_read) {
            (ReadPlan::Skip, _) => ExpectedCost::default(),
            (ReadPlan::Retry, _) => {
                let failed = self.saved.stream(&stream.name).refused_slices.len();
                let count = real(u64::try_from(failed).unwrap_or(u64::MAX));
                ExpectedCost {
                    slices: count,
                    requests: count,
                    points: points(stream, count, count),
                }
            }
            (ReadPlan::Full { .. } | ReadPlan::FromAnchor, Some(full_read)) => {
                let requests = real(full_read.requests.saturating_sub(full_read.shared));
                let paid = full_read.points.saturating_sub(full_read.shared_points);
                let points = match stream.cost.base {
                    0 => 0.0,
                    // A stream that sends no requests of its own pays no points here. `shared` adds the points
                    // of embedded records.
                    _ if full_read.points > 0 || requests <= 0.0 => real(paid),
                    _ => points(
                        stream,
                        requests,
                        real(full_read.rows.saturating_sub(full_read.derived)),
                    ),
                };
                ExpectedCost { slices: real(full_read.slices), requests, points }
            }
            _ => self.modelled(stream, read_plan, listed),
        }
    }

    /// The same, computed from the requests.
    fn modelled(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        listed: &[String],
    ) -> ExpectedCost {
        let mut share = ExpectedCost::default();
        let rows = self.rows_of(stream, read_plan);
        for (_, request) in read_plan.active(stream) {
            let once = matches!(request.iterate, Iterate::Once);
            if once && listed.contains(&request.listing()) {
                continue;
            }
            share.add(self.request(stream, read_plan, request, rows));
        }
        share
    }

    /// Cost of a request that is not shared, given the number of rows that it returns.
    fn request(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        request: &RequestPlan,
        rows: f64,
    ) -> ExpectedCost {
        let page = self.page(stream, request);
        let filtered = !request.filter.is_empty() || !request.parent_in.is_empty();
        let mut objects = if filtered { rows * self.assume.filtered } else { rows };
        let apart = matches!(&request.iterate, Iterate::Queue { only: Some(_), .. });
        let newest_first = stream.cursor.as_ref().is_some_and(|cursor| cursor.newest_first);
        let Assumptions { apart: parted, .. } = self.assume;
        // Values of chunks that no response contains.
        let mut missed = 0.0;
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
                let items = self.items(*queue, stream, read_plan);
                let slices = match chunk {
                    Some(chunk) => (items / real(u64::try_from(*chunk).unwrap_or(1))).ceil(),
                    None => items,
                };
                if request.kind.covers().is_some() {
                    objects += items;
                    missed = items * self.assume.missed;
                }
                let asked = match only {
                    Some(_) => items * parted,
                    None => slices * (1.0 - self.derived(stream, read_plan, request)),
                };
                if only.is_some() {
                    objects *= parted;
                } else {
                    objects *= 1.0 - self.derived_rows(stream, read_plan, request, rows);
                }
                (slices, asked)
            }
        };
        if matches!(request.kind, RouteKind::NoRequest | RouteKind::Embedded(_)) {
            // `shared` counts what embedded requests cost.
            return ExpectedCost { slices, ..ExpectedCost::default() };
        }
        if newest_first && read_plan.bound().is_some() {
            // The last page also contains records that have not changed.
            let state = self.saved.streams.get(&stream.name);
            let first = state
                .and_then(|state| first_page::size(stream, request, read_plan, state, self.now))
                .map_or(page, f64::from);
            let pages = ((objects - first).max(0.0) / page).ceil();
            // A filtered listing may have any number of records, except for the lower bound.
            let most = if filtered && self.assume.filtered > 1.0 {
                f64::INFINITY
            } else {
                (self.rows(stream) + objects) * self.assume.growth_of_full_read
            };
            objects = (first + pages * page).min(most);
        }
        let further = (objects / page).min(least) * self.assume.further;
        let mut requests = least.max((objects / page).ceil()) + missed + further;
        if let Some(fetch) = request.kind.fetch() {
            let unknown = self.unknown(stream);
            let chunk = real(u64::try_from(fetch.chunk).unwrap_or(u64::MAX));
            requests += (unknown / chunk.min(page)).ceil();
            objects += unknown;
        }
        if let Some(children) = &request.children {
            let below = if children.unless.is_none() { 1.0 } else { self.assume.below };
            requests += below * if apart { rows * parted } else { rows };
        }
        ExpectedCost { slices, requests, points: points(stream, requests, objects) }
    }

    /// Cost of a stream's embedded requests: its share of those that serve several streams, and those that only
    /// this stream needs. The first stream that needs an object requests it.
    fn shared(&self, place: usize, all: &[(&StreamPlan, ReadPlan)]) -> ExpectedCost {
        let mut share = ExpectedCost::default();
        let (stream, read_plan) = &all[place];
        for (_, request) in read_plan.active(stream) {
            let Some(embedded) = request.kind.embedded() else { continue };
            let mut objects = 0.0_f64;
            let mut wanted: Vec<(usize, f64)> = Vec::new();
            for (at, (other, theirs)) in all.iter().enumerate() {
                for (_, one) in theirs.active(other) {
                    let path = one.kind.embedded().map(|embedded| &embedded.path);
                    let Iterate::Queue { queue, .. } = one.iterate else { continue };
                    if path == Some(&embedded.path) {
                        let items = self.items(queue, other, *theirs);
                        objects = objects.max(items);
                        wanted.push((at, items * (1.0 - self.derived(other, *theirs, one))));
                    }
                }
            }
            // Assumes that streams need an object independently of each other.
            let parts =
                wanted.iter().map(|(at, wanted)| (*at, wanted / objects.max(f64::MIN_POSITIVE)));
            let (mut own, mut before, mut after) = (0.0, 1.0, 1.0);
            for (at, part) in parts {
                match at.cmp(&place) {
                    Ordering::Less => before *= 1.0 - part,
                    Ordering::Equal => own = part,
                    Ordering::Greater => after *= 1.0 - part,
                }
            }
            let single = objects * own * before * after;
            let joint = objects * own * before * (1.0 - after);
            let rows = self.rows_of(stream, *read_plan);
            let inside = rows * (1.0 - self.derived_rows(stream, *read_plan, request, rows));
            let full_read = self.full_read(stream).filter(|full_read| {
                full_read.route == read_plan.route_name(stream) && read_plan.is_full()
            });
            // The last full read included the requests that the stream sent itself.
            let sent =
                full_read.as_ref().map_or(0.0, |one| real(one.requests.saturating_sub(one.shared)));
            let requests = (single - sent).max(0.0);
            let paid =
                full_read.filter(|full_read| full_read.points > 0).map_or(0.0, |full_read| {
                    real(full_read.points.saturating_sub(full_read.shared_points))
                        - sent * real(stream.cost.base)
                });
            share.requests += requests + joint;
            share.points += requests * real(stream.cost.base)
                + (inside * real(stream.cost.object) - paid.max(0.0)).max(0.0)
                + joint * real(stream.cost.base + stream.cost.carrier);
        }
        let known = read_plan.is_full() && self.full_read(stream).is_some();
        if known { share.times(self.assume.growth_of_full_read) } else { share }
    }

    /// Cost of a set of read plans: points, then requests; or requests first if the API counts no points.
    pub(crate) fn price(&self, all: &[(&StreamPlan, ReadPlan)]) -> (f64, f64) {
        let mut total = ExpectedCost::default();
        self.shares(all).into_iter().for_each(|share| total.add(share));
        for queue in Self::only_for(all) {
            let feeders = self.plan.streams.iter().filter(|stream| {
                stream.requests.iter().flat_map(|one| &one.feeds).any(|feed| feed.queue == queue)
            });
            for feeder in feeders {
                total.add(self.alone(feeder, ReadPlan::full(feeder), &[]));
            }
        }
        let counts_points = all.iter().any(|(stream, _)| stream.cost.base > 0);
        if counts_points { (total.points, total.requests) } else { (total.requests, total.points) }
    }

    /// Queues that these read plans need and the default routes do not.
    fn only_for(all: &[(&StreamPlan, ReadPlan)]) -> Vec<usize> {
        let own = |stream: &StreamPlan| -> Vec<usize> {
            stream.own_requests().iter().flat_map(read_plan::queues).collect()
        };
        let mut only: Vec<usize> = Vec::new();
        for (stream, read_plan) in all {
            let known = own(stream);
            let needed =
                read_plan.active(stream).flat_map(|(_, request)| read_plan::queues(request));
            only.extend(needed.filter(|queue| !known.contains(queue)));
        }
        only.sort_unstable();
        only.dedup();
        only
    }

    /// Reason for a read plan, for a person.
    pub(crate) fn why(
        &self,
        stream: &StreamPlan,
        read_plan: ReadPlan,
        all: &[(&StreamPlan, ReadPlan)],
    ) -> String {
        if read_plan.is_skip() {
            return "fresh enough".to_owned();
        }
        if read_plan.sends_changes(stream) {
            return "what changed".to_owned();
        }
        if stream.routes.len() < 2 {
            return "the only route".to_owned();
        }
        if stream.wanted == Some(read_plan.route()) {
            return "asked for".to_owned();
        }
        let priced = |route: usize| {
            let set: Vec<_> = all
                .iter()
                .map(|(other, theirs)| {
                    let same = other.name == stream.name;
                    (*other, if same { theirs.by_route(route) } else { *theirs })
                })
                .collect();
            self.price(&set).0
        };
        let unit = if stream.cost.base > 0 { "points" } else { "requests" };
        if read_plan.route() == 0 {
            let refused = self.saved.streams.get(&stream.name).map(|state| &state.refused_routes);
            let refused = refused.into_iter().flatten().map(|(route, _)| format!("`{route}`"));
            let refused = refused.collect::<Vec<_>>().join(", ");
            return if refused.is_empty() {
                format!("the fewest {unit}")
            } else {
                format!("the API refused {refused}")
            };
        }
        match whole(priced(0) - priced(read_plan.route())) {
            0 => format!("as few {unit} as any"),
            1 => format!("saves 1 {}", unit.trim_end_matches('s')),
            saved => format!("saves {} {unit}", thousands(saved)),
        }
    }
}
