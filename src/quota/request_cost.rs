//! The cost of a request before its response arrives.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::quota::cost::PointRates;

/// A request reserves its worst case if that is at most 1/36 of the budget. Above that, it reserves the
/// highest cost seen so far, because larger reservations would leave too much of the budget unused.
const PART: u64 = 36;

/// The cost of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestCost<'call> {
    /// Points per request and per record.
    pub(crate) cost: PointRates,
    /// Estimated number of records in the response.
    pub(crate) estimate: &'call ObjectEstimate,
    /// Requested page size, if the request has one.
    pub(crate) page: Option<u32>,
}

impl RequestCost<'_> {
    fn points(&self, objects: u64) -> u64 {
        self.cost.base.saturating_add(self.cost.object.saturating_mul(objects))
    }

    /// Upper bound of the cost in points, as far as it is known.
    pub(crate) fn upper_bound(&self) -> u64 {
        self.points(self.estimate.upper_bound(self.page))
    }

    /// Points to reserve if a window has this budget: the upper bound or, if that exceeds 1/36 of the
    /// budget, the highest cost seen so far.
    pub(crate) fn reserve(&self, budget: u64) -> u64 {
        let most = self.estimate.of_page(self.page);
        let seen = self.estimate.seen.load(Ordering::Relaxed).min(most);
        self.points(most).min(self.points(seen).max(budget / PART)).min(budget)
    }
}

/// Estimated number of records in the responses to one kind of request.
#[derive(Debug)]
pub(crate) struct ObjectEstimate {
    /// Records of the largest page.
    largest: u64,
    /// Whether `largest` is a guess, because no page size limits the number of records.
    guessed: bool,
    /// Upper bound, as far as it is known: a server may return more records than the page size.
    most: AtomicU64,
    /// The largest number of records in a response so far; `u64::MAX` before the first response.
    seen: AtomicU64,
}

impl ObjectEstimate {
    /// An estimate before the first response, for pages of at most `largest` records.
    pub(crate) fn new(largest: u64) -> Self {
        let (most, seen) = (AtomicU64::new(largest), AtomicU64::new(u64::MAX));
        Self { largest, guessed: false, most, seen }
    }

    /// An estimate before the first response, for requests without a page size.
    pub(crate) fn guessed(largest: u64) -> Self {
        Self { guessed: true, ..Self::new(largest) }
    }

    /// Upper bound of the number of records. Without a page size: twice the largest number seen so far.
    fn upper_bound(&self, page: Option<u32>) -> u64 {
        let most = self.of_page(page);
        let seen = self.seen.load(Ordering::Relaxed);
        if self.guessed { seen.saturating_mul(2).max(1).min(most) } else { most }
    }

    /// Maximum number of records of a page of this size.
    fn of_page(&self, page: Option<u32>) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        // A server that exceeded the largest page size once may ignore any size.
        let page = page.filter(|_| most <= self.largest).map_or(most, u64::from);
        most.min(page)
    }

    /// The largest number of records in a response so far; `None` before the first response.
    pub(crate) fn seen(&self) -> Option<u64> {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen < u64::MAX).then_some(seen)
    }

    /// Records the number of records in a response.
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
        assert_eq!((small.reserve(65_000), small.upper_bound()), (51, 51));
        estimate.learn(300);
        assert_eq!(price.reserve(65_000), 601);
        assert_eq!(small.upper_bound(), 601, "a server that exceeded one size may ignore any size");
    }

    #[test]
    fn what_no_page_limits_is_guessed_from_what_came() {
        let cost = PointRates { base: 1, object: 1, carrier: 1 };
        let estimate = ObjectEstimate::guessed(1_100);
        let price = RequestCost { cost, estimate: &estimate, page: None };
        assert_eq!(price.upper_bound(), 1_101);
        estimate.learn(40);
        assert_eq!((price.upper_bound(), price.reserve(65_000)), (81, 1_101));
        estimate.learn(2_000);
        assert_eq!((price.upper_bound(), price.reserve(65_000)), (2_001, 2_001));
    }
}
