//! Compact sets of numbers, stored as ranges. They record finished slices.

use serde::{Deserialize, Serialize};

/// A set of numbers, as sorted ranges that neither touch nor overlap. The end of a range is exclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSet(Vec<(u64, u64)>);

impl RangeSet {
    /// Adds the numbers from `from` up to, but not including, `to`.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.0.partition_point(|(_, end)| *end < from);
        let last = self.0.partition_point(|(start, _)| *start <= to);
        let touched = self.0.get(first..last).unwrap_or_default();
        let start = touched.first().map_or(from, |(start, _)| from.min(*start));
        let end = touched.last().map_or(to, |(_, end)| to.max(*end));
        self.0.splice(first..last, [(start, end)]);
    }

    /// The first number that is not in the set, from `from` on.
    pub(crate) fn free(&self, from: u64) -> u64 {
        let at = self.0.partition_point(|(_, end)| *end <= from);
        self.0.get(at).filter(|(start, _)| *start <= from).map_or(from, |(_, end)| *end)
    }

    /// The first number of the set, from `from` on.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let at = self.0.partition_point(|(_, end)| *end <= from);
        self.0.get(at).map(|(start, _)| from.max(*start))
    }

    /// Number of elements.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut spans = RangeSet::default();
        for (from, to) in [(5, 6), (1, 2), (3, 4), (2, 3), (9, 9), (8, 12), (4, 5)] {
            spans.insert(from, to);
        }
        assert_eq!(spans, RangeSet(vec![(1, 6), (8, 12)]));
        assert_eq!(spans.count(), 9);
        let free: Vec<u64> = [0, 1, 5, 6, 8, 20].map(|from| spans.free(from)).to_vec();
        assert_eq!(free, [0, 6, 6, 6, 12, 20]);
        let next: Vec<_> = [0, 3, 6, 11, 12].map(|from| spans.next(from)).to_vec();
        assert_eq!(next, [Some(1), Some(3), Some(8), Some(11), None]);
        spans.insert(0, 30);
        assert_eq!(spans, RangeSet(vec![(0, 30)]));
    }
    /// A set with one more range, with its count.
    #[track_caller]
    fn check(before: &[(u64, u64)], (from, to): (u64, u64), expected: &[(u64, u64)], count: u64) {
        let mut set = RangeSet(before.to_vec());
        set.insert(from, to);
        assert_eq!((set.0.as_slice(), set.count()), (expected, count), "{before:?} + {from}..{to}");
    }

    #[test]
    fn a_range_is_merged_with_those_it_touches() {
        check(&[], (3, 3), &[], 0);
        check(&[], (4, 3), &[], 0);
        check(&[], (0, 1), &[(0, 1)], 1);
        check(&[(5, 7)], (0, 4), &[(0, 4), (5, 7)], 6);
        check(&[(5, 7)], (0, 5), &[(0, 7)], 7);
        check(&[(5, 7)], (7, 9), &[(5, 9)], 4);
        check(&[(5, 7)], (8, 9), &[(5, 7), (8, 9)], 3);
        check(&[(5, 7)], (5, 7), &[(5, 7)], 2);
        check(&[(5, 9)], (6, 7), &[(5, 9)], 4);
        check(&[(1, 2), (4, 5), (8, 9)], (2, 8), &[(1, 9)], 8);
        check(&[(1, 2), (4, 5), (8, 9)], (3, 6), &[(1, 2), (3, 6), (8, 9)], 5);
        check(&[(1, 2), (4, 5), (8, 9)], (0, 20), &[(0, 20)], 20);
    }
}
