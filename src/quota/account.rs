//! The account of one connection: a pure function of what it was, a visit, and the time.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::quota::terms::{BudgetLimit, Terms};

/// When an account is looked at, and the length of its windows.
#[derive(Clone, Copy, Debug)]
pub struct LedgerQuery {
    /// Length of a window.
    pub window: TimeDelta,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Time after its last visit for which a process may have requests under way. What it held then counts
/// in the next window too.
const LINGERS: TimeDelta = TimeDelta::minutes(10);
/// Processes that are told apart; of more, the oldest are added up.
const PROCESSES: usize = 64;

/// What is known of a connection's quota in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Start of the window.
    pub start: DateTime<Utc>,
    /// Those who spend points.
    pub processes: BTreeMap<String, ProcessUsage>,
    /// Points that processes have spent that are gone.
    pub spent: u64,
    /// Points that others have spent at least, by the server's word.
    pub others: u64,
    /// Points in a window, where the server has said another number than the terms.
    pub limit: Option<u64>,
    /// No request may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

/// A process that spends points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Points that it has spent in the window, when it visited last.
    pub spent: u64,
    /// Points that it may have spent since.
    pub holds: u64,
    /// When that was.
    pub seen: DateTime<Utc>,
}

/// What a process tells and wants.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerUpdate {
    /// Name of the process.
    pub process: String,
    /// The terms that hold for it.
    pub terms: Terms,
    /// The time.
    pub now: DateTime<Utc>,
    /// Start of the window of which it tells.
    pub window: DateTime<Utc>,
    /// Points of requests that were answered in the window.
    pub spent: u64,
    /// Points of requests that are under way, at most, in whichever window they were sent.
    pub under_way: u64,
    /// Points that it holds for requests that were not sent yet.
    pub kept: u64,
    /// Points that it cannot do without; none of them is granted without the others.
    pub need: u64,
    /// Points that it would like to have, at least as many.
    pub want: u64,
    /// What the server has said.
    pub told: ServerLimits,
    /// No request of the connection may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
    /// Whether this is its last visit.
    pub leaves: bool,
}

/// What a server has said of its quota in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// Points in a window.
    pub limit: Option<u64>,
    /// Points that were spent by whomever.
    pub spent: Option<u64>,
}

/// What a process learns of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerReply {
    /// Start of the window.
    pub start: DateTime<Utc>,
    /// Its end.
    pub end: DateTime<Utc>,
    /// Points that are granted now.
    pub granted: u64,
    /// Points that may be spent in the window under the visitor's terms.
    pub budget: u64,
    /// Points that are taken or were spent by others.
    pub spent: u64,
    /// Of these, points that other processes hold, and may give back.
    pub held: u64,
    /// No request may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

/// What is known of a quota in the present window, for somebody who spends nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Points that processes have spent or hold.
    pub taken: u64,
    /// Points that others have spent at least, by the server's word.
    pub others: u64,
    /// Points in a window, where the server has said another number than the terms.
    pub limit: Option<u64>,
    /// The window's end.
    pub end: DateTime<Utc>,
    /// No request may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

impl Balance {
    /// What is true of this and the other.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            taken: self.taken.max(other.taken),
            others: self.others.max(other.others),
            limit: self.limit.into_iter().chain(other.limit).min(),
            end: self.end.max(other.end),
            hold: self.hold.max(other.hold),
        }
    }

    /// Points that may still be spent in the window under these terms.
    pub fn left(&self, terms: &Terms) -> u64 {
        let limit = self.limit.unwrap_or(terms.per_window);
        room((terms.budget.of(limit), limit), (self.taken, self.others))
    }
}

impl LedgerUpdate {
    /// One that has nothing to tell.
    pub fn new(process: &str, terms: Terms, now: DateTime<Utc>) -> Self {
        Self {
            process: process.to_owned(),
            terms,
            now,
            window: start_of(terms.window, now),
            spent: 0,
            under_way: 0,
            kept: 0,
            need: 0,
            want: 0,
            told: ServerLimits::default(),
            hold: None,
            leaves: false,
        }
    }
}

impl LedgerReply {
    /// What is true of this and the other.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.max(other.end),
            granted: self.granted.min(other.granted),
            budget: self.budget.min(other.budget),
            spent: self.spent.max(other.spent),
            held: self.held.max(other.held),
            hold: self.hold.max(other.hold),
        }
    }
}

impl Account {
    /// Does what a visit asks for.
    pub fn visit(&mut self, visit: &LedgerUpdate) -> LedgerReply {
        let Terms { per_window, window, budget, max_wait } = visit.terms;
        self.turn(window, visit.now);
        let same = visit.window == self.start;
        let kept = if same { visit.kept } else { 0 };
        let spent = if same { visit.spent } else { 0 };
        let spender = ProcessUsage { spent, holds: visit.under_way + kept, seen: visit.now };
        self.processes.insert(visit.process.clone(), spender);
        self.limit = visit.told.limit.or(self.limit);
        let limit = self.limit.unwrap_or(per_window);
        if let Some(told) = visit.told.spent.filter(|_| same) {
            // No more than this of the server's sum can be ours: the rest is of others.
            self.others = self.others.max(told.saturating_sub(self.taken() - kept));
        }
        // What an earlier version or a wrong clock has stored is bounded too.
        let longest = visit.now.checked_add_signed(max_wait).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let own = visit.hold.map(|hold| hold.min(longest));
        let hour = visit.now.checked_add_signed(window).unwrap_or(longest).max(longest);
        let stored = self.hold.map(|hold| hold.min(hour));
        self.hold = stored.max(own).filter(|hold| *hold > visit.now);
        let budget = budget.of(limit);
        let granted = if self.hold.is_some() { 0 } else { self.grant(visit, budget, limit) };
        if let Some(spender) = self.processes.get_mut(&visit.process) {
            spender.holds += granted;
        }
        if visit.leaves {
            self.forget(&visit.process);
        }
        let end = self.start.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let (start, spent, hold) = (self.start, self.taken() + self.others, self.hold);
        let others = self.processes.iter().filter(|(name, _)| **name != visit.process);
        let held = others.map(|(_, one)| one.holds).sum();
        LedgerReply { start, end, granted, budget, spent, held, hold }
    }

    /// Forgets until when requests are held back, and what the server has said of the quota. What processes
    /// have spent stays.
    pub fn lift(&mut self) {
        (self.hold, self.limit, self.others) = (None, None, 0);
    }

    /// What there is in the window of this time, nobody having visited.
    pub fn look(&self, LedgerQuery { window, now }: LedgerQuery) -> Balance {
        let mut then = self.clone();
        then.turn(window, now);
        let end = then.start.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let (taken, others, limit) = (then.taken(), then.others, then.limit);
        Balance { taken, others, limit, end, hold: then.hold.filter(|hold| *hold > now) }
    }

    /// Points that processes have spent or may have spent.
    fn taken(&self) -> u64 {
        let each = self.processes.values().map(|one| one.spent + one.holds);
        self.spent + each.sum::<u64>()
    }

    /// All that is wanted, else what is needed, else nothing.
    fn grant(&self, visit: &LedgerUpdate, budget: u64, limit: u64) -> u64 {
        let taken = self.taken();
        let room = room((budget, limit), (taken, self.others));
        // A need beyond the budget is met when nothing else was: it would never be otherwise.
        let need = visit.need.min(budget);
        [visit.want.max(need), need].into_iter().find(|points| *points <= room).unwrap_or(0)
    }

    /// Begins the window of this time, if it is a later one. What processes hold may be counted in it by
    /// the server, since requests are under way. A window that lies far ahead was begun by a clock that
    /// was wrong.
    fn turn(&mut self, window: TimeDelta, now: DateTime<Utc>) {
        let start = start_of(window, now);
        let wrong = start.checked_add_signed(window).is_some_and(|next| self.start > next);
        if wrong {
            *self = Self { limit: self.limit, ..Self::default() };
        }
        if start > self.start {
            (self.start, self.spent, self.others) = (start, 0, 0);
            self.processes.retain(|_, one| start - one.seen < LINGERS);
            self.processes.values_mut().for_each(|one| one.spent = 0);
        }
        while self.processes.len() >= PROCESSES {
            let oldest = self.processes.iter().min_by_key(|(_, one)| one.seen);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, process: &str) {
        let gone = self.processes.remove(process);
        self.spent += gone.map_or(0, |one| one.spent + one.holds);
    }
}

/// What is left of a budget of a limit; what others spend is no part of the budget.
fn room((budget, limit): (u64, u64), (taken, others): (u64, u64)) -> u64 {
    budget.saturating_sub(taken).min(limit.saturating_sub(others.saturating_add(taken)))
}

/// Start of the window in which a time lies.
pub fn start_of(window: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(window).unwrap_or(now)
}

impl Terms {
    /// Terms of which all may be spent.
    pub fn hourly(per_window: u64) -> Self {
        let hour = TimeDelta::hours(1);
        Self { per_window, window: hour, budget: BudgetLimit::default(), max_wait: hour }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-26T{text}Z").parse().unwrap()
    }

    const TERMS: Terms = Terms {
        per_window: 1000,
        window: TimeDelta::hours(1),
        budget: BudgetLimit::Share(1.0),
        max_wait: TimeDelta::hours(1),
    };

    /// Ann, who has spent so many points and keeps none.
    fn ann(spent: u64, time: &str) -> LedgerUpdate {
        LedgerUpdate { spent, ..LedgerUpdate::new("ann", TERMS, at(time)) }
    }

    fn bob(need: u64, time: &str) -> LedgerUpdate {
        LedgerUpdate { need, want: need, ..LedgerUpdate::new("bob", TERMS, at(time)) }
    }

    /// Somebody new takes points for good.
    fn take(account: &mut Account, points: u64, time: &str) -> u64 {
        let leaves = LedgerUpdate { leaves: true, ..bob(points, time) };
        account.visit(&leaves).granted
    }

    #[test]
    fn no_more_is_granted_than_a_window_has() {
        let mut account = Account::default();
        for _ in 0..3 {
            assert_eq!(take(&mut account, 251, "15:30:00"), 251);
        }
        assert_eq!(take(&mut account, 251, "15:30:01"), 0);
        assert_eq!(take(&mut account, 247, "15:31:00"), 247);
        let standing = account.visit(&ann(0, "15:59:59"));
        assert_eq!((standing.spent, standing.end), (1000, at("16:00:00")));
        assert_eq!(take(&mut account, 1, "15:59:59"), 0);
        assert_eq!(take(&mut account, 1, "16:00:00"), 1);
    }

    #[test]
    fn what_a_process_does_not_need_is_there_for_others() {
        let mut account = Account::default();
        assert_eq!(
            account.visit(&LedgerUpdate { need: 900, want: 900, ..ann(0, "15:30:00") }).granted,
            900
        );
        assert_eq!(take(&mut account, 101, "15:30:00"), 0);
        // It has spent 100, 50 are under way, and it keeps 50.
        let visit = LedgerUpdate { under_way: 50, kept: 50, ..ann(100, "15:31:00") };
        assert_eq!(account.visit(&visit).spent, 200);
        assert_eq!(take(&mut account, 800, "15:31:00"), 800);
        assert_eq!(take(&mut account, 1, "15:31:00"), 0);
    }

    #[test]
    fn what_is_needed_is_granted_where_what_is_wanted_is_not() {
        let mut account = Account::default();
        assert_eq!(take(&mut account, 700, "15:30:00"), 700);
        let greedy = LedgerUpdate { need: 200, want: 400, ..ann(0, "15:30:00") };
        assert_eq!(account.visit(&greedy).granted, 200);
        let more = LedgerUpdate { spent: 200, ..greedy };
        assert_eq!(account.visit(&more).granted, 0);
    }

    #[test]
    fn a_budget_leaves_the_rest_to_others() {
        let mut account = Account::default();
        let share = Terms { budget: BudgetLimit::Share(0.6), ..TERMS };
        let mine = |need| LedgerUpdate { terms: share, leaves: true, ..bob(need, "15:30:00") };
        assert_eq!(account.visit(&mine(600)).granted, 600);
        assert_eq!(account.visit(&mine(1)).granted, 0);
        // Who may spend more can go on, up to the limit.
        assert_eq!(take(&mut account, 400, "15:30:00"), 400);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
    }

    #[test]
    fn what_others_spend_is_no_part_of_the_budget_but_of_the_limit() {
        let mut account = Account::default();
        let told = ServerLimits { limit: Some(1000), spent: Some(400) };
        account.visit(&LedgerUpdate { told, ..ann(0, "15:30:00") });
        let share = Terms { budget: BudgetLimit::Share(0.5), ..TERMS };
        let mine = |need| LedgerUpdate { terms: share, leaves: true, ..bob(need, "15:30:00") };
        assert_eq!(account.visit(&mine(500)).granted, 500);
        assert_eq!(take(&mut account, 101, "15:30:00"), 0);
        assert_eq!(take(&mut account, 100, "15:30:00"), 100);
    }

    #[test]
    fn a_need_beyond_the_budget_is_met_when_nothing_else_was() {
        let mut account = Account::default();
        assert_eq!(take(&mut account, 5000, "15:30:00"), 1000);
        assert_eq!(take(&mut account, 5000, "15:30:00"), 0);
    }

    #[test]
    fn the_servers_word_counts_for_more() {
        let mut account = Account::default();
        // Of our 300, 100 are not spent: the server's 900 are 700 of others at least.
        let told = ServerLimits { limit: Some(1000), spent: Some(900) };
        account.visit(&LedgerUpdate { told, kept: 100, ..ann(200, "15:30:00") });
        assert_eq!(account.others, 700);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
        // An answer that was late knows less.
        let late = ServerLimits { limit: Some(1000), spent: Some(100) };
        account.visit(&LedgerUpdate { told: late, kept: 100, ..ann(200, "15:30:00") });
        assert_eq!(account.others, 700);
        // There is more than the terms say, in the next window too.
        let more = ServerLimits { limit: Some(5000), spent: None };
        account.visit(&LedgerUpdate { told: more, leaves: true, ..ann(300, "15:30:00") });
        assert_eq!(take(&mut account, 4000, "15:30:00"), 4000);
        assert_eq!(take(&mut account, 5000, "16:00:00"), 5000);
    }

    #[test]
    fn what_is_under_way_when_the_window_turns_counts_in_both() {
        let mut account = Account::default();
        account.visit(&LedgerUpdate { under_way: 300, kept: 100, ..ann(600, "15:59:00") });
        // Before Ann has said what became of it, all that she had in hand may be.
        assert_eq!(account.visit(&bob(0, "16:00:00")).spent, 400);
        assert_eq!(take(&mut account, 600, "16:00:00"), 600);
        let visit = LedgerUpdate { under_way: 200, ..ann(100, "16:00:01") };
        assert_eq!(account.visit(&visit).spent, 900);
    }

    #[test]
    fn a_process_that_is_killed_costs_what_it_held() {
        let mut account = Account::default();
        account.visit(&LedgerUpdate { kept: 50, ..ann(100, "15:30:00") });
        assert_eq!(account.visit(&bob(0, "15:59:59")).spent, 150);
        assert_eq!(account.visit(&bob(0, "16:00:00")).spent, 0);
        account.visit(&LedgerUpdate { kept: 50, ..ann(100, "16:58:00") });
        assert_eq!(account.visit(&bob(0, "17:00:00")).spent, 50, "it may have sent a request");
        assert_eq!(account.visit(&bob(0, "17:59:59")).spent, 50);
        assert_eq!(account.visit(&bob(0, "18:00:00")).spent, 0);
        for number in 0..200 {
            let name = format!("{number}");
            let kept = 1;
            account
                .visit(&LedgerUpdate { kept, ..LedgerUpdate::new(&name, TERMS, at("18:10:00")) });
        }
        assert_eq!(account.visit(&bob(0, "18:10:00")).spent, 200);
        assert!(account.processes.len() <= PROCESSES);
    }

    #[test]
    fn nothing_is_granted_while_the_server_wants_to_be_left_alone() {
        let mut account = Account::default();
        let hold = Some(at("16:10:00"));
        account.visit(&LedgerUpdate { hold, ..ann(0, "15:30:00") });
        // A shorter one does not end it, nor does the next window.
        account.visit(&LedgerUpdate { hold: Some(at("15:31:00")), ..ann(0, "15:30:00") });
        let held = account.visit(&bob(1, "16:09:59"));
        assert_eq!((held.granted, held.hold), (0, hold));
        assert_eq!(take(&mut account, 1, "16:10:00"), 1);
    }

    #[test]
    fn no_stored_wait_is_longer_than_the_longest() {
        // An earlier version has stored it.
        let hold = Some("9999-12-31T23:59:59Z".parse().unwrap());
        let mut account = Account { hold, ..Account::default() };
        assert_eq!(account.visit(&bob(1, "15:30:00")).hold, Some(at("16:30:00")));
        // It does not move on with later visits.
        assert_eq!(account.visit(&bob(1, "16:29:59")).granted, 0);
        assert_eq!(take(&mut account, 1, "16:30:00"), 1);
    }

    #[test]
    fn a_lifted_account_waits_no_more_and_counts_what_is_spent() {
        let mut account = Account::default();
        account.visit(&LedgerUpdate { hold: Some(at("15:50:00")), ..ann(100, "15:30:00") });
        account.lift();
        assert_eq!(take(&mut account, 1, "15:30:00"), 1);
        assert_eq!(account.taken(), 101);
    }

    #[test]
    fn a_window_of_a_wrong_clock_does_not_last() {
        let mut account = Account::default();
        let ahead = "2030-01-01T00:00:00Z".parse().unwrap();
        account.visit(&LedgerUpdate { kept: 9, ..LedgerUpdate::new("ann", TERMS, ahead) });
        assert_eq!(take(&mut account, 1000, "15:30:00"), 1000);
        // One that is a little ahead is believed.
        account.visit(&ann(0, "16:00:00"));
        assert_eq!(account.visit(&ann(0, "15:59:58")).start, at("16:00:00"));
    }

    #[test]
    fn a_look_tells_what_a_visit_would_and_changes_nothing() {
        let mut account = Account::default();
        let told = ServerLimits { limit: Some(5000), spent: Some(900) };
        account.visit(&LedgerUpdate { told, kept: 100, ..ann(200, "15:30:00") });
        let before = account.clone();
        let look = |time| account.look(LedgerQuery { window: TERMS.window, now: at(time) });
        let balance = look("15:31:00");
        assert_eq!((balance.taken, balance.others, balance.limit), (300, 700, Some(5000)));
        let share = Terms { budget: BudgetLimit::Share(0.1), ..TERMS };
        assert_eq!((balance.left(&TERMS), balance.left(&share)), (4000, 200));
        // The limit is known in the next hour, too; then nothing of it is spent.
        assert_eq!((look("18:00:00").left(&TERMS), look("18:00:00").end), (5000, at("19:00:00")));
        assert_eq!(account, before);
        let other = Balance { taken: 10, others: 800, limit: None, ..balance };
        let both = balance.and(&other);
        assert_eq!((both.taken, both.others, both.limit), (300, 800, Some(5000)));
        assert_eq!(both, other.and(&balance));
    }

    #[test]
    fn an_account_survives_being_written_down() {
        let mut account = Account::default();
        let (told, hold) =
            (ServerLimits { limit: Some(900), spent: Some(5) }, Some(at("15:40:00")));
        account.visit(&LedgerUpdate { told, hold, ..ann(7, "15:30:00") });
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
    }
}
