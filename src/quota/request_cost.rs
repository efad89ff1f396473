//! What a request may cost before it is answered.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::quota::cost::PointRates;

/// Part of a budget, one in so many, up to which a request reserves what it may cost at most. Where one
/// request may cost more, reserving all that would leave too much of the budget unused in the end.
const PART: u64 = 36;

/// What a request costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestCost<'call> {
    pub(crate) cost: PointRates,
    pub(crate) estimate: &'call ObjectEstimate,
    /// Objects that the page has which is asked for, where the request takes a size.
    pub(crate) page: Option<u32>,
}

impl RequestCost<'_> {
    fn points(&self, objects: u64) -> u64 {
        self.cost.base.saturating_add(self.cost.object.saturating_mul(objects))
    }

    /// Points that it may cost at most, as far as is known.
    pub(crate) fn most(&self) -> u64 {
        self.points(self.estimate.most(self.page))
    }

    /// Points to reserve for it where so many may be spent in a window: what it may cost at most. Of a
    /// small budget, where that is more than a 36th of it, what answers have cost at most so far.
    pub(crate) fn reserve(&self, budget: u64) -> u64 {
        let most = self.estimate.of_page(self.page);
        let seen = self.estimate.seen.load(Ordering::Relaxed).min(most);
        self.points(most).min(self.points(seen).max(budget / PART)).min(budget)
    }
}

/// Objects that answers to a request bring.
#[derive(Debug)]
pub(crate) struct ObjectEstimate {
    /// Objects of the largest page.
    largest: u64,
    /// Whether that is but a guess, since no page size limits them.
    guessed: bool,
    /// At most, as far as is known: a page has a size, and once in a while one brings more.
    most: AtomicU64,
    /// The most that an answer has brought so far; `u64::MAX` before any.
    seen: AtomicU64,
}

impl ObjectEstimate {
    /// Before any answer: as many as a page may have.
    pub(crate) fn new(largest: u64) -> Self {
        let (most, seen) = (AtomicU64::new(largest), AtomicU64::new(u64::MAX));
        Self { largest, guessed: false, most, seen }
    }

    /// Before any answer, where no page size limits how many come.
    pub(crate) fn guessed(largest: u64) -> Self {
        Self { guessed: true, ..Self::new(largest) }
    }

    /// Objects that an answer may bring at most. Where no page size limits them, twice what was seen is
    /// as good a guess as any.
    fn most(&self, page: Option<u32>) -> u64 {
        let most = self.of_page(page);
        let seen = self.seen.load(Ordering::Relaxed);
        if self.guessed { seen.saturating_mul(2).max(1).min(most) } else { most }
    }

    /// Objects of a page of this size.
    fn of_page(&self, page: Option<u32>) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        // Whoever does not keep to the largest size keeps to none.
        let page = page.filter(|_| most <= self.largest).map_or(most, u64::from);
        most.min(page)
    }

    /// The most that an answer has brought so far; `None` before any.
    pub(crate) fn seen(&self) -> Option<u64> {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen < u64::MAX).then_some(seen)
    }

    /// Takes note of an answer.
    pub(crate) fn learn(&self, objects: u64) {
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
        let cost = PointRates { base: 1, object: 2, carrier: 1 };
        let estimate = ObjectEstimate::new(250);
        let price = RequestCost { cost, estimate: &estimate, page: None };
        assert_eq!(price.reserve(65_000), 501);
        assert_eq!(price.reserve(300), 300, "never more than there is");
        estimate.learn(3);
        estimate.learn(2);
        assert_eq!(price.reserve(65_000), 501);
        assert_eq!(price.reserve(3_600), 100);
        assert_eq!(price.reserve(100), 7);
        let small = RequestCost { page: Some(25), ..price };
        assert_eq!((small.reserve(65_000), small.most()), (51, 51));
        estimate.learn(300);
        assert_eq!(price.reserve(65_000), 601);
        assert_eq!(small.most(), 601, "who does not keep to a size keeps to none");
    }

    #[test]
    fn what_no_page_limits_is_guessed_from_what_came() {
        let cost = PointRates { base: 1, object: 1, carrier: 1 };
        let estimate = ObjectEstimate::guessed(1_100);
        let price = RequestCost { cost, estimate: &estimate, page: None };
        assert_eq!(price.most(), 1_101);
        estimate.learn(40);
        assert_eq!((price.most(), price.reserve(65_000)), (81, 1_101));
        estimate.learn(2_000);
        assert_eq!((price.most(), price.reserve(65_000)), (2_001, 2_001));
    }
}
