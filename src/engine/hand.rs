//! The points that this process has in hand: taken from the ledger, and not spent yet.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::estimate::Estimate;
use crate::ledger::{Standing, Terms, Told, Visit, start_of};
use crate::plan::Cost;
use crate::quota::Quota;

/// Age of the last visit to the ledger at which another one is made beside the requests, and at which
/// they wait for it.
const SOFT: Duration = Duration::from_millis(250);
const HARD: Duration = Duration::from_secs(1);
/// Part of the budget, one in so many, that is taken beyond what is needed, and kept.
const PORTION: u64 = 200;
/// Time by which the server's window may end otherwise than ours, so that it is the same.
const LIKE: TimeDelta = TimeDelta::seconds(30);

/// Points in hand.
#[derive(Debug)]
pub(super) struct Hand {
    terms: Terms,
    /// What the run may spend in all.
    max: Option<u64>,
    start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
    /// What may be spent in the window, and what was, by all; known after the first visit.
    pub(super) budget: u64,
    pub(super) window_spent: u64,
    visited: Option<Instant>,
    /// Taken, and neither spent nor reserved.
    unspent: u64,
    /// Reserved for requests under way, and their number.
    under_way: u64,
    requests: u64,
    /// What the ledger has to be told.
    carried: u64,
    beyond: u64,
    told: Told,
    told_hold: Option<DateTime<Utc>>,
    /// No request may be sent before this time.
    pub(super) hold: Option<DateTime<Utc>>,
    /// Points that were spent in all.
    pub(super) spent: u64,
}

/// What becomes of a request that wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many points are reserved for it; whether it is time to look into the ledger beside it.
    Go(u64, bool),
    /// The ledger has to be visited first, for so many points.
    Visit(u64),
    /// Not before this time.
    Hold(DateTime<Utc>),
    /// What the run may spend in all does not suffice, or it does once requests under way are settled.
    Max,
}

impl Hand {
    pub(super) fn new(terms: Terms, max: Option<u64>) -> Self {
        Self {
            terms,
            max,
            start: DateTime::<Utc>::MIN_UTC,
            end: DateTime::<Utc>::MIN_UTC,
            budget: terms.budget.of(terms.per_window),
            window_spent: 0,
            visited: None,
            unspent: 0,
            under_way: 0,
            requests: 0,
            carried: 0,
            beyond: 0,
            told: Told::default(),
            told_hold: None,
            hold: None,
            spent: 0,
        }
    }

    /// Whether requests are under way, whose settlement may leave points over.
    pub(super) fn is_busy(&self) -> bool {
        self.requests > 0
    }

    /// Begins the window of this time, if it is a later one. What is under way is carried into it.
    fn turn(&mut self, now: DateTime<Utc>) {
        if now >= self.end {
            let start = start_of(self.terms.window, now);
            self.begin(start, start.checked_add_signed(self.terms.window));
        }
    }

    fn begin(&mut self, start: DateTime<Utc>, end: Option<DateTime<Utc>>) {
        (self.start, self.end) = (start, end.unwrap_or(DateTime::<Utc>::MAX_UTC));
        self.carried += self.under_way;
        (self.unspent, self.beyond, self.told.spent) = (0, 0, None);
        self.visited = None;
    }

    /// Reserves points for a request, if they are in hand.
    pub(super) fn step(
        &mut self,
        (cost, estimate): (Cost, &Estimate),
        now: DateTime<Utc>,
        instant: Instant,
    ) -> Step {
        self.turn(now);
        if let Some(hold) = self.hold.filter(|hold| *hold > now) {
            return Step::Hold(hold);
        }
        let most = self.max.map_or(self.budget, |max| max.min(self.budget));
        let points = estimate.points(cost, most);
        if self.max.is_some_and(|max| self.spent + self.under_way + points > max) {
            return Step::Max;
        }
        let age = self.visited.map(|visited| instant.duration_since(visited));
        if age.is_none_or(|age| age >= HARD) || self.unspent < points {
            return Step::Visit(points);
        }
        self.unspent -= points;
        self.under_way += points;
        self.requests += 1;
        Step::Go(points, age.is_none_or(|age| age >= SOFT))
    }

    /// Puts what a request has cost in place of what was reserved for it.
    pub(super) fn settle(&mut self, reserved: u64, cost: u64, now: DateTime<Utc>) {
        self.turn(now);
        self.under_way = self.under_way.saturating_sub(reserved);
        self.requests = self.requests.saturating_sub(1);
        self.spent += cost;
        self.unspent += reserved.saturating_sub(cost);
        let over = cost.saturating_sub(reserved);
        let covered = over.min(self.unspent);
        self.unspent -= covered;
        self.beyond += over - covered;
    }

    /// Takes note of what the server says of the quota. Headers may tell of other limits too, of a
    /// second for example: those end at another time.
    pub(super) fn hear(&mut self, quota: &Quota, now: DateTime<Utc>) {
        if !quota.binding {
            return;
        }
        self.turn(now);
        let about = quota.reset.is_none_or(|reset| (reset - self.end).abs() <= LIKE);
        if quota.remaining == Some(0) && quota.reset.is_some_and(|reset| reset > now) {
            self.wait(quota.reset.unwrap_or(self.end));
        }
        if !about {
            return;
        }
        self.told.limit = quota.limit.or(self.told.limit);
        let limit = self.told.limit.unwrap_or(self.terms.per_window);
        let spent = quota.remaining.map(|remaining| limit.saturating_sub(remaining));
        self.told.spent = self.told.spent.max(spent);
        if quota.remaining == Some(0) {
            self.wait(self.end);
        }
    }

    /// Lets no request of the connection be sent before this time.
    pub(super) fn wait(&mut self, until: DateTime<Utc>) {
        self.hold = self.hold.max(Some(until));
        self.told_hold = self.told_hold.max(Some(until));
    }

    /// What the ledger is to be asked and told, for a request that needs these points (0: none does).
    pub(super) fn visit(&mut self, need: u64, now: DateTime<Utc>) -> Visit {
        self.turn(now);
        let portion = self.budget / PORTION;
        let aim = if need > self.unspent { need + portion } else { portion.max(need) };
        let back = self.unspent.saturating_sub(aim);
        self.unspent -= back;
        Visit {
            window: Some(self.start),
            carried: std::mem::take(&mut self.carried),
            back,
            beyond: std::mem::take(&mut self.beyond),
            kept: self.unspent,
            need: need.saturating_sub(self.unspent),
            want: aim.saturating_sub(self.unspent),
            told: std::mem::take(&mut self.told),
            hold: self.told_hold.take(),
            ..Visit::new(self.terms, now)
        }
    }

    /// Gives everything back.
    pub(super) fn farewell(&mut self, now: DateTime<Utc>) -> Visit {
        let mut visit = self.visit(0, now);
        visit.back += std::mem::take(&mut self.unspent);
        (visit.kept, visit.want) = (0, 0);
        visit
    }

    /// Takes what the ledger grants, and notes what it says. Returns whether the need was met.
    pub(super) fn take(&mut self, visit: &Visit, standing: &Standing, instant: Instant) -> bool {
        if standing.start > self.start {
            // Somebody's clock is ahead of ours.
            self.begin(standing.start, Some(standing.end));
        }
        // What was granted in a window that has ended meanwhile is gone with it.
        if standing.start == self.start {
            self.unspent += standing.granted;
            self.visited = Some(instant);
            (self.budget, self.window_spent) = (standing.budget, standing.spent);
        }
        self.hold = self.hold.max(standing.hold);
        visit.need.min(standing.budget) <= standing.granted
    }

    /// Keeps for the next time what a visit that failed was to tell.
    pub(super) fn keep(&mut self, visit: &Visit) {
        if visit.window == Some(self.start) {
            self.unspent += visit.back;
            self.beyond += visit.beyond;
            self.carried += visit.carried;
            self.told.limit = self.told.limit.or(visit.told.limit);
            self.told.spent = self.told.spent.max(visit.told.spent);
        }
        self.told_hold = self.told_hold.max(visit.hold);
    }
}
