//! The figures of one stream while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counted by the stream's workers, all at once.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) requests: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Rows decoded, duplicates aside.
    pub(super) rows: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) misfits: AtomicU64,
    /// Slices that ended well.
    pub(super) done: AtomicU64,
    pub(super) skipped: AtomicU64,
    /// Whether something says that rows are missing.
    pub(super) incomplete: AtomicBool,
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64, number: usize) {
        counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
