//! What was spent of a quota in the present window: reserved before a request, settled after it,
//! corrected by what the server says.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use crate::quota::Quota;

/// What may be spent, and on what terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Points in a window.
    pub per_window: u64,
    /// Length of a window; windows begin at whole multiples of it since 1970 (an hour: at the top of
    /// the UTC hour).
    pub window: TimeDelta,
    /// Share of the quota, 0 to 1, that may be spent here; the rest is for others.
    pub share: f64,
}

/// Points spent in a window by all who share the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    terms: Terms,
    /// Start of the window.
    start: DateTime<Utc>,
    /// Points of requests that were answered.
    spent: u64,
    /// Points of requests under way, as they were estimated.
    reserved: u64,
    /// What may be spent, where the server has said another limit than the terms.
    limit: Option<u64>,
}

/// What becomes of a wish to spend points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// They are reserved, in the window that starts then.
    Granted(DateTime<Utc>),
    /// There are not enough left before this time.
    Exhausted(DateTime<Utc>),
}

impl Ledger {
    /// A ledger of which nothing is known.
    pub fn new(terms: Terms, now: DateTime<Utc>) -> Self {
        Self { terms, start: start_of(terms.window, now), spent: 0, reserved: 0, limit: None }
    }

    /// Reserves points for a request. One that alone is more than a window may spend goes when the window
    /// is untouched, since it would never go otherwise.
    pub fn reserve(&mut self, points: u64, now: DateTime<Utc>) -> Grant {
        self.turn(now);
        let taken = self.spent + self.reserved;
        if taken > 0 && taken + points > self.budget() {
            return Grant::Exhausted(self.end());
        }
        self.reserved += points;
        Grant::Granted(self.start)
    }

    /// Puts what a request has cost in place of what was reserved for it, in the window that was granted.
    pub fn settle(&mut self, granted: DateTime<Utc>, reserved: u64, cost: u64, now: DateTime<Utc>) {
        self.turn(now);
        // What was asked for in an earlier window may have been counted in this one by the server.
        if granted == self.start {
            self.reserved = self.reserved.saturating_sub(reserved);
        }
        self.spent += cost;
    }

    /// Takes note of what the server says. Its word counts for more than the sum of our own, unless it
    /// comes from before requests that are under way.
    pub fn correct(&mut self, quota: &Quota, now: DateTime<Utc>) {
        if !quota.binding {
            return;
        }
        self.turn(now);
        if let Some(limit) = quota.limit {
            self.limit = Some(limit);
        }
        if let Some(remaining) = quota.remaining {
            let limit = self.limit.unwrap_or(self.terms.per_window);
            self.spent = self.spent.max(limit.saturating_sub(remaining));
        }
    }

    /// Points that were spent in the window.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// When the window ends.
    pub fn end(&self) -> DateTime<Utc> {
        self.start.checked_add_signed(self.terms.window).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Points that may be spent in the window.
    fn budget(&self) -> u64 {
        let limit = self.limit.unwrap_or(self.terms.per_window);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few hundred thousand"
        )]
        let budget = (limit as f64 * self.terms.share.clamp(0.0, 1.0)) as u64;
        budget
    }

    /// Begins the window of this time, if it is another one. What is under way is counted there again.
    fn turn(&mut self, now: DateTime<Utc>) {
        let start = start_of(self.terms.window, now);
        if start > self.start {
            (self.start, self.spent, self.reserved) = (start, 0, 0);
        }
    }
}

fn start_of(window: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(window).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-26T{text}Z").parse().unwrap()
    }

    fn ledger(share: f64) -> Ledger {
        let terms = Terms { per_window: 1000, window: TimeDelta::hours(1), share };
        Ledger::new(terms, at("15:20:00"))
    }

    #[test]
    fn no_more_is_granted_than_a_window_has() {
        let mut ledger = ledger(1.0);
        let window = at("15:00:00");
        for _ in 0..3 {
            assert_eq!(ledger.reserve(251, at("15:30:00")), Grant::Granted(window));
        }
        assert_eq!(ledger.reserve(251, at("15:30:01")), Grant::Exhausted(at("16:00:00")));
        // Answers bring less than was reserved.
        for _ in 0..3 {
            ledger.settle(window, 251, 101, at("15:31:00"));
        }
        assert_eq!(ledger.spent(), 303);
        assert_eq!(ledger.reserve(697, at("15:31:00")), Grant::Granted(window));
        assert_eq!(ledger.reserve(1, at("15:59:59")), Grant::Exhausted(at("16:00:00")));
        assert_eq!(ledger.reserve(1, at("16:00:00")), Grant::Granted(at("16:00:00")));
    }

    #[test]
    fn a_share_leaves_the_rest_to_others() {
        let mut ledger = ledger(0.6);
        assert_eq!(ledger.reserve(600, at("15:30:00")), Grant::Granted(at("15:00:00")));
        assert_eq!(ledger.reserve(1, at("15:30:00")), Grant::Exhausted(at("16:00:00")));
    }

    #[test]
    fn a_request_beyond_the_window_goes_when_nothing_else_has() {
        let mut ledger = ledger(0.1);
        assert_eq!(ledger.reserve(251, at("15:30:00")), Grant::Granted(at("15:00:00")));
        assert_eq!(ledger.reserve(251, at("15:30:00")), Grant::Exhausted(at("16:00:00")));
    }

    #[test]
    fn the_servers_word_counts_for_more() {
        let mut ledger = ledger(1.0);
        let said = |limit, remaining| Quota {
            limit: Some(limit),
            remaining: Some(remaining),
            binding: true,
            ..Quota::default()
        };
        // Others have spent as well.
        ledger.correct(&said(1000, 200), at("15:30:00"));
        assert_eq!(ledger.reserve(201, at("15:30:00")), Grant::Exhausted(at("16:00:00")));
        // An answer that was late knows less than we do.
        ledger.correct(&said(1000, 900), at("15:30:00"));
        assert_eq!(ledger.reserve(201, at("15:30:00")), Grant::Exhausted(at("16:00:00")));
        // There is more than the terms say.
        ledger.correct(&said(5000, 4200), at("15:30:00"));
        assert_eq!(ledger.reserve(4200, at("15:30:00")), Grant::Granted(at("15:00:00")));
        let announced = Quota { binding: false, ..said(10, 0) };
        ledger.correct(&announced, at("16:00:00"));
        assert_eq!(ledger.reserve(4200, at("16:00:00")), Grant::Granted(at("16:00:00")));
    }

    #[test]
    fn what_was_asked_in_an_earlier_window_counts_in_the_one_it_was_answered_in() {
        let mut ledger = ledger(1.0);
        let Grant::Granted(window) = ledger.reserve(300, at("15:59:59")) else { panic!() };
        ledger.settle(window, 300, 250, at("16:00:01"));
        assert_eq!(ledger.spent(), 250);
        assert_eq!(ledger.reserve(750, at("16:00:02")), Grant::Granted(at("16:00:00")));
    }
}
