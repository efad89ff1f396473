//! The clock of a tenant.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use tokio::time::Instant;

use crate::options::Options;
use crate::tenant::facts::AFTER_ALL;

/// A wall clock that follows tokio's (possibly paused) time, in epoch milliseconds.
#[derive(Debug)]
pub(crate) struct Clock {
    base: u64,
    born: Instant,
    last: AtomicU64,
}

impl Clock {
    /// Starts at the time in the options, by default the machine's time; never before the initial data ends.
    pub(crate) fn new(options: &Options) -> Self {
        let base = options.now.unwrap_or_else(Utc::now).timestamp_millis();
        let base = u64::try_from(base).unwrap_or(0).max(AFTER_ALL);
        Self { base, born: Instant::now(), last: AtomicU64::new(base) }
    }

    /// The current time; not before the latest change.
    pub(crate) fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base.saturating_add(elapsed).max(self.last.load(Ordering::Relaxed))
    }

    /// The time for a new change; later than all earlier changes.
    pub(crate) fn tick(&self) -> u64 {
        let now = self.now();
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        let time = now.max(last + 1);
        self.last.fetch_max(time, Ordering::Relaxed);
        time
    }
}
