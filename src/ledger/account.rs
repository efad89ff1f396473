//! The account of one connection: a pure function of what it was, a visit, and the time.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Budget, Terms};

/// What is known of a connection's quota in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Start of the window.
    pub start: DateTime<Utc>,
    /// Points that processes have taken and not given back.
    pub taken: u64,
    /// Points that others have spent at least, by the server's word.
    pub others: u64,
    /// Points in a window, where the server has said another number than the terms.
    pub limit: Option<u64>,
    /// No request may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

/// What a process does with an account. All points are of the window that it names.
#[derive(Clone, Debug, PartialEq)]
pub struct Visit {
    /// The terms that hold for it.
    pub terms: Terms,
    /// The time.
    pub now: DateTime<Utc>,
    /// Start of the window in which the points were taken that it has or gives back.
    pub window: Option<DateTime<Utc>>,
    /// Points of requests that were under way when the window turned: it cannot be known in which
    /// window the server counts them, so that they count in both.
    pub carried: u64,
    /// Points that it gives back.
    pub back: u64,
    /// Points that it spent without having taken them: an answer brought more than was reserved.
    pub beyond: u64,
    /// Points that it keeps and has not spent: no request that was sent so far has needed them.
    pub kept: u64,
    /// Points that it cannot do without; none of them is granted without the others.
    pub need: u64,
    /// Points that it would like to have, at least as many.
    pub want: u64,
    /// What the server has said.
    pub told: Told,
    /// No request of the connection may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

/// What a server has said of its quota in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Points in a window.
    pub limit: Option<u64>,
    /// Points that were spent by whomever.
    pub spent: Option<u64>,
}

/// What a process learns of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
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
    /// No request may be sent before this time.
    pub hold: Option<DateTime<Utc>>,
}

impl Visit {
    /// One that only looks.
    pub fn new(terms: Terms, now: DateTime<Utc>) -> Self {
        Self {
            terms,
            now,
            window: None,
            carried: 0,
            back: 0,
            beyond: 0,
            kept: 0,
            need: 0,
            want: 0,
            told: Told::default(),
            hold: None,
        }
    }
}

impl Standing {
    /// What is true of this and the other.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            start: self.start.max(other.start),
            end: self.end.max(other.end),
            granted: self.granted.min(other.granted),
            budget: self.budget.min(other.budget),
            spent: self.spent.max(other.spent),
            hold: self.hold.max(other.hold),
        }
    }
}

impl Account {
    /// Does what a visit asks for.
    pub fn visit(&mut self, visit: &Visit) -> Standing {
        let Terms { per_window, window, budget } = visit.terms;
        self.turn(window, visit.now);
        let same = visit.window == Some(self.start);
        self.taken += visit.carried + visit.beyond;
        if same {
            self.taken = self.taken.saturating_sub(visit.back);
            self.limit = visit.told.limit.or(self.limit);
        }
        let limit = self.limit.unwrap_or(per_window);
        if let Some(spent) = visit.told.spent.filter(|_| same) {
            // Of what is taken, no more than this can be in the server's sum: the rest is of others.
            let ours = self.taken.saturating_sub(visit.kept);
            self.others = self.others.max(spent.saturating_sub(ours));
        }
        self.hold = self.hold.max(visit.hold).filter(|hold| *hold > visit.now);
        let budget = budget.of(limit);
        let granted = match self.hold {
            Some(_) => 0,
            None => self.grant(visit, budget, limit),
        };
        self.taken += granted;
        let end = self.start.checked_add_signed(window).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let (start, spent, hold) = (self.start, self.taken + self.others, self.hold);
        Standing { start, end, granted, budget, spent, hold }
    }

    /// All that is wanted, else what is needed, else nothing.
    fn grant(&self, visit: &Visit, budget: u64, limit: u64) -> u64 {
        let all = limit.saturating_sub(self.others + self.taken);
        let room = budget.saturating_sub(self.taken).min(all);
        // A need beyond the budget is met when nothing else was: it would never be otherwise.
        let need = visit.need.min(budget);
        [visit.want.max(need), need].into_iter().find(|points| *points <= room).unwrap_or(0)
    }

    /// Begins the window of this time, if it is a later one. One that lies far ahead was begun by a
    /// clock that was wrong.
    fn turn(&mut self, window: TimeDelta, now: DateTime<Utc>) {
        let start = start_of(window, now);
        let wrong = start.checked_add_signed(window).is_some_and(|next| self.start > next);
        if start > self.start || wrong {
            let (limit, hold) = (self.limit, self.hold);
            *self = Self { start, limit, hold: hold.filter(|_| !wrong), ..Self::default() };
        }
    }
}

/// Start of the window in which a time lies.
pub fn start_of(window: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(window).unwrap_or(now)
}

impl Terms {
    /// Terms of which all may be spent.
    pub fn hourly(per_window: u64) -> Self {
        Self { per_window, window: TimeDelta::hours(1), budget: Budget::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-26T{text}Z").parse().unwrap()
    }

    const TERMS: Terms =
        Terms { per_window: 1000, window: TimeDelta::hours(1), budget: Budget::Share(1.0) };

    fn visit(time: &str) -> Visit {
        Visit { window: Some(start_of(TERMS.window, at(time))), ..Visit::new(TERMS, at(time)) }
    }

    fn take(account: &mut Account, points: u64, time: &str) -> u64 {
        account.visit(&Visit { need: points, want: points, ..visit(time) }).granted
    }

    #[test]
    fn no_more_is_granted_than_a_window_has() {
        let mut account = Account::default();
        for _ in 0..3 {
            assert_eq!(take(&mut account, 251, "15:30:00"), 251);
        }
        assert_eq!(take(&mut account, 251, "15:30:01"), 0);
        let standing = account.visit(&Visit { back: 450, ..visit("15:31:00") });
        assert_eq!((standing.spent, standing.end), (303, at("16:00:00")));
        assert_eq!(take(&mut account, 697, "15:31:00"), 697);
        assert_eq!(take(&mut account, 1, "15:59:59"), 0);
        assert_eq!(take(&mut account, 1, "16:00:00"), 1);
    }

    #[test]
    fn what_is_needed_is_granted_where_what_is_wanted_is_not() {
        let mut account = Account::default();
        assert_eq!(take(&mut account, 700, "15:30:00"), 700);
        let greedy = Visit { need: 200, want: 400, ..visit("15:30:00") };
        assert_eq!(account.visit(&greedy).granted, 200);
        assert_eq!(account.visit(&greedy).granted, 0);
    }

    #[test]
    fn a_budget_leaves_the_rest_to_others() {
        let mut account = Account::default();
        let share = Terms { budget: Budget::Share(0.6), ..TERMS };
        let mine = |need| Visit { need, want: need, terms: share, ..visit("15:30:00") };
        assert_eq!(account.visit(&mine(600)).granted, 600);
        assert_eq!(account.visit(&mine(1)).granted, 0);
        // Who may spend more can go on, up to the limit.
        assert_eq!(take(&mut account, 400, "15:30:00"), 400);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
    }

    #[test]
    fn what_others_spend_is_no_part_of_the_budget_but_of_the_limit() {
        let mut account = Account::default();
        let told = Told { limit: Some(1000), spent: Some(400) };
        account.visit(&Visit { told, ..visit("15:30:00") });
        let share = Terms { budget: Budget::Share(0.5), ..TERMS };
        let mine = |need| Visit { need, want: need, terms: share, ..visit("15:30:00") };
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
        assert_eq!(take(&mut account, 300, "15:30:00"), 300);
        // Of our 300, 100 are not spent: the server's 900 are 700 of others at least.
        let told = Told { limit: Some(1000), spent: Some(900) };
        account.visit(&Visit { told, kept: 100, ..visit("15:30:00") });
        assert_eq!(account.others, 700);
        assert_eq!(take(&mut account, 1, "15:30:00"), 0);
        // An answer that was late knows less.
        let late = Told { limit: Some(1000), spent: Some(100) };
        account.visit(&Visit { told: late, kept: 100, ..visit("15:30:00") });
        assert_eq!(account.others, 700);
        // There is more than the terms say, in the next window too.
        let more = Told { limit: Some(5000), spent: None };
        account.visit(&Visit { told: more, ..visit("15:30:00") });
        assert_eq!(take(&mut account, 4000, "15:30:00"), 4000);
        assert_eq!(take(&mut account, 5000, "16:00:00"), 5000);
    }

    #[test]
    fn what_was_under_way_counts_in_both_windows() {
        let mut account = Account::default();
        assert_eq!(take(&mut account, 1000, "15:59:59"), 1000);
        let first = Visit { carried: 300, need: 800, want: 800, ..visit("16:00:00") };
        assert_eq!(account.visit(&first).granted, 0);
        assert_eq!(take(&mut account, 700, "16:00:00"), 700);
        // What comes back too late is of a window that has gone.
        let old = Visit { window: Some(at("15:00:00")), back: 500, ..visit("16:00:01") };
        assert_eq!(account.visit(&old).spent, 1000);
    }

    #[test]
    fn nothing_is_granted_while_the_server_wants_to_be_left_alone() {
        let mut account = Account::default();
        let hold = Some(at("16:10:00"));
        account.visit(&Visit { hold, ..visit("15:30:00") });
        // A shorter one does not end it, nor does the next window.
        account.visit(&Visit { hold: Some(at("15:31:00")), ..visit("15:30:00") });
        let held = account.visit(&Visit { need: 1, want: 1, ..visit("16:09:59") });
        assert_eq!((held.granted, held.hold), (0, hold));
        assert_eq!(take(&mut account, 1, "16:10:00"), 1);
    }

    #[test]
    fn a_window_of_a_wrong_clock_does_not_last() {
        let mut account = Account::default();
        account.visit(&Visit::new(TERMS, "2030-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(take(&mut account, 1000, "15:30:00"), 1000);
        // One that is a little ahead is believed.
        account.visit(&visit("16:00:00"));
        assert_eq!(account.visit(&visit("15:59:58")).start, at("16:00:00"));
    }

    #[test]
    fn an_account_survives_being_written_down() {
        let mut account = Account::default();
        let (told, hold) = (Told { limit: Some(900), spent: Some(5) }, Some(at("15:40:00")));
        account.visit(&Visit { told, hold, need: 7, want: 7, ..visit("15:30:00") });
        let text = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&text).unwrap(), account);
    }
}
