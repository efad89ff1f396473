//! Queues: values that parent streams feed and child streams consume while the parents still list.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::keys::{KeySet, hash_text};

/// Values that may wait in a queue for its slowest consumer; a feeder then waits.
const MAX_WAITING: usize = 50_000;

/// Values that are kept together: one text is far smaller than its values one by one.
const CHUNK: usize = 1024;

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
    chunks: VecDeque<Chunk>,
    /// Values that came so far.
    end: usize,
    /// Per consumer how many values it has taken; `None` once it is gone.
    taken: Vec<Option<usize>>,
    feeders: usize,
    supply: Supply,
    seen: KeySet,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            chunks: VecDeque::new(),
            end: 0,
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

/// Values one after the other in one text.
#[derive(Debug)]
struct Chunk {
    /// Number of its first value, from 0.
    start: usize,
    text: String,
    ends: Vec<usize>,
}

impl Chunk {
    fn value(&self, number: usize) -> Option<&str> {
        let index = number.checked_sub(self.start)?;
        let start =
            index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.text.get(start..*self.ends.get(index)?)
    }
}

impl State {
    /// Values that the slowest consumer has not taken yet.
    fn waiting(&self) -> usize {
        self.end - self.slowest()
    }

    fn slowest(&self) -> usize {
        self.taken.iter().flatten().min().copied().unwrap_or(self.end)
    }

    fn append(&mut self, value: &str) {
        if self.chunks.back().is_none_or(|chunk| chunk.ends.len() >= CHUNK) {
            self.chunks.push_back(Chunk { start: self.end, text: String::new(), ends: Vec::new() });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.text.push_str(value);
            chunk.ends.push(chunk.text.len());
            self.end += 1;
        }
    }

    fn value(&self, number: usize) -> Option<Arc<str>> {
        let after = self.chunks.partition_point(|chunk| chunk.start <= number);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        chunk.value(number).map(Arc::from)
    }

    /// Drops the chunks that every consumer has passed.
    fn forget(&mut self) {
        let slowest = self.slowest();
        while self.chunks.front().is_some_and(|chunk| chunk.start + chunk.ends.len() <= slowest) {
            self.chunks.pop_front();
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
    pub(super) async fn push(&self, values: impl Iterator<Item = &str>) {
        for value in values {
            self.push_one(value).await;
        }
        self.queue.supplied.notify_waiters();
    }

    async fn push_one(&self, value: &str) {
        loop {
            let freed = self.queue.freed.notified();
            {
                let mut state = self.queue.state();
                if state.taken.iter().all(Option::is_none) {
                    return;
                }
                if state.waiting() < MAX_WAITING {
                    if state.seen.insert(hash_text(value)) {
                        state.append(value);
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
        let ready = state.end - taken;
        if ready < count && state.feeders > 0 {
            return None;
        }
        let values: Vec<Arc<str>> =
            (taken..state.end).take(count).filter_map(|number| state.value(number)).collect();
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

    fn numbers(range: std::ops::Range<usize>) -> Vec<Arc<str>> {
        range.map(|number| Arc::from(number.to_string().as_str())).collect()
    }

    async fn push(feeder: &Feeder, range: std::ops::Range<usize>) {
        let values = numbers(range);
        feeder.push(values.iter().map(AsRef::as_ref)).await;
    }

    #[tokio::test]
    async fn every_consumer_sees_every_value_once() {
        let queue = Queue::new();
        let (one, two, feeder) = (queue.consumer(), queue.consumer(), queue.feeder());
        push(&feeder, 0..5).await;
        push(&feeder, 3..7).await;
        feeder.finish(Supply::Complete);
        let mut seen = Vec::new();
        while let Some(values) = one.next(2).await {
            seen.extend(values);
        }
        assert_eq!(seen, numbers(0..7));
        assert_eq!(two.next(100).await.map(|values| values.len()), Some(7));
        assert_eq!(two.next(100).await, None);
        assert_eq!(one.supply(), Supply::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_feeder_waits_for_the_slowest_consumer() {
        let queue = Queue::new();
        let (slow, gone, feeder) = (queue.consumer(), queue.consumer(), queue.feeder());
        let feeding = tokio::spawn(async move {
            push(&feeder, 0..MAX_WAITING + 10).await;
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
        push(&feeder, 0..3).await;
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
        push(&feeder, 0..MAX_WAITING * 3).await;
    }
}
