//! When the next request may be sent: rate, requests under way, pauses the server asked for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Share of the places that is left when the server is pressed.
const CUT: f64 = 0.5;
/// Time within which the places are cut once only: all that is under way tells of the same pressure.
const CALM: Duration = Duration::from_secs(1);
/// Answers are slow when they take this many times as long as they used to, and this much longer.
const SLOW: f64 = 3.0;
const SLOWER: Duration = Duration::from_millis(200);

/// Paces all requests of one connection, whatever stream they are for.
///
/// A request takes a place among those under way, then waits for its turn: turns are
/// `1 / requests_per_second` apart, without bursts, and none comes before a pause is over. There are
/// fewer places while the server is pressed: half of them after a 429, a 503 or a rise of its
/// latency, then one more for each round of quick answers, up to the limit.
#[derive(Debug)]
pub struct Pacer {
    places: Arc<Semaphore>,
    interval: Duration,
    turns: Mutex<Schedule>,
    flow: Arc<Mutex<AdaptiveLimit>>,
}

/// How many requests may be under way, by what came of the last ones.
#[derive(Debug)]
struct AdaptiveLimit {
    most: f64,
    allowed: f64,
    /// Places that are to go when they are given back.
    owed: usize,
    /// Seconds that answers took lately, and in the long run.
    lately: Option<f64>,
    usually: Option<f64>,
    cut_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Schedule {
    /// Time of the next free turn.
    next: Option<Instant>,
    /// No turn before this time.
    paused_until: Option<Instant>,
}

/// A place among the requests under way; given back when dropped.
#[derive(Debug)]
pub struct ConcurrencyPermit {
    permit: Option<OwnedSemaphorePermit>,
    flow: Arc<Mutex<AdaptiveLimit>>,
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        let mut flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        if flow.owed > 0
            && let Some(permit) = self.permit.take()
        {
            flow.owed -= 1;
            permit.forget();
        }
    }
}

impl Pacer {
    /// A throttle for `concurrency` requests under way (at least 1) and, if given, this rate.
    pub fn new(requests_per_second: Option<f64>, concurrency: u32) -> Self {
        let places = usize::try_from(concurrency.max(1)).unwrap_or(1);
        let interval = requests_per_second
            .filter(|rate| *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        let flow = AdaptiveLimit {
            most: f64::from(concurrency.max(1)),
            allowed: f64::from(concurrency.max(1)),
            owed: 0,
            lately: None,
            usually: None,
            cut_at: None,
        };
        Self {
            places: Arc::new(Semaphore::new(places)),
            interval,
            turns: Mutex::default(),
            flow: Arc::new(Mutex::new(flow)),
        }
    }

    /// Takes note of an answer that came after this time; `pressed`: it says that there are too many
    /// requests (429, 503).
    pub fn answered(&self, latency: Duration, pressed: bool) {
        let mut flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        let before = flow.places();
        flow.answered(latency, pressed, Instant::now());
        let after = flow.places();
        let regained = after.saturating_sub(before).min(flow.owed);
        flow.owed -= regained;
        self.places.add_permits(after.saturating_sub(before) - regained);
        let gone = before.saturating_sub(after);
        flow.owed += gone - self.places.forget_permits(gone);
    }

    /// Waits for a place and a turn, first come, first served.
    pub async fn enter(&self) -> ConcurrencyPermit {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            let now = Instant::now();
            let wait = self.turns().take(now, self.interval);
            if wait.is_zero() {
                return self.place(permit);
            }
            tokio::time::sleep(wait).await;
            if !self.turns().is_paused(Instant::now()) {
                return self.place(permit);
            }
        }
    }

    /// Lets no request of the connection start before this much time has passed.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut turns = self.turns();
        turns.paused_until = turns.paused_until.max(Some(until));
    }

    fn place(&self, permit: Option<OwnedSemaphorePermit>) -> ConcurrencyPermit {
        ConcurrencyPermit { permit, flow: Arc::clone(&self.flow) }
    }

    fn turns(&self) -> MutexGuard<'_, Schedule> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdaptiveLimit {
    /// Whole places; at least one.
    fn places(&self) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the limit"
        )]
        let places = self.allowed.floor() as usize;
        places.max(1)
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
        // What refuses is quick, and tells nothing of the others.
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
    /// Takes the next turn and returns the time until it comes.
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
        let throttle = Pacer::new(Some(5.0), 100);
        let start = Instant::now();
        for turn in 0..11_u32 {
            drop(throttle.enter().await);
            assert_eq!(start.elapsed().as_millis(), u128::from(turn) * 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_time_gives_no_burst() {
        let throttle = Pacer::new(Some(10.0), 100);
        drop(throttle.enter().await);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let start = Instant::now();
        for _ in 0..3 {
            drop(throttle.enter().await);
        }
        assert_eq!(start.elapsed().as_millis(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_allowed() {
        let throttle = Pacer::new(None, 2);
        let first = throttle.enter().await;
        let _second = throttle.enter().await;
        let third = tokio::time::timeout(Duration::from_secs(1), throttle.enter()).await;
        assert!(third.is_err());
        drop(first);
        throttle.enter().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everyone() {
        let throttle = Arc::new(Pacer::new(Some(1.0), 10));
        let start = Instant::now();
        drop(throttle.enter().await);
        let waiting = tokio::spawn({
            let throttle = Arc::clone(&throttle);
            async move { drop(throttle.enter().await) }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        throttle.pause(Duration::from_mins(1));
        waiting.await.unwrap();
        assert!(start.elapsed() >= Duration::from_mins(1), "{:?}", start.elapsed());
    }

    /// Places that are free once all are given back.
    fn free(throttle: &Pacer) -> usize {
        throttle.places.available_permits()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pressed_server_has_fewer_requests_under_way_until_it_is_quick_again() {
        let throttle = Pacer::new(None, 8);
        let quick = Duration::from_millis(50);
        for _ in 0..100 {
            throttle.answered(quick, false);
        }
        assert_eq!(free(&throttle), 8);
        let mut places = Vec::new();
        for _ in 0..6 {
            places.push(throttle.enter().await);
        }
        // Three refusals of one moment are one pressure.
        for _ in 0..3 {
            throttle.answered(quick, true);
        }
        let none = tokio::time::timeout(Duration::from_secs(1), throttle.enter()).await;
        assert!(none.is_err());
        drop(places);
        assert_eq!(free(&throttle), 4);
        throttle.answered(quick, true);
        assert_eq!(free(&throttle), 2);
        for _ in 0..100 {
            throttle.answered(quick, false);
        }
        assert_eq!(free(&throttle), 8);
        for _ in 0..20 {
            tokio::time::sleep(CALM).await;
            throttle.answered(quick, true);
        }
        assert_eq!(free(&throttle), 1, "one always goes");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_take_longer_and_longer_are_a_pressure() {
        let throttle = Pacer::new(None, 8);
        for _ in 0..100 {
            throttle.answered(Duration::from_millis(50), false);
        }
        throttle.answered(Duration::from_millis(800), false);
        assert_eq!(free(&throttle), 8, "one slow answer is none");
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            throttle.answered(Duration::from_millis(800), false);
        }
        assert!(free(&throttle) < 4, "{}", free(&throttle));
        // The pressure becomes what is usual, and the limit is tried again.
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            throttle.answered(Duration::from_millis(800), false);
        }
        assert_eq!(free(&throttle), 8);
    }
}
