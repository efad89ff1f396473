//! When the next request may be sent: rate, requests under way, pauses the server asked for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Paces all requests of one connection, whatever stream they are for.
///
/// A request takes a place among those under way, then waits for its turn: turns are
/// `1 / requests_per_second` apart, without bursts, and none comes before a pause is over.
#[derive(Debug)]
pub struct Throttle {
    places: Arc<Semaphore>,
    interval: Duration,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Time of the next free turn.
    next: Option<Instant>,
    /// No turn before this time.
    paused_until: Option<Instant>,
}

/// A place among the requests under way; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Throttle {
    /// A throttle for `concurrency` requests under way (at least 1) and, if given, this rate.
    pub fn new(requests_per_second: Option<f64>, concurrency: u32) -> Self {
        let places = usize::try_from(concurrency.max(1)).unwrap_or(1);
        let interval = requests_per_second
            .filter(|rate| *rate > 0.0)
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        Self { places: Arc::new(Semaphore::new(places)), interval, turns: Mutex::default() }
    }

    /// Waits for a place and a turn, first come, first served.
    pub async fn enter(&self) -> Place {
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            let now = Instant::now();
            let wait = self.turns().take(now, self.interval);
            if wait.is_zero() {
                return Place { _permit: permit };
            }
            tokio::time::sleep(wait).await;
            if !self.turns().is_paused(Instant::now()) {
                return Place { _permit: permit };
            }
        }
    }

    /// Lets no request of the connection start before this much time has passed.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut turns = self.turns();
        turns.paused_until = turns.paused_until.max(Some(until));
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
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
        let throttle = Throttle::new(Some(5.0), 100);
        let start = Instant::now();
        for turn in 0..11_u32 {
            drop(throttle.enter().await);
            assert_eq!(start.elapsed().as_millis(), u128::from(turn) * 200);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_time_gives_no_burst() {
        let throttle = Throttle::new(Some(10.0), 100);
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
        let throttle = Throttle::new(None, 2);
        let first = throttle.enter().await;
        let _second = throttle.enter().await;
        let third = tokio::time::timeout(Duration::from_secs(1), throttle.enter()).await;
        assert!(third.is_err());
        drop(first);
        throttle.enter().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_for_everyone() {
        let throttle = Arc::new(Throttle::new(Some(1.0), 10));
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
}
