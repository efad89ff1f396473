//! The points that this process has reserved in the ledger and not spent yet.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::quota::account::{LedgerReply, LedgerUpdate, ServerLimits, start_of};
use crate::quota::headers::ReportedQuota;
use crate::quota::request_cost::RequestCost;
use crate::quota::terms::Terms;

/// Age of the last ledger update after which requests trigger another one in the background.
const SOFT: Duration = Duration::from_millis(250);
/// Age of the last ledger update after which requests wait for another one.
const HARD: Duration = Duration::from_secs(1);
/// A process reserves 1/200 of the budget more than it needs, for its next requests.
const PORTION: u64 = 200;
/// Maximum difference between the reset time that a server reports and the end of our window at which both
/// are taken to be the same.
const LIKE: TimeDelta = TimeDelta::seconds(30);

/// The reserved points of this process.
#[derive(Debug)]
pub(crate) struct Reservations {
    /// Name of the process in the ledger.
    process: String,
    terms: Terms,
    /// Maximum number of points that this process may spend in total.
    max: Option<u64>,
    /// Upper bound of the cost of requests in flight, plus the unsettled cost of requests whose response was
    /// lost.
    worst_case: u64,
    start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// Points per window that the terms allow. Exact after the first ledger update.
    pub(crate) budget: u64,
    /// Points that all clients have spent in the window, as of the last ledger update.
    pub(crate) window_spent: u64,
    /// Points that other processes have reserved, as of the last ledger update.
    pub(crate) window_held: u64,
    updated: Option<Instant>,
    /// Points that are granted, and neither spent nor assigned to a request.
    available: u64,
    /// Points assigned to requests in flight.
    in_flight: u64,
    /// Number of requests in flight.
    requests: u64,
    /// What the server reported.
    reported: ServerLimits,
    /// No request may be sent before this time.
    pub(crate) not_before: Option<DateTime<Utc>>,
    /// Whether this process sends no more requests.
    pub(crate) done: bool,
    /// Points spent in the window.
    spent_now: u64,
    /// Points spent in total.
    pub(crate) spent: u64,
}

/// What happens to a request that is ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send it, with these points. `refresh`: a ledger update is due in the background.
    Send { reserved: Reserved, refresh: bool },
    /// Request this many points from the ledger first.
    Update(u64),
    /// Do not send it before this time.
    WaitUntil(DateTime<Utc>),
    /// Its worst case exceeds the points that the run may still spend. `settling`: requests in flight may
    /// turn out cheaper, so that points become available.
    OverMaximum { worst_case: u64, settling: bool },
}

/// The points reserved for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Points of the window.
    points: u64,
    /// Upper bound of the cost.
    upper_bound: u64,
}

impl Reservations {
    pub(crate) fn new(process: String, terms: Terms, max: Option<u64>) -> Self {
        Self {
            process,
            terms,
            max,
            worst_case: 0,
            start: DateTime::<Utc>::MIN_UTC,
            end: DateTime::<Utc>::MIN_UTC,
            budget: terms.budget.of(terms.per_window),
            window_spent: 0,
            window_held: 0,
            updated: None,
            available: 0,
            in_flight: 0,
            requests: 0,
            reported: ServerLimits::default(),
            not_before: None,
            done: false,
            spent_now: 0,
            spent: 0,
        }
    }

    /// Starts the window of `now` if it is later. Points of requests in flight stay reserved.
    fn roll_window(&mut self, now: DateTime<Utc>) {
        if now >= self.end {
            let start = start_of(self.terms.window, now);
            self.begin(start, start.checked_add_signed(self.terms.window));
        }
    }

    fn begin(&mut self, start: DateTime<Utc>, end: Option<DateTime<Utc>>) {
        (self.start, self.end) = (start, end.unwrap_or(DateTime::<Utc>::MAX_UTC));
        (self.available, self.spent_now, self.reported.spent) = (0, 0, None);
        self.updated = None;
    }

    /// Reserves points for a request if enough are available.
    pub(crate) fn decide(
        &mut self,
        cost: RequestCost<'_>,
        now: DateTime<Utc>,
        instant: Instant,
    ) -> Decision {
        self.roll_window(now);
        if let Some(time) = self.not_before.filter(|time| *time > now) {
            return Decision::WaitUntil(time);
        }
        let (points, upper_bound) = (cost.reserve(self.budget), cost.upper_bound());
        if self.max.is_some_and(|max| self.spent + self.worst_case + upper_bound > max) {
            let settling = self.requests > 0;
            return Decision::OverMaximum { worst_case: upper_bound, settling };
        }
        let age = self.updated.map(|updated| instant.duration_since(updated));
        if age.is_none_or(|age| age >= HARD) || self.available < points {
            return Decision::Update(points);
        }
        self.available -= points;
        self.in_flight += points;
        self.worst_case += upper_bound;
        self.requests += 1;
        let refresh = age.is_none_or(|age| age >= SOFT);
        Decision::Send { reserved: Reserved { points, upper_bound }, refresh }
    }

    /// Replaces the reservation of a request with its cost; `None` if the cost is unknown.
    pub(crate) fn settle(&mut self, reserved: Reserved, cost: Option<u64>, now: DateTime<Utc>) {
        self.roll_window(now);
        let Reserved { points, upper_bound } = reserved;
        self.worst_case = self.worst_case.saturating_sub(upper_bound);
        if cost.is_none() {
            self.worst_case += upper_bound.saturating_sub(points);
        }
        let cost = cost.unwrap_or(points);
        self.in_flight = self.in_flight.saturating_sub(points);
        self.requests = self.requests.saturating_sub(1);
        self.spent += cost;
        self.spent_now += cost;
        // A cost above the reservation is taken from the available points, as far as they suffice.
        self.available = (self.available + points).saturating_sub(cost);
    }

    /// Records the quota headers of a response. Headers may also describe other limits, such as one per
    /// second; those have another reset time.
    pub(crate) fn observe_headers(&mut self, quota: &ReportedQuota, now: DateTime<Utc>) {
        if !quota.binding {
            return;
        }
        self.roll_window(now);
        let about = quota.reset.is_none_or(|reset| (reset - self.end).abs() <= LIKE);
        // No window is longer than the quota's. A later reset is a mistake of the server.
        let believed = quota.reset.filter(|reset| *reset - now <= self.terms.window + LIKE);
        if quota.remaining == Some(0) {
            match (quota.reset, believed) {
                (_, Some(reset)) if reset > now => self.wait(reset, now),
                (Some(_), None) => self.wait(self.end, now),
                _ => {}
            }
        }
        if !about {
            return;
        }
        self.reported.limit = quota.limit.or(self.reported.limit);
        let limit = self.reported.limit.unwrap_or(self.terms.per_window);
        let spent = quota.remaining.map(|remaining| limit.saturating_sub(remaining));
        self.reported.spent = self.reported.spent.max(spent);
        if quota.remaining == Some(0) {
            self.wait(self.end, now);
        }
    }

    /// Delays all requests of the connection until a time, but no longer than `max_wait`.
    pub(crate) fn wait(&mut self, until: DateTime<Utc>, now: DateTime<Utc>) {
        let longest = now.checked_add_signed(self.terms.max_wait);
        let until = longest.map_or(until, |longest| until.min(longest));
        self.not_before = self.not_before.max(Some(until));
    }

    /// The update to send to the ledger for a request that needs `need` points; 0 for none.
    pub(crate) fn update(&mut self, need: u64, now: DateTime<Utc>) -> LedgerUpdate {
        self.roll_window(now);
        let portion = if self.done { 0 } else { self.budget / PORTION };
        let target = if need > self.available { need + portion } else { portion.max(need) };
        // Available points above the target are released.
        self.available = self.available.min(target);
        LedgerUpdate {
            window: self.start,
            spent: self.spent_now,
            in_flight: self.in_flight,
            available: self.available,
            need: need.saturating_sub(self.available),
            want: target - self.available,
            reported: self.reported,
            not_before: self.not_before,
            ..LedgerUpdate::new(&self.process, self.terms, now)
        }
    }

    /// The last update: releases all available points.
    pub(crate) fn release_all(&mut self, now: DateTime<Utc>) -> LedgerUpdate {
        self.done = true;
        LedgerUpdate { is_last: true, ..self.update(0, now) }
    }

    /// Applies the ledger's reply to an update. Returns whether it granted the needed points.
    pub(crate) fn apply(
        &mut self,
        update: &LedgerUpdate,
        reply: &LedgerReply,
        instant: Instant,
    ) -> bool {
        if reply.start > self.start {
            // The clock of another process is ahead of ours.
            self.begin(reply.start, Some(reply.end));
        }
        // Points granted in a window that has ended since are void.
        if reply.start == self.start {
            self.available += reply.granted;
            self.updated = Some(instant);
            self.budget = reply.budget;
            // Reserved points are not spent yet.
            let held = reply.held + update.in_flight + update.available + reply.granted;
            self.window_spent = reply.spent.saturating_sub(held);
            self.window_held = reply.held;
        }
        self.not_before = self.not_before.max(reply.not_before);
        update.need.min(reply.budget) <= reply.granted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::quota::account::Account;
    use crate::quota::cost::PointRates;
    use crate::quota::request_cost::ObjectEstimate;
    use crate::quota::terms::BudgetLimit;

    const LIMIT: u64 = 10_000;

    /// One event in the simulated life of some processes.
    #[derive(Clone, Debug)]
    enum Act {
        /// A process wants to send a request that returns at most this many records.
        Send(u64),
        /// A request is answered with this percentage of its records. The server counts it when it arrived
        /// (`true`) or when it was answered.
        Answer(usize, u64, bool),
        /// The process is killed; the server counts its requests in full.
        Die(bool),
        /// The process ends.
        End,
        /// The server reports the points spent, after other programs spent this many.
        Hear(u64),
        /// Time passes, in seconds.
        Wait(i64),
    }

    fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
        let act = prop_oneof![
            10 => (0..260_u64).prop_map(Act::Send),
            8 => (0..20_usize, 0..=100_u64, any::<bool>()).prop_map(|(n, c, w)| Act::Answer(n, c, w)),
            1 => any::<bool>().prop_map(Act::Die),
            1 => Just(Act::End),
            1 => (0..300_u64).prop_map(Act::Hear),
            3 => prop_oneof![Just(0), 1..60_i64, 1..1_500_i64].prop_map(Act::Wait),
        ];
        prop::collection::vec((0..3_usize, act), 1..400)
    }

    /// The server, which counts all points, and the processes that spend them.
    struct Play {
        now: DateTime<Utc>,
        instant: Instant,
        terms: Terms,
        account: Account,
        hands: Vec<Reservations>,
        /// Requests in flight: their points, and when they were sent.
        flying: Vec<Vec<(Reserved, DateTime<Utc>)>>,
        born: u32,
        /// By hour, the points that the processes spent, and those that other programs spent.
        ours: BTreeMap<DateTime<Utc>, u64>,
        external_spend: BTreeMap<DateTime<Utc>, u64>,
    }

    impl Play {
        fn new(budget: BudgetLimit) -> Self {
            let terms = Terms { budget, ..Terms::hourly(LIMIT) };
            let mut play = Self {
                now: "2026-03-26T15:40:00Z".parse().unwrap(),
                instant: Instant::now(),
                terms,
                account: Account::default(),
                hands: Vec::new(),
                flying: vec![Vec::new(); 3],
                born: 0,
                ours: BTreeMap::new(),
                external_spend: BTreeMap::new(),
            };
            play.hands = (0..3).map(|_| play.hand()).collect();
            play
        }

        fn hand(&mut self) -> Reservations {
            self.born += 1;
            Reservations::new(self.born.to_string(), self.terms, None)
        }

        fn hour_of(&self, time: DateTime<Utc>) -> DateTime<Utc> {
            start_of(self.terms.window, time)
        }

        fn hour(&self) -> DateTime<Utc> {
            self.hour_of(self.now)
        }

        fn is_calm(&self) -> bool {
            self.flying.iter().all(Vec::is_empty)
        }

        fn count(&mut self, hour: DateTime<Utc>, points: u64) {
            *self.ours.entry(hour).or_default() += points;
        }

        fn act(&mut self, who: usize, act: &Act) {
            let cost = PointRates { base: 1, object: 1, carrier: 1 };
            match *act {
                Act::Send(objects) => {
                    let estimate = ObjectEstimate::new(objects);
                    let price = RequestCost { cost, estimate: &estimate, page: None };
                    for _ in 0..2 {
                        let (now, instant) = (self.now, self.instant);
                        match self.hands[who].decide(price, now, instant) {
                            Decision::Send { reserved: points, .. } => {
                                return self.flying[who].push((points, now));
                            }
                            Decision::Update(need) => {
                                let update = self.hands[who].update(need, now);
                                let reply = self.account.exchange(&update);
                                self.hands[who].apply(&update, &reply, instant);
                            }
                            Decision::WaitUntil(_) | Decision::OverMaximum { .. } => return,
                        }
                    }
                }
                Act::Answer(number, part, early) if !self.flying[who].is_empty() => {
                    let number = number % self.flying[who].len();
                    let (reserved, sent) = self.flying[who].swap_remove(number);
                    let spent = 1 + (reserved.points - 1) * part / 100;
                    let hour = self.hour_of(if early { sent } else { self.now });
                    self.count(hour, spent);
                    self.hands[who].settle(reserved, Some(spent), self.now);
                }
                Act::Answer(..) => {}
                Act::Die(early) => {
                    for (reserved, sent) in std::mem::take(&mut self.flying[who]) {
                        let hour = self.hour_of(if early { sent } else { self.now });
                        self.count(hour, reserved.points);
                    }
                    self.hands[who] = self.hand();
                }
                Act::End if self.flying[who].is_empty() => {
                    let update = self.hands[who].release_all(self.now);
                    self.account.exchange(&update);
                    self.hands[who] = self.hand();
                }
                Act::End => {}
                Act::Hear(more) => {
                    let hour = self.hour();
                    *self.external_spend.entry(hour).or_default() += more;
                    let all =
                        self.external_spend[&hour] + self.ours.get(&hour).copied().unwrap_or(0);
                    let quota = ReportedQuota {
                        limit: Some(LIMIT),
                        remaining: Some(LIMIT.saturating_sub(all).max(1)),
                        reset: hour.checked_add_signed(self.terms.window),
                        binding: true,
                        ..ReportedQuota::default()
                    };
                    self.hands[who].observe_headers(&quota, self.now);
                }
                Act::Wait(seconds) => {
                    // No request takes longer than ten minutes.
                    let seconds = seconds.min(if self.is_calm() { seconds } else { 90 });
                    let now = self.now;
                    for who in 0..3 {
                        let old =
                            |one: &(Reserved, DateTime<Utc>)| now - one.1 > TimeDelta::minutes(8);
                        while let Some(number) = self.flying[who].iter().position(old) {
                            self.act(who, &Act::Answer(number, 100, false));
                        }
                    }
                    self.now += TimeDelta::seconds(seconds);
                    self.instant += Duration::from_secs(seconds.unsigned_abs());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn what_all_spend_in_an_hour_is_never_more_than_the_budget(
            acts in acts(), points in prop_oneof![Just(LIMIT), 1..LIMIT]
        ) {
            let budget = BudgetLimit::Points(points);
            let mut play = Play::new(budget);
            for (who, act) in &acts {
                play.act(*who, act);
            }
            for who in 0..3 {
                play.act(who, &Act::Die(false));
            }
            for (hour, spent) in &play.ours {
                prop_assert!(*spent <= points, "{hour}: {spent} of {points}");
            }
        }
    }

    #[test]
    fn all_processes_together_use_what_they_may() {
        // A process with no requests in flight can use all points that are left.
        let mut play = Play::new(BudgetLimit::Share(0.9));
        for round in 0..4_000 {
            play.act(round % 3, &Act::Send(250));
            play.act(round % 3, &Act::Answer(0, 100, true));
        }
        let (spent, most) = (play.ours[&play.hour()], 9_000);
        assert!((most * 97 / 100..=most).contains(&spent), "{spent} of {most}");
        assert!(play.hands.iter().map(|hand| hand.available).sum::<u64>() <= 3 * most / PORTION);
    }

    #[test]
    fn no_request_is_sent_that_may_cost_more_than_the_run_has_left() {
        let now = "2026-03-26T15:40:00Z".parse().unwrap();
        let (instant, mut account) = (Instant::now(), Account::default());
        let terms = Terms { budget: BudgetLimit::Points(3_600), ..Terms::hourly(LIMIT) };
        let mut hand = Reservations::new("one".to_owned(), terms, Some(600));
        let cost = PointRates { base: 1, object: 1, carrier: 1 };
        let estimate = ObjectEstimate::new(250);
        let price = RequestCost { cost, estimate: &estimate, page: None };
        estimate.learn(3);
        let mut decide = |hand: &mut Reservations| match hand.decide(price, now, instant) {
            Decision::Update(need) => {
                let update = hand.update(need, now);
                let reply = account.exchange(&update);
                assert!(hand.apply(&update, &reply, instant));
                hand.decide(price, now, instant)
            }
            other => other,
        };
        let mut in_flight = Vec::new();
        for _ in 0..2 {
            let Decision::Send { reserved, .. } = decide(&mut hand) else {
                panic!("it has enough")
            };
            // The hour's budget reserves less than the worst case, which counts against the run's maximum.
            assert_eq!((reserved.points, reserved.upper_bound), (100, 251));
            in_flight.push(reserved);
        }
        assert_eq!(decide(&mut hand), Decision::OverMaximum { worst_case: 251, settling: true });
        hand.settle(in_flight[0], Some(99), now);
        assert_eq!(
            (decide(&mut hand), hand.spent),
            (Decision::OverMaximum { worst_case: 251, settling: true }, 99)
        );
        // The cost of the other request is unknown: it may have been the worst case.
        hand.settle(in_flight[1], None, now);
        assert_eq!(
            (decide(&mut hand), hand.spent),
            (Decision::OverMaximum { worst_case: 251, settling: false }, 199)
        );
        hand.max = Some(601);
        assert!(matches!(decide(&mut hand), Decision::Send { .. }));
    }

    #[test]
    fn a_reset_beyond_the_window_is_not_believed() {
        for reset in ["9999-12-31T23:59:59Z", "2026-03-26T16:45:00Z"] {
            let mut play = Play::new(BudgetLimit::default());
            let now = play.now;
            let hand = &mut play.hands[0];
            let quota = ReportedQuota {
                limit: Some(7),
                remaining: Some(0),
                reset: Some(reset.parse().unwrap()),
                binding: true,
                ..ReportedQuota::default()
            };
            hand.observe_headers(&quota, now);
            assert_eq!(hand.not_before, Some("2026-03-26T16:00:00Z".parse().unwrap()), "{reset}");
            assert_eq!(hand.reported, ServerLimits::default(), "{reset}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let mut play = Play::new(BudgetLimit::default());
        let now = play.now;
        let hand = &mut play.hands[0];
        hand.terms.max_wait = TimeDelta::minutes(5);
        hand.wait(DateTime::<Utc>::MAX_UTC, now);
        assert_eq!(hand.not_before, Some(now + TimeDelta::minutes(5)));
    }

    #[test]
    fn limits_of_another_kind_are_not_taken_for_the_quota() {
        let mut play = Play::new(BudgetLimit::default());
        let now = play.now;
        let hand = &mut play.hands[0];
        let burst = ReportedQuota {
            limit: Some(5),
            remaining: Some(0),
            reset: Some(now + TimeDelta::seconds(2)),
            binding: true,
            ..ReportedQuota::default()
        };
        hand.observe_headers(&burst, now);
        assert_eq!(hand.reported, ServerLimits::default());
        assert_eq!(hand.not_before, Some(now + TimeDelta::seconds(2)));
        let quota = ReportedQuota { reset: Some("2026-03-26T16:00:00Z".parse().unwrap()), ..burst };
        hand.observe_headers(&quota, now);
        assert_eq!((hand.reported.limit, hand.not_before), (Some(5), quota.reset));
    }
}
