//! The points of a run: reserved before each try of a request, settled after it, waited for when they
//! are spent.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::fetch::HeaderMap;
use crate::ledger::{Grant, Ledger, Terms};
use crate::plan::{Cost, QuotaPlan};
use crate::quota::Quota;
use crate::report::{Event, Reporter};

/// Time after a window's end that clocks may differ by.
const MARGIN: TimeDelta = TimeDelta::seconds(1);
/// Part of an estimate that the last answer makes up: one in so many.
const WEIGHT: u64 = 8;

/// The points that a connection may spend.
pub(super) struct Purse {
    ledger: Mutex<Ledger>,
    /// The time at an instant: simulated time passes as well.
    clock: (DateTime<Utc>, Instant),
    /// End of the window whose spending was told of.
    told: Mutex<Option<DateTime<Utc>>>,
}

/// Objects that answers to a request bring, by experience.
#[derive(Debug)]
pub(super) struct Estimate(AtomicU64);

impl Estimate {
    /// Before any answer: as many as a page may have.
    pub(super) fn new(largest: u64) -> Self {
        Self(AtomicU64::new(largest * WEIGHT))
    }

    fn objects(&self) -> u64 {
        self.0.load(Ordering::Relaxed).div_ceil(WEIGHT)
    }

    /// Takes note of an answer.
    pub(super) fn learn(&self, objects: u64) {
        let learnt = |sum: u64| Some(sum - sum / WEIGHT + objects);
        // Whichever of two at once is lost, the next one makes up for it.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, learnt).ok();
    }
}

/// Points that are reserved for a try, and in which window.
pub(super) struct Reserved(DateTime<Utc>, u64);

impl Purse {
    pub(super) fn new(quota: QuotaPlan, now: DateTime<Utc>) -> Self {
        let window = TimeDelta::hours(1);
        let terms = Terms { per_window: quota.per_hour, window, share: 1.0 };
        let ledger = Mutex::new(Ledger::new(terms, now));
        Self { ledger, clock: (now, Instant::now()), told: Mutex::default() }
    }

    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.clock.1.elapsed()).unwrap_or(TimeDelta::zero());
        self.clock.0 + passed
    }

    /// Reserves what a request may cost; waits for the next window when this one is spent.
    pub(super) async fn reserve(
        &self,
        (cost, estimate): (Cost, &Estimate),
        reporter: &Arc<dyn Reporter>,
    ) -> Reserved {
        loop {
            let now = self.now();
            let points = cost.base + cost.object * estimate.objects();
            let grant = self.ledger().reserve(points, now);
            let end = match grant {
                Grant::Granted(window) => return Reserved(window, points),
                Grant::Exhausted(end) => end,
            };
            self.tell(end, reporter);
            let wait = (end - now + MARGIN).to_std().unwrap_or_default();
            tokio::time::sleep(wait).await;
        }
    }

    /// Puts what a try has cost in place of what was reserved, and takes note of what the server says.
    pub(super) fn settle(&self, reserved: &Reserved, cost: u64, headers: Option<&HeaderMap>) {
        let now = self.now();
        let mut ledger = self.ledger();
        ledger.settle(reserved.0, reserved.1, cost, now);
        if let Some(quota) = headers.and_then(|headers| Quota::read(headers, now)) {
            ledger.correct(&quota, now);
        }
    }

    /// Says once in a window that it is spent.
    fn tell(&self, end: DateTime<Utc>, reporter: &Arc<dyn Reporter>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.replace(end) != Some(end) {
            let spent = self.ledger().spent();
            let until = end.format("%H:%M UTC");
            let message = format!("{spent} points are spent; the run goes on at {until}");
            reporter.report(&Event::Warning { stream: None, message });
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
