//! What time it is in a tenant.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use tokio::time::Instant;

use crate::options::Options;
use crate::tenant::facts::AFTER_ALL;

/// A wall clock that follows tokio's (perhaps paused) time, in epoch milliseconds.
#[derive(Debug)]
pub(crate) struct Clock {
    base: u64,
    born: Instant,
    last: AtomicU64,
}

impl Clock {
    /// Starts at the options' time, else at that of the machine; never before the initial data end.
    pub(crate) fn new(options: &Options) -> Self {
        let base = options.now.unwrap_or_else(Utc::now).timestamp_millis();
        let base = u64::try_from(base).unwrap_or(0).max(AFTER_ALL);
        Self { base, born: Instant::now(), last: AtomicU64::new(base) }
    }

    /// Now; not before the latest change.
    pub(crate) fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.base.saturating_add(elapsed).max(self.last.load(Ordering::Relaxed))
    }

    /// The time of a change: later than that of any before it.
    pub(crate) fn tick(&self) -> u64 {
        let now = self.now();
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        let time = now.max(last + 1);
        self.last.fetch_max(time, Ordering::Relaxed);
        time
    }
}
