//! The points that this process has in hand: taken from the ledger, and not spent yet.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::quota::account::{LedgerReply, LedgerUpdate, ServerLimits, start_of};
use crate::quota::headers::ReportedQuota;
use crate::quota::request_cost::RequestCost;
use crate::quota::terms::Terms;

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
pub(crate) struct Reservations {
    /// Name of the process in the ledger.
    process: String,
    terms: Terms,
    /// What this process may spend in all.
    max: Option<u64>,
    /// What requests under way may cost at most, and those of which nobody knows what they have cost may
    /// have cost beyond what was counted.
    at_most: u64,
    start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    /// What may be spent in the window, and what was, by all, and what other processes hold; known after
    /// the first visit.
    pub(crate) budget: u64,
    pub(crate) window_spent: u64,
    pub(crate) window_held: u64,
    visited: Option<Instant>,
    /// Taken, and neither spent nor reserved.
    unspent: u64,
    /// Reserved for requests under way, and their number.
    under_way: u64,
    requests: u64,
    /// What the server has said.
    told: ServerLimits,
    /// No request may be sent before this time.
    pub(crate) hold: Option<DateTime<Utc>>,
    /// Whether no more requests are sent.
    pub(crate) done: bool,
    /// Points that were spent in the window.
    spent_now: u64,
    /// Points that were spent in all.
    pub(crate) spent: u64,
}

/// What becomes of a request that wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// What is reserved for it; whether it is time to look into the ledger beside it.
    Go(Reserved, bool),
    /// The ledger has to be visited first, for so many points.
    LedgerUpdate(u64),
    /// Not before this time.
    Hold(DateTime<Utc>),
    /// What the run may spend in all does not suffice for a request that may cost so much; whether it may
    /// once requests under way are settled.
    Max(u64, bool),
}

/// What is reserved for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// Points of the window.
    points: u64,
    /// Points that it may cost at most.
    most: u64,
}

impl Reservations {
    pub(crate) fn new(process: String, terms: Terms, max: Option<u64>) -> Self {
        Self {
            process,
            terms,
            max,
            at_most: 0,
            start: DateTime::<Utc>::MIN_UTC,
            end: DateTime::<Utc>::MIN_UTC,
            budget: terms.budget.of(terms.per_window),
            window_spent: 0,
            window_held: 0,
            visited: None,
            unspent: 0,
            under_way: 0,
            requests: 0,
            told: ServerLimits::default(),
            hold: None,
            done: false,
            spent_now: 0,
            spent: 0,
        }
    }

    /// Begins the window of this time, if it is a later one. What is under way is held on to.
    fn turn(&mut self, now: DateTime<Utc>) {
        if now >= self.end {
            let start = start_of(self.terms.window, now);
            self.begin(start, start.checked_add_signed(self.terms.window));
        }
    }

    fn begin(&mut self, start: DateTime<Utc>, end: Option<DateTime<Utc>>) {
        (self.start, self.end) = (start, end.unwrap_or(DateTime::<Utc>::MAX_UTC));
        (self.unspent, self.spent_now, self.told.spent) = (0, 0, None);
        self.visited = None;
    }

    /// Reserves points for a request, if they are in hand.
    pub(crate) fn step(
        &mut self,
        price: RequestCost<'_>,
        now: DateTime<Utc>,
        instant: Instant,
    ) -> Decision {
        self.turn(now);
        if let Some(hold) = self.hold.filter(|hold| *hold > now) {
            return Decision::Hold(hold);
        }
        let (points, most) = (price.reserve(self.budget), price.most());
        if self.max.is_some_and(|max| self.spent + self.at_most + most > max) {
            return Decision::Max(most, self.requests > 0);
        }
        let age = self.visited.map(|visited| instant.duration_since(visited));
        if age.is_none_or(|age| age >= HARD) || self.unspent < points {
            return Decision::LedgerUpdate(points);
        }
        self.unspent -= points;
        self.under_way += points;
        self.at_most += most;
        self.requests += 1;
        Decision::Go(Reserved { points, most }, age.is_none_or(|age| age >= SOFT))
    }

    /// Puts what a request has cost in place of what was reserved for it; `None`: nobody knows.
    pub(crate) fn settle(&mut self, reserved: Reserved, cost: Option<u64>, now: DateTime<Utc>) {
        self.turn(now);
        let Reserved { points: reserved, most } = reserved;
        self.at_most = self.at_most.saturating_sub(most);
        if cost.is_none() {
            self.at_most += most.saturating_sub(reserved);
        }
        let cost = cost.unwrap_or(reserved);
        self.under_way = self.under_way.saturating_sub(reserved);
        self.requests = self.requests.saturating_sub(1);
        self.spent += cost;
        self.spent_now += cost;
        // What it cost beyond that is taken from what is left, as far as there is some.
        self.unspent = (self.unspent + reserved).saturating_sub(cost);
    }

    /// Takes note of what the server says of the quota. Headers may tell of other limits too, of a
    /// second for example: those end at another time.
    pub(crate) fn hear(&mut self, quota: &ReportedQuota, now: DateTime<Utc>) {
        if !quota.binding {
            return;
        }
        self.turn(now);
        let about = quota.reset.is_none_or(|reset| (reset - self.end).abs() <= LIKE);
        // No window lasts longer than the quota's: a later reset is a mistake of the server.
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
        self.told.limit = quota.limit.or(self.told.limit);
        let limit = self.told.limit.unwrap_or(self.terms.per_window);
        let spent = quota.remaining.map(|remaining| limit.saturating_sub(remaining));
        self.told.spent = self.told.spent.max(spent);
        if quota.remaining == Some(0) {
            self.wait(self.end, now);
        }
    }

    /// Lets no request of the connection be sent before this time, or for the longest time that may be
    /// waited.
    pub(crate) fn wait(&mut self, until: DateTime<Utc>, now: DateTime<Utc>) {
        let longest = now.checked_add_signed(self.terms.max_wait);
        let until = longest.map_or(until, |longest| until.min(longest));
        self.hold = self.hold.max(Some(until));
    }

    /// What the ledger is to be asked and told, for a request that needs these points (0: none does).
    pub(crate) fn visit(&mut self, need: u64, now: DateTime<Utc>) -> LedgerUpdate {
        self.turn(now);
        let portion = if self.done { 0 } else { self.budget / PORTION };
        let aim = if need > self.unspent { need + portion } else { portion.max(need) };
        // What is more than that is given back.
        self.unspent = self.unspent.min(aim);
        LedgerUpdate {
            window: self.start,
            spent: self.spent_now,
            under_way: self.under_way,
            kept: self.unspent,
            need: need.saturating_sub(self.unspent),
            want: aim - self.unspent,
            told: self.told,
            hold: self.hold,
            ..LedgerUpdate::new(&self.process, self.terms, now)
        }
    }

    /// The last visit: all that is left is given back.
    pub(crate) fn farewell(&mut self, now: DateTime<Utc>) -> LedgerUpdate {
        self.done = true;
        LedgerUpdate { leaves: true, ..self.visit(0, now) }
    }

    /// Takes what the ledger grants, and notes what it says. Returns whether the need was met.
    pub(crate) fn take(
        &mut self,
        visit: &LedgerUpdate,
        standing: &LedgerReply,
        instant: Instant,
    ) -> bool {
        if standing.start > self.start {
            // Somebody's clock is ahead of ours.
            self.begin(standing.start, Some(standing.end));
        }
        // What was granted in a window that has ended meanwhile is gone with it.
        if standing.start == self.start {
            self.unspent += standing.granted;
            self.visited = Some(instant);
            self.budget = standing.budget;
            // What is but held is not spent.
            let held = standing.held + visit.under_way + visit.kept + standing.granted;
            self.window_spent = standing.spent.saturating_sub(held);
            self.window_held = standing.held;
        }
        self.hold = self.hold.max(standing.hold);
        visit.need.min(standing.budget) <= standing.granted
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

    /// What happens next in the life of some processes.
    #[derive(Clone, Debug)]
    enum Act {
        /// A process wants to send a request that brings so many objects at most.
        Send(u64),
        /// A request is answered, with this part of its objects in 100, and counted by the server when
        /// it came or when it was answered.
        Answer(usize, u64, bool),
        /// The process dies; its requests are counted in full.
        Die(bool),
        /// The process ends.
        End,
        /// The server tells what was spent; others have spent so much.
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
        /// Requests under way: their points, and when they were sent.
        flying: Vec<Vec<(Reserved, DateTime<Utc>)>>,
        born: u32,
        /// By hour, what the processes spent and what others did.
        ours: BTreeMap<DateTime<Utc>, u64>,
        others: BTreeMap<DateTime<Utc>, u64>,
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
                others: BTreeMap::new(),
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
                        match self.hands[who].step(price, now, instant) {
                            Decision::Go(points, _) => {
                                return self.flying[who].push((points, now));
                            }
                            Decision::LedgerUpdate(need) => {
                                let visit = self.hands[who].visit(need, now);
                                let standing = self.account.visit(&visit);
                                self.hands[who].take(&visit, &standing, instant);
                            }
                            Decision::Hold(_) | Decision::Max(..) => return,
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
                    let visit = self.hands[who].farewell(self.now);
                    self.account.visit(&visit);
                    self.hands[who] = self.hand();
                }
                Act::End => {}
                Act::Hear(more) => {
                    let hour = self.hour();
                    *self.others.entry(hour).or_default() += more;
                    let all = self.others[&hour] + self.ours.get(&hour).copied().unwrap_or(0);
                    let quota = ReportedQuota {
                        limit: Some(LIMIT),
                        remaining: Some(LIMIT.saturating_sub(all).max(1)),
                        reset: hour.checked_add_signed(self.terms.window),
                        binding: true,
                        ..ReportedQuota::default()
                    };
                    self.hands[who].hear(&quota, self.now);
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
        // The last one that has nothing under way has all that is left.
        let mut play = Play::new(BudgetLimit::Share(0.9));
        for round in 0..4_000 {
            play.act(round % 3, &Act::Send(250));
            play.act(round % 3, &Act::Answer(0, 100, true));
        }
        let (spent, most) = (play.ours[&play.hour()], 9_000);
        assert!((most * 97 / 100..=most).contains(&spent), "{spent} of {most}");
        assert!(play.hands.iter().map(|hand| hand.unspent).sum::<u64>() <= 3 * most / PORTION);
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
        let mut step = |hand: &mut Reservations| match hand.step(price, now, instant) {
            Decision::LedgerUpdate(need) => {
                let visit = hand.visit(need, now);
                let standing = account.visit(&visit);
                assert!(hand.take(&visit, &standing, instant));
                hand.step(price, now, instant)
            }
            other => other,
        };
        let mut under_way = Vec::new();
        for _ in 0..2 {
            let Decision::Go(reserved, _) = step(&mut hand) else { panic!("it has enough") };
            // Of the hour's points fewer are taken, of the run's what it may come to.
            assert_eq!((reserved.points, reserved.most), (100, 251));
            under_way.push(reserved);
        }
        assert_eq!(step(&mut hand), Decision::Max(251, true));
        hand.settle(under_way[0], Some(99), now);
        assert_eq!((step(&mut hand), hand.spent), (Decision::Max(251, true), 99));
        // Nobody knows what the other one has cost: it may have been all.
        hand.settle(under_way[1], None, now);
        assert_eq!((step(&mut hand), hand.spent), (Decision::Max(251, false), 199));
        hand.max = Some(601);
        assert!(matches!(step(&mut hand), Decision::Go(..)));
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
            hand.hear(&quota, now);
            assert_eq!(hand.hold, Some("2026-03-26T16:00:00Z".parse().unwrap()), "{reset}");
            assert_eq!(hand.told, ServerLimits::default(), "{reset}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        let mut play = Play::new(BudgetLimit::default());
        let now = play.now;
        let hand = &mut play.hands[0];
        hand.terms.max_wait = TimeDelta::minutes(5);
        hand.wait(DateTime::<Utc>::MAX_UTC, now);
        assert_eq!(hand.hold, Some(now + TimeDelta::minutes(5)));
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
        hand.hear(&burst, now);
        assert_eq!(hand.told, ServerLimits::default());
        assert_eq!(hand.hold, Some(now + TimeDelta::seconds(2)));
        let quota = ReportedQuota { reset: Some("2026-03-26T16:00:00Z".parse().unwrap()), ..burst };
        hand.hear(&quota, now);
        assert_eq!((hand.told.limit, hand.hold), (Some(5), quota.reset));
    }
}
