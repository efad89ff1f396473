//! Queues: values that parent streams feed and child streams consume while the parents still list.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::keys::{KeySet, hash_text};

/// Values that may wait in a queue for its slowest consumer; a feeder then waits.
const MAX_WAITING: usize = 50_000;

/// What can be said of a queue once all its values are consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    /// All feeders listed everything.
    Complete,
    /// A feeder ended early on purpose, or passed over something.
    Partial,
    /// A feeder failed or was interrupted.
    Failed,
}

/// A bounded log of values, read by each consumer from the start.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Values came, or the last feeder went.
    supplied: Notify,
    /// Values were passed by all consumers, or a consumer went.
    freed: Notify,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Arc<str>>,
    /// Values that all consumers have passed.
    passed: usize,
    /// Per consumer how many values it has taken; `None` once it is gone.
    taken: Vec<Option<usize>>,
    feeders: usize,
    supply: Supply,
    seen: KeySet,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            waiting: VecDeque::new(),
            passed: 0,
            taken: Vec::new(),
            feeders: 0,
            supply: Supply::Complete,
            seen: KeySet::default(),
        };
        Arc::new(Self { state: Mutex::new(state), supplied: Notify::new(), freed: Notify::new() })
    }

    /// Registers a consumer, which will see every value.
    pub(super) fn consumer(self: &Arc<Self>) -> Consumer {
        let mut state = self.state();
        let number = state.taken.len();
        state.taken.push(Some(0));
        Consumer { queue: Arc::clone(self), number }
    }

    /// Registers a feeder; the queue ends when the last one is gone.
    pub(super) fn feeder(self: &Arc<Self>) -> Feeder {
        self.state().feeders += 1;
        Feeder { queue: Arc::clone(self), supply: Supply::Failed }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops the values that every consumer has taken.
    fn forget(&mut self) {
        let end = self.passed + self.waiting.len();
        let slowest = self.taken.iter().flatten().min().copied().unwrap_or(end);
        while self.passed < slowest && self.waiting.pop_front().is_some() {
            self.passed += 1;
        }
    }
}

/// Feeds a queue. Dropped without [`Feeder::finish`], it counts as failed.
#[derive(Debug)]
pub(super) struct Feeder {
    queue: Arc<Queue>,
    supply: Supply,
}

impl Feeder {
    /// Adds values that were not there before; waits while the queue is full.
    pub(super) async fn push(&self, values: impl Iterator<Item = Arc<str>>) {
        for value in values {
            self.push_one(value).await;
        }
        self.queue.supplied.notify_waiters();
    }

    async fn push_one(&self, value: Arc<str>) {
        loop {
            let freed = self.queue.freed.notified();
            {
                let mut state = self.queue.state();
                if state.taken.iter().all(Option::is_none) {
                    return;
                }
                if state.waiting.len() < MAX_WAITING {
                    if state.seen.insert(hash_text(&value)) {
                        state.waiting.push_back(value);
                    }
                    return;
                }
                self.queue.supplied.notify_waiters();
            }
            freed.await;
        }
    }

    /// Says how the feeder ended.
    pub(super) fn finish(mut self, supply: Supply) {
        self.supply = supply;
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.feeders -= 1;
        state.supply = match (state.supply, self.supply) {
            (Supply::Failed, _) | (_, Supply::Failed) => Supply::Failed,
            (Supply::Partial, _) | (_, Supply::Partial) => Supply::Partial,
            _ => Supply::Complete,
        };
        drop(state);
        self.queue.supplied.notify_waiters();
    }
}

/// Reads a queue from its start.
#[derive(Debug)]
pub(super) struct Consumer {
    queue: Arc<Queue>,
    number: usize,
}

impl Consumer {
    /// Takes the next `count` values, fewer only at the end; `None` after the last.
    pub(super) async fn next(&self, count: usize) -> Option<Vec<Arc<str>>> {
        loop {
            let supplied = self.queue.supplied.notified();
            if let Some(values) = self.take(count) {
                return Some(values).filter(|values| !values.is_empty());
            }
            supplied.await;
        }
    }

    /// What is there: `None` when there is not enough yet, nothing after the end.
    fn take(&self, count: usize) -> Option<Vec<Arc<str>>> {
        let mut state = self.queue.state();
        let taken = state.taken.get(self.number).copied().flatten()?;
        let start = taken - state.passed;
        let ready = state.waiting.len() - start;
        if ready < count && state.feeders > 0 {
            return None;
        }
        let values: Vec<Arc<str>> = state.waiting.iter().skip(start).take(count).cloned().collect();
        if let Some(slot) = state.taken.get_mut(self.number) {
            *slot = Some(taken + values.len());
        }
        state.forget();
        drop(state);
        self.queue.freed.notify_waiters();
        Some(values)
    }

    /// How the feeders ended; to be asked after the last value.
    pub(super) fn supply(&self) -> Supply {
        self.queue.state().supply
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some(slot) = state.taken.get_mut(self.number) {
            *slot = None;
        }
        state.forget();
        drop(state);
        self.queue.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = Arc<str>> {
        range.map(|number| Arc::from(number.to_string().as_str()))
    }

    #[tokio::test]
    async fn every_consumer_sees_every_value_once() {
        let queue = Queue::new();
        let (one, two, feeder) = (queue.consumer(), queue.consumer(), queue.feeder());
        feeder.push(numbers(0..5)).await;
        feeder.push(numbers(3..7)).await;
        feeder.finish(Supply::Complete);
        let mut seen = Vec::new();
        while let Some(values) = one.next(2).await {
            seen.extend(values);
        }
        assert_eq!(seen, numbers(0..7).collect::<Vec<_>>());
        assert_eq!(two.next(100).await.map(|values| values.len()), Some(7));
        assert_eq!(two.next(100).await, None);
        assert_eq!(one.supply(), Supply::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feeder_waits_for_the_slowest_consumer() {
        let queue = Queue::new();
        let (slow, gone, feeder) = (queue.consumer(), queue.consumer(), queue.feeder());
        let feeding = tokio::spawn(async move {
            feeder.push(numbers(0..MAX_WAITING + 10)).await;
            feeder.finish(Supply::Partial);
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!feeding.is_finished());
        assert_eq!(slow.next(20).await.map(|values| values.len()), Some(20));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!feeding.is_finished(), "the other consumer has taken nothing");
        drop(gone);
        feeding.await.unwrap();
        while slow.next(1000).await.is_some() {}
        assert_eq!(slow.supply(), Supply::Partial);
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_fill_up_unless_the_queue_ends() {
        let queue = Queue::new();
        let (consumer, feeder) = (queue.consumer(), queue.feeder());
        feeder.push(numbers(0..3)).await;
        let early = tokio::time::timeout(Duration::from_secs(1), consumer.next(5)).await;
        assert!(early.is_err());
        drop(feeder);
        assert_eq!(consumer.next(5).await.map(|values| values.len()), Some(3));
        assert_eq!(consumer.next(5).await, None);
        assert_eq!(consumer.supply(), Supply::Failed);
    }

    #[tokio::test]
    async fn nobody_waits_for_consumers_that_are_gone() {
        let queue = Queue::new();
        let feeder = queue.feeder();
        drop(queue.consumer());
        feeder.push(numbers(0..MAX_WAITING * 3)).await;
    }
}
