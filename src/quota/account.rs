//! The account of one connection. Its next state is a pure function of the previous state and an update.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::quota::terms::{BudgetLimit, Terms};

/// The time of a query, and the length of the windows.
#[derive(Clone, Copy, Debug)]
pub struct LedgerQuery {
    /// Length of a window.
    pub window: TimeDelta,
    /// The current time.
    pub now: DateTime<Utc>,
}

/// Time after a process's last update for which its requests may still be in flight. The points that it had
/// reserved then count in the next window too.
const IN_FLIGHT_GRACE: TimeDelta = TimeDelta::minutes(10);
/// Maximum number of processes that an account lists. The oldest ones are merged into a sum.
const PROCESSES: usize = 64;

/// The use of a connection's quota in one window. Stored as JSON in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Start of the window.
    pub start: DateTime<Utc>,
    /// The processes that spend points, by name.
    pub processes: BTreeMap<String, ProcessUsage>,
    /// Points spent by processes that are no longer listed.
    pub spent: u64,
    /// Minimum number of points that other programs have spent, computed from the server's headers.
    #[serde(rename = "others")]
    pub external_spend: u64,
    /// Points per window as reported by the server; `None`: as declared in the spec.
    pub limit: Option<u64>,
    /// No request may be sent before this time.
    #[serde(rename = "hold")]
    pub not_before: Option<DateTime<Utc>>,
}

/// The points of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Points spent in the window, as of its last update.
    pub spent: u64,
    /// Points that it may have spent since then.
    #[serde(rename = "holds")]
    pub reserved: u64,
    /// Time of its last update.
    #[serde(rename = "seen")]
    pub last_update: DateTime<Utc>,
}

/// What a process reports to the ledger, and the points that it requests.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerUpdate {
    /// Name of the process.
    pub process: String,
    /// The process's terms of the quota.
    pub terms: Terms,
    /// The current time.
    pub now: DateTime<Utc>,
    /// Start of the window to which the report refers.
    pub window: DateTime<Utc>,
    /// Points of the requests answered in the window.
    pub spent: u64,
    /// Upper bound of the points of requests in flight, regardless of the window in which they were sent.
    pub in_flight: u64,
    /// Points that the process has reserved for requests that it has not sent yet.
    pub available: u64,
    /// Minimum number of points that the process requests. The ledger grants all of them or none.
    pub need: u64,
    /// Number of points that the process prefers; at least `need`.
    pub want: u64,
    /// What the server reported.
    pub reported: ServerLimits,
    /// No request of the connection may be sent before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether this is the process's last update.
    pub is_last: bool,
}

/// What a server reported about its quota in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// Points per window.
    pub limit: Option<u64>,
    /// Points spent by all clients.
    pub spent: Option<u64>,
}

/// The ledger's reply to an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerReply {
    /// Start of the window.
    pub start: DateTime<Utc>,
    /// End of the window.
    pub end: DateTime<Utc>,
    /// Points granted by this reply.
    pub granted: u64,
    /// Points per window that the process's terms allow.
    pub budget: u64,
    /// Points that all processes have spent or reserved, and that other programs have spent.
    pub spent: u64,
    /// Of these, points that other processes have reserved and may release.
    pub held: u64,
    /// No request may be sent before this time.
    pub not_before: Option<DateTime<Utc>>,
}

/// The use of a quota in the current window, for a reader that spends no points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Points that processes have spent or reserved.
    pub taken: u64,
    /// Minimum number of points that other programs have spent, computed from the server's headers.
    pub external_spend: u64,
    /// Points per window as reported by the server; `None`: as declared in the spec.
    pub limit: Option<u64>,
    /// End of the window.
    pub end: DateTime<Utc>,
    /// No request may be sent before this time.
    pub not_before: Option<DateTime<Utc>>,
}

impl Balance {
    /// The stricter combination of two balances of the same quota.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            taken: self.taken.max(other.taken),
            external_spend: self.external_spend.max(other.external_spend),
            limit: self.limit.into_iter().chain(other.limit).min(),
            end: self.end.max(other.end),
            not_before: self.not_before.max(other.not_before),
        }
    }

    /// Points that may still be spent in the window under these terms.
    pub fn left(&self, terms: &Terms) -> u64 {
        let limit = self.limit.unwrap_or(terms.per_window);
        let used = Used { taken: self.taken, external: self.external_spend };
        used.left(terms.budget.of(limit), limit)
    }
}

impl LedgerUpdate {
    /// An update that reports and requests nothing.
    pub fn new(process: &str, terms: Terms, now: DateTime<Utc>) -> Self {
        Self {
            process: process.to_owned(),
            terms,
            now,
            window: start_of(terms.window, now),
            spent: 0,
            in_flight: 0,
            available: 0,
            need: 0,
            want: 0,
            reported: ServerLimits::default(),
            not_before: None,
            is_last: false,
        }
    }
}

impl LedgerReply {
    /// The stricter combination of two ledgers' replies.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.max(other.end),
            granted: self.granted.min(other.granted),
            budget: self.budget.min(other.budget),
            spent: self.spent.max(other.spent),
            held: self.held.max(other.held),
            not_before: self.not_before.max(other.not_before),
        }
    }
}

impl Account {
    /// Applies an update, and grants the points that it requests if they are left.
    pub fn exchange(&mut self, update: &LedgerUpdate) -> LedgerReply {
        let Terms { per_window, window, budget, max_wait } = update.terms;
        self.roll_window(window, update.now);
        let same = update.window == self.start;
        let available = if same { update.available } else { 0 };
        let spent = if same { update.spent } else { 0 };
        let reserved = update.in_flight + available;
        let usage = ProcessUsage { spent, reserved, last_update: update.now };
        self.processes.insert(update.process.clone(), usage);
        self.limit = update.reported.limit.or(self.limit);
        let limit = self.limit.unwrap_or(per_window);
        if let Some(reported) = update.reported.spent.filter(|_| same) {
            // weir's processes have spent at most `taken - available` of the reported sum; other programs
            // have spent the rest.
            let external = reported.saturating_sub(self.taken() - available);
            self.external_spend = self.external_spend.max(external);
        }
        // The bound also applies to a stored time, which an older version or a wrong clock may have set.
        let longest = update.now.checked_add_signed(max_wait).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let own = update.not_before.map(|time| time.min(longest));
        let hour = update.now.checked_add_signed(window).unwrap_or(longest).max(longest);
        let stored = self.not_before.map(|time| time.min(hour));
        self.not_before = stored.max(own).filter(|time| *time > update.now);
        let budget = budget.of(limit);
        let granted = if self.not_before.is_some() { 0 } else { self.grant(update, budget, limit) };
        if let Some(usage) = self.processes.get_mut(&update.process) {
            usage.reserved += granted;
        }
        if update.is_last {
            self.forget(&update.process);
        }
        let end = self.start.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let (start, spent) = (self.start, self.taken() + self.external_spend);
        let others = self.processes.iter().filter(|(name, _)| **name != update.process);
        let held = others.map(|(_, one)| one.reserved).sum();
        LedgerReply { start, end, granted, budget, spent, held, not_before: self.not_before }
    }

    /// Clears the time before which no request may be sent, and what the server reported. The points that
    /// processes have spent stay counted.
    pub fn lift(&mut self) {
        (self.not_before, self.limit, self.external_spend) = (None, None, 0);
    }

    /// The balance of the window at a time. Changes nothing.
    pub fn peek(&self, LedgerQuery { window, now }: LedgerQuery) -> Balance {
        let mut then = self.clone();
        then.roll_window(window, now);
        let end = then.start.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Balance {
            taken: then.taken(),
            external_spend: then.external_spend,
            limit: then.limit,
            end,
            not_before: then.not_before.filter(|time| *time > now),
        }
    }

    /// Points that processes have spent or may have spent.
    fn taken(&self) -> u64 {
        let each = self.processes.values().map(|one| one.spent + one.reserved);
        self.spent + each.sum::<u64>()
    }

    /// The points that an update prefers if they are left, otherwise those that it needs, otherwise 0.
    fn grant(&self, update: &LedgerUpdate, budget: u64, limit: u64) -> u64 {
        let used = Used { taken: self.taken(), external: self.external_spend };
        let left = used.left(budget, limit);
        // A need beyond the budget is granted while the budget is untouched: it would never be granted
        // otherwise.
        let need = update.need.min(budget);
        [update.want.max(need), need].into_iter().find(|points| *points <= left).unwrap_or(0)
    }

    /// Starts the window of `now` if it is later. Points reserved by processes stay reserved, because the
    /// server may count their requests in the new window. A window far in the future is dropped: the clock
    /// that started it was wrong.
    fn roll_window(&mut self, window: TimeDelta, now: DateTime<Utc>) {
        let start = start_of(window, now);
        let wrong = start.checked_add_signed(window).is_some_and(|next| self.start > next);
        if wrong {
            *self = Self { limit: self.limit, ..Self::default() };
        }
        if start > self.start {
            (self.start, self.spent, self.external_spend) = (start, 0, 0);
            self.processes.retain(|_, one| start - one.last_update < IN_FLIGHT_GRACE);
            self.processes.values_mut().for_each(|one| one.spent = 0);
        }
        while self.processes.len() >= PROCESSES {
            let oldest = self.processes.iter().min_by_key(|(_, one)| one.last_update);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else { break };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, process: &str) {
        let removed = self.processes.remove(process);
        self.spent += removed.map_or(0, |one| one.spent + one.reserved);
    }
}

/// The points of a window that are used.
struct Used {
    /// Points that weir's processes have spent or reserved.
    taken: u64,
    /// Points that other programs have spent.
    external: u64,
}

impl Used {
    /// Points left of a budget and of the limit. Spending by other programs counts against the limit only.
    fn left(&self, budget: u64, limit: u64) -> u64 {
        let all = self.external.saturating_add(self.taken);
        budget.saturating_sub(self.taken).min(limit.saturating_sub(all))
    }
}

/// Start of the window that contains a time.
pub fn start_of(window: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(window).unwrap_or(now)
}

impl Terms {
    /// Terms with an hourly quota and no smaller budget.
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

    /// An update of the process `ann`, which has spent some points and reserved none.
    fn ann(spent: u64, time: &str) -> LedgerUpdate {
        LedgerUpdate { spent, ..LedgerUpdate::new("ann", TERMS, at(time)) }
    }

    fn bob(need: u64, time: &str) -> LedgerUpdate {
        LedgerUpdate { need, want: need, ..LedgerUpdate::new("bob", TERMS, at(time)) }
    }

    /// Another process takes points and ends.
    fn take(account: &mut Account, points: u64, time: &str) -> u64 {
        let is_last = LedgerUpdate { is_last: true, ..bob(points, time) };
        account.exchange(&is_last).granted
    }

    #[test]
    fn no_more_is_granted_than_a_window_has() {
        let mut account = Account::default();
        for _ in 0..3 {
            assert_eq!(take(&mut account, 251, "15:30:00"), 251);
        }
        assert_eq!(take(&mut account, 251, "15:30:01"), 0);
        assert_eq!(take(&mut account, 247, "15:31:00"), 247);
        let standing = account.exchange(&ann(0, "15:59:59"));
        assert_eq!((standing.spent, standing.end), (1000, at("16:00:00")));
        assert_eq!(take(&mut account, 1, "15:59:59"), 0);
        assert_eq!(take(&mut account, 1, "16:00:00"), 1);
    }

    #[test]
    fn what_a_process_does_not_need_is_there_for_others() {
        let mut account = Account::default();
        assert_eq!(
            account.exchange(&LedgerUpdate { need: 900, want: 900, ..ann(0, "15:30:00") }).granted,
            900
        );
        assert_eq!(take(&mut account, 101, "15:30:00"), 0);
        // `ann` has spent 100 points, has 50 in flight, and has reserved 50.
        let visit = LedgerUpdate { in_flight: 50, available: 50, ..ann(100, "15:31:00") };
        assert_eq!(account.exchange(&visit).spent, 200);
        assert_eq!(take(&mut account, 800, "15:31:00"), 800);
        assert_eq!(take(&mut account, 1, "15:31:00"), 0);
    }

    #[test]
    fn what_is_needed_is_granted_where_what_is_wanted_is_not() {
        let mut account = Account::default();
        assert_eq!(take(&mut account, 700, "15:30:00"), 700);
        let greedy = LedgerUpdate { need: 200, want: 400, ..ann(0, "15:30:00") };
        assert_eq!(account.exchange(&greedy).granted, 200);
        let more = LedgerUpdate { spent: 200, ..greedy };
        assert_eq!(account.exchange(&more).granted, 0);
    }

    #[test]
    fn a_budget_leaves_the_rest_to_others() {
        let mut account = Account::default();
        let share = Terms { budget: BudgetLimit::Share(0.6), ..TERMS };
        let mine = |need| LedgerUpdate { terms: share, is_last: true, ..bob(need, "15:30:00") };
        assert_eq!(account.exchange(&mine(600)).granted, 600);
        assert_eq!(account.exchange(&mine(1)).granted, 0);
        // A process with a larger budget can spend the rest, up to the limit.
        assert_eq!(take(&mut account, 400, "15:30:00"), 400);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
    }

    #[test]
    fn what_others_spend_is_no_part_of_the_budget_but_of_the_limit() {
        let mut account = Account::default();
        let reported = ServerLimits { limit: Some(1000), spent: Some(400) };
        account.exchange(&LedgerUpdate { reported, ..ann(0, "15:30:00") });
        let share = Terms { budget: BudgetLimit::Share(0.5), ..TERMS };
        let mine = |need| LedgerUpdate { terms: share, is_last: true, ..bob(need, "15:30:00") };
        assert_eq!(account.exchange(&mine(500)).granted, 500);
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
        // `ann` has spent 200 and reserved 100, so other programs spent at least 700 of the 900.
        let reported = ServerLimits { limit: Some(1000), spent: Some(900) };
        account.exchange(&LedgerUpdate { reported, available: 100, ..ann(200, "15:30:00") });
        assert_eq!(account.external_spend, 700);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
        // A late response reports an older sum.
        let late = ServerLimits { limit: Some(1000), spent: Some(100) };
        account.exchange(&LedgerUpdate { reported: late, available: 100, ..ann(200, "15:30:00") });
        assert_eq!(account.external_spend, 700);
        // The server reports a larger limit than the terms; it applies in the next window, too.
        let more = ServerLimits { limit: Some(5000), spent: None };
        account.exchange(&LedgerUpdate { reported: more, is_last: true, ..ann(300, "15:30:00") });
        assert_eq!(take(&mut account, 4000, "15:30:00"), 4000);
        assert_eq!(take(&mut account, 5000, "16:00:00"), 5000);
    }

    #[test]
    fn what_is_under_way_when_the_window_turns_counts_in_both() {
        let mut account = Account::default();
        account.exchange(&LedgerUpdate { in_flight: 300, available: 100, ..ann(600, "15:59:00") });
        // Until `ann` reports again, all points that it had reserved count.
        assert_eq!(account.exchange(&bob(0, "16:00:00")).spent, 400);
        assert_eq!(take(&mut account, 600, "16:00:00"), 600);
        let visit = LedgerUpdate { in_flight: 200, ..ann(100, "16:00:01") };
        assert_eq!(account.exchange(&visit).spent, 900);
    }

    #[test]
    fn a_process_that_is_killed_costs_what_it_held() {
        let mut account = Account::default();
        account.exchange(&LedgerUpdate { available: 50, ..ann(100, "15:30:00") });
        assert_eq!(account.exchange(&bob(0, "15:59:59")).spent, 150);
        assert_eq!(account.exchange(&bob(0, "16:00:00")).spent, 0);
        account.exchange(&LedgerUpdate { available: 50, ..ann(100, "16:58:00") });
        assert_eq!(account.exchange(&bob(0, "17:00:00")).spent, 50, "it may have sent a request");
        assert_eq!(account.exchange(&bob(0, "17:59:59")).spent, 50);
        assert_eq!(account.exchange(&bob(0, "18:00:00")).spent, 0);
        for number in 0..200 {
            let name = format!("{number}");
            let available = 1;
            account.exchange(&LedgerUpdate {
                available,
                ..LedgerUpdate::new(&name, TERMS, at("18:10:00"))
            });
        }
        assert_eq!(account.exchange(&bob(0, "18:10:00")).spent, 200);
        assert!(account.processes.len() <= PROCESSES);
    }

    #[test]
    fn nothing_is_granted_while_the_server_wants_to_be_left_alone() {
        let mut account = Account::default();
        let not_before = Some(at("16:10:00"));
        account.exchange(&LedgerUpdate { not_before, ..ann(0, "15:30:00") });
        // Neither a shorter wait nor the next window ends it.
        account.exchange(&LedgerUpdate { not_before: Some(at("15:31:00")), ..ann(0, "15:30:00") });
        let held = account.exchange(&bob(1, "16:09:59"));
        assert_eq!((held.granted, held.not_before), (0, not_before));
        assert_eq!(take(&mut account, 1, "16:10:00"), 1);
    }

    #[test]
    fn no_stored_wait_is_longer_than_the_longest() {
        // An older version may have stored it.
        let not_before = Some("9999-12-31T23:59:59Z".parse().unwrap());
        let mut account = Account { not_before, ..Account::default() };
        assert_eq!(account.exchange(&bob(1, "15:30:00")).not_before, Some(at("16:30:00")));
        // Later updates do not extend it.
        assert_eq!(account.exchange(&bob(1, "16:29:59")).granted, 0);
        assert_eq!(take(&mut account, 1, "16:30:00"), 1);
    }

    #[test]
    fn a_lifted_account_waits_no_more_and_counts_what_is_spent() {
        let mut account = Account::default();
        account
            .exchange(&LedgerUpdate { not_before: Some(at("15:50:00")), ..ann(100, "15:30:00") });
        account.lift();
        assert_eq!(take(&mut account, 1, "15:30:00"), 1);
        assert_eq!(account.taken(), 101);
    }

    #[test]
    fn a_window_of_a_wrong_clock_does_not_last() {
        let mut account = Account::default();
        let ahead = "2030-01-01T00:00:00Z".parse().unwrap();
        account.exchange(&LedgerUpdate { available: 9, ..LedgerUpdate::new("ann", TERMS, ahead) });
        assert_eq!(take(&mut account, 1000, "15:30:00"), 1000);
        // A clock that is slightly ahead is accepted.
        account.exchange(&ann(0, "16:00:00"));
        assert_eq!(account.exchange(&ann(0, "15:59:58")).start, at("16:00:00"));
    }

    #[test]
    fn a_look_tells_what_a_visit_would_and_changes_nothing() {
        let mut account = Account::default();
        let reported = ServerLimits { limit: Some(5000), spent: Some(900) };
        account.exchange(&LedgerUpdate { reported, available: 100, ..ann(200, "15:30:00") });
        let before = account.clone();
        let look = |time| account.peek(LedgerQuery { window: TERMS.window, now: at(time) });
        let balance = look("15:31:00");
        assert_eq!((balance.taken, balance.external_spend, balance.limit), (300, 700, Some(5000)));
        let share = Terms { budget: BudgetLimit::Share(0.1), ..TERMS };
        assert_eq!((balance.left(&TERMS), balance.left(&share)), (4000, 200));
        // The limit is known in the next hour too; nothing of it is spent yet.
        assert_eq!((look("18:00:00").left(&TERMS), look("18:00:00").end), (5000, at("19:00:00")));
        assert_eq!(account, before);
        let other = Balance { taken: 10, external_spend: 800, limit: None, ..balance };
        let both = balance.and(&other);
        assert_eq!((both.taken, both.external_spend, both.limit), (300, 800, Some(5000)));
        assert_eq!(both, other.and(&balance));
    }

    #[test]
    fn an_account_is_stored_in_the_same_form_by_every_version() {
        let mut account = Account::default();
        let reported = ServerLimits { limit: Some(900), spent: Some(50) };
        let not_before = Some(at("15:40:00"));
        account.exchange(&LedgerUpdate { reported, not_before, ..ann(7, "15:30:00") });
        let stored = "{\"start\":\"2026-03-26T15:00:00Z\",\"processes\":{\"ann\":{\"spent\":7,\
            \"holds\":0,\"seen\":\"2026-03-26T15:30:00Z\"}},\"spent\":0,\"others\":43,\
            \"limit\":900,\"hold\":\"2026-03-26T15:40:00Z\"}";
        assert_eq!(serde_json::to_string(&account).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Account>(stored).unwrap(), account);
    }
}
