//! What a request may cost before it is answered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::Cost;

/// Part of a budget, one in so many, up to which a request reserves what it may cost at most. Where one
/// request may cost more, reserving all that would leave too much of the budget unused in the end.
const PART: u64 = 36;

/// Objects that answers to a request bring.
#[derive(Debug)]
pub(super) struct Estimate {
    /// At most, as far as is known: a page has a size, and once in a while one brings more.
    most: AtomicU64,
    /// The most that an answer has brought so far; `u64::MAX` before any.
    seen: AtomicU64,
}

impl Estimate {
    /// Before any answer: as many as a page may have.
    pub(super) fn new(largest: u64) -> Self {
        Self { most: AtomicU64::new(largest), seen: AtomicU64::new(u64::MAX) }
    }

    /// Points to reserve for a request of a run that may spend so many: what it may cost at most. Of a
    /// small budget, where that is more than a 36th of it, what answers have cost at most so far.
    pub(super) fn points(&self, cost: Cost, budget: u64) -> u64 {
        let points = |objects: u64| cost.base.saturating_add(cost.object.saturating_mul(objects));
        let most = self.most.load(Ordering::Relaxed);
        let seen = self.seen.load(Ordering::Relaxed).min(most);
        points(most).min(points(seen).max(budget / PART)).min(budget)
    }

    /// Takes note of an answer.
    pub(super) fn learn(&self, objects: u64) {
        self.most.fetch_max(objects, Ordering::Relaxed);
        let more = |seen: u64| Some(if seen == u64::MAX { objects } else { seen.max(objects) });
        self.seen.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reserves_what_it_may_cost_but_of_a_small_budget_what_it_has_cost() {
        let cost = Cost { base: 1, object: 2, carrier: 1 };
        let estimate = Estimate::new(250);
        assert_eq!(estimate.points(cost, 65_000), 501);
        assert_eq!(estimate.points(cost, 300), 300, "never more than there is");
        estimate.learn(3);
        estimate.learn(2);
        assert_eq!(estimate.points(cost, 65_000), 501);
        assert_eq!(estimate.points(cost, 3_600), 100);
        assert_eq!(estimate.points(cost, 100), 7);
        estimate.learn(300);
        assert_eq!(estimate.points(cost, 65_000), 601);
    }
}
