//! The memory that all open Parquet writers of a target share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes of unfinished row groups that all writers together should not exceed. A writer above its
/// fair share ends its row group then, so all together hold at most twice this.
const BUDGET: usize = 8 * 1024 * 1024;

/// What all writers hold.
#[derive(Debug, Default)]
pub(super) struct Budget {
    writers: AtomicUsize,
    bytes: AtomicUsize,
}

/// What one writer holds; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        budget.writers.fetch_add(1, Relaxed);
        Self { budget, bytes: 0 }
    }

    /// Takes note of what the writer holds now.
    pub(super) fn set(&mut self, bytes: usize) {
        self.budget.bytes.fetch_add(bytes, Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// Whether this writer should let go of what it holds.
    pub(super) fn is_over(&self) -> bool {
        let fair = BUDGET / self.budget.writers.load(Relaxed).max(1);
        self.bytes >= fair && self.budget.bytes.load(Relaxed) >= BUDGET
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.budget.writers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_holds_more_than_a_fair_share_must_let_go() {
        let budget = Arc::new(Budget::default());
        let mut big = Share::new(Arc::clone(&budget));
        let mut small = Share::new(Arc::clone(&budget));
        big.set(BUDGET - 10);
        small.set(9);
        assert!(!big.is_over() && !small.is_over());
        small.set(10);
        assert!(big.is_over() && !small.is_over());
        drop(small);
        assert!(!big.is_over());
        drop(big);
        assert_eq!(budget.bytes.load(Relaxed) + budget.writers.load(Relaxed), 0);
    }
}
