//! Pacing of requests: rate, number of requests in flight, and waits that the server requested.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Factor by which the limit of requests in flight is cut when the server is overloaded.
const CUT: f64 = 0.5;
/// Minimum time between two cuts: all requests in flight report the same overload.
const CALM: Duration = Duration::from_secs(1);
/// Responses are slow if they take this many times as long as usual, and at least this much longer.
const SLOW: f64 = 3.0;
const SLOWER: Duration = Duration::from_millis(200);

/// Paces all requests of one connection, for all streams.
///
/// A request acquires a [`ConcurrencyPermit`], then waits for its slot in the schedule. Slots are
/// `1 / requests_per_second` apart, without bursts, and none is before the end of a pause. The number of
/// permits adapts to the server: it is halved after a 429, a 503 or a rise in latency, and grows by one per round
/// of quick responses, up to the configured limit.
#[derive(Debug)]
pub struct Pacer {
    permits: Arc<Semaphore>,
    interval: Duration,
    schedule: Mutex<Schedule>,
    limit: Arc<Mutex<AdaptiveLimit>>,
}

/// The limit of requests in flight, adapted to the last responses.
#[derive(Debug)]
struct AdaptiveLimit {
    most: f64,
    allowed: f64,
    /// Number of permits to remove when they are released.
    owed: usize,
    /// Mean latency in seconds: of the last few responses, and in the long run.
    lately: Option<f64>,
    usually: Option<f64>,
    cut_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Schedule {
    /// Time of the next free slot.
    next: Option<Instant>,
    /// No slot before this time.
    paused_until: Option<Instant>,
}

/// The right to have one request in flight. Dropping it releases the permit.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    permit: Option<OwnedSemaphorePermit>,
    limit: Arc<Mutex<AdaptiveLimit>>,
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.owed > 0
            && let Some(permit) = self.permit.take()
        {
            limit.owed -= 1;
            permit.forget();
        }
    }
}

impl Pacer {
    /// A pacer for `concurrency` requests in flight (at least 1) and, if given, this rate.
    pub fn new(requests_per_second: Option<f64>, concurrency: u32) -> Self {
        let permits = usize::try_from(concurrency.max(1)).unwrap_or(1);
        let interval = requests_per_second
            .filter(|rate| *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let limit = AdaptiveLimit {
            most: f64::from(concurrency.max(1)),
            allowed: f64::from(concurrency.max(1)),
            owed: 0,
            lately: None,
            usually: None,
            cut_at: None,
        };
        Self {
            permits: Arc::new(Semaphore::new(permits)),
            interval,
            schedule: Mutex::default(),
            limit: Arc::new(Mutex::new(limit)),
        }
    }

    /// Records the latency of a response. `pressed`: its status is 429 or 503.
    pub fn answered(&self, latency: Duration, pressed: bool) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = limit.permits();
        limit.answered(latency, pressed, Instant::now());
        let after = limit.permits();
        let regained = after.saturating_sub(before).min(limit.owed);
        limit.owed -= regained;
        self.permits.add_permits(after.saturating_sub(before) - regained);
        let gone = before.saturating_sub(after);
        limit.owed += gone - self.permits.forget_permits(gone);
    }

    /// Waits for a permit and a slot, in the order of the calls.
    pub async fn enter(&self) -> ConcurrencyPermit {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        loop {
            let now = Instant::now();
            let wait = self.schedule().take(now, self.interval);
            if wait.is_zero() {
                return self.place(permit);
            }
            tokio::time::sleep(wait).await;
            if !self.schedule().is_paused(Instant::now()) {
                return self.place(permit);
            }
        }
    }

    /// Delays all requests of the connection by this time.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut schedule = self.schedule();
        schedule.paused_until = schedule.paused_until.max(Some(until));
    }

    fn place(&self, permit: Option<OwnedSemaphorePermit>) -> ConcurrencyPermit {
        ConcurrencyPermit { permit, limit: Arc::clone(&self.limit) }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdaptiveLimit {
    /// The limit as a whole number; at least 1.
    fn permits(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the limit"
        )]
        let permits = self.allowed.floor() as usize;
        permits.max(1)
    }

    fn answered(&mut self, latency: Duration, pressed: bool, now: Instant) {
        let seconds = latency.as_secs_f64();
        let mean = |mean: &mut Option<f64>, weight: f64| {
            *mean = Some(mean.map_or(seconds, |mean| mean + weight * (seconds - mean)));
        };
        let slow = match (self.lately, self.usually) {
            (Some(lately), Some(usually)) => {
                lately > usually * SLOW && lately > usually + SLOWER.as_secs_f64()
            }
            _ => false,
        };
        // A refusal is quick, so it does not indicate the latency of other requests.
        if !pressed {
            mean(&mut self.lately, 0.2);
            mean(&mut self.usually, 0.01);
        }
        if pressed || slow {
            if self.cut_at.is_none_or(|at| now.duration_since(at) >= CALM) {
                self.cut_at = Some(now);
                self.allowed = (self.allowed * CUT).max(1.0);
            }
        } else {
            self.allowed = (self.allowed + 1.0 / self.allowed).min(self.most);
        }
    }
}

impl Schedule {
    /// Takes the next slot and returns the time until it.
    fn take(&mut self, now: Instant, interval: Duration) -> Duration {
        let free = self.next.unwrap_or(now).max(now);
        let turn = self.paused_until.map_or(free, |until| until.max(free));
        self.next = Some(turn + interval);
        turn.duration_since(now)
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_spaced_evenly() {
        let pacer = Pacer::new(Some(5.0), 100);
        let start = Instant::now();
        for turn in 0..11_u32 {
            drop(pacer.enter().await);
            assert_eq!(start.elapsed().as_millis(), u128::from(turn) * 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_time_gives_no_burst() {
        let pacer = Pacer::new(Some(10.0), 100);
        drop(pacer.enter().await);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        for _ in 0..3 {
            drop(pacer.enter().await);
        }
        assert_eq!(start.elapsed().as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_allowed() {
        let pacer = Pacer::new(None, 2);
        let first = pacer.enter().await;
        let _second = pacer.enter().await;
        let third = tokio::time::timeout(Duration::from_secs(1), pacer.enter()).await;
        assert!(third.is_err());
        drop(first);
        pacer.enter().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everyone() {
        let pacer = Arc::new(Pacer::new(Some(1.0), 10));
        let start = Instant::now();
        drop(pacer.enter().await);
        let waiting = tokio::spawn({
            let pacer = Arc::clone(&pacer);
            async move { drop(pacer.enter().await) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        pacer.pause(Duration::from_mins(1));
        waiting.await.unwrap();
        assert!(start.elapsed() >= Duration::from_mins(1), "{:?}", start.elapsed());
    }

    /// Number of free permits.
    fn free(pacer: &Pacer) -> usize {
        pacer.permits.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pressed_server_has_fewer_requests_under_way_until_it_is_quick_again() {
        let pacer = Pacer::new(None, 8);
        let quick = Duration::from_millis(50);
        for _ in 0..100 {
            pacer.answered(quick, false);
        }
        assert_eq!(free(&pacer), 8);
        let mut permits = Vec::new();
        for _ in 0..6 {
            permits.push(pacer.enter().await);
        }
        // Three simultaneous refusals count as one overload.
        for _ in 0..3 {
            pacer.answered(quick, true);
        }
        let none = tokio::time::timeout(Duration::from_secs(1), pacer.enter()).await;
        assert!(none.is_err());
        drop(permits);
        assert_eq!(free(&pacer), 4);
        pacer.answered(quick, true);
        assert_eq!(free(&pacer), 2);
        for _ in 0..100 {
            pacer.answered(quick, false);
        }
        assert_eq!(free(&pacer), 8);
        for _ in 0..20 {
            tokio::time::sleep(CALM).await;
            pacer.answered(quick, true);
        }
        assert_eq!(free(&pacer), 1, "one always goes");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_take_longer_and_longer_are_a_pressure() {
        let pacer = Pacer::new(None, 8);
        for _ in 0..100 {
            pacer.answered(Duration::from_millis(50), false);
        }
        pacer.answered(Duration::from_millis(800), false);
        assert_eq!(free(&pacer), 8, "one slow answer is none");
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            pacer.answered(Duration::from_millis(800), false);
        }
        assert!(free(&pacer) < 4, "{}", free(&pacer));
        // The higher latency becomes usual, and the limit is tried again.
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            pacer.answered(Duration::from_millis(800), false);
        }
        assert_eq!(free(&pacer), 8);
    }
}
