//! Queues: values that parent streams feed and child streams consume while the parents are still listing.
//!
//! # How it works
//! A queue is a log. Each value has a position, which never changes, so that "slice 4711 is done" has the same
//! meaning in the process that resumes the run. Every consumer reads the whole log from its start, at its own
//! speed.
//!
//! - **Bounded.** A feeder waits while the slowest consumer is more than [`MAX_WAITING`] values behind. Values
//!   that all consumers have read and the store has are dropped from memory.
//! - **Saved.** New values are saved before any progress that depends on them, so the log in the store is never
//!   behind the streams. It stays in the store while a feeder runs: a resumed feeder repeats the values after
//!   its last checkpoint, and the log must recognise them as known.
//! - **No deadlock.** Every consumer takes positions in ascending order, and streams form an acyclic graph. The
//!   slowest consumer therefore never waits for a value behind the one that it reads; a full queue stops
//!   feeders only.
//! - **An end with a reason.** The queue ends when its last feeder is dropped. [`Completeness`] then states
//!   whether absent values may be treated as deleted.
//!
//! # Why not a channel
//! A channel delivers each value to one consumer and forgets it. Here several child streams read the same
//! values, a killed run resumes at a position, and a repeated listing must not produce a value twice. Separate
//! channels per consumer would need the log as well, and would copy every value.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::error::Result;
use crate::plan::{ChunkSize, encoded};
use crate::progress::item::QueueItem;
use crate::progress::ranges::RangeSet;
use crate::progress::row_keys::{KeySet, hash_text, with_text};
use crate::progress::saved::{Completeness, QUEUE};
use crate::state::{Change, Entries, Store};

/// Maximum number of values that the slowest consumer may be behind; feeders wait at this limit.
const MAX_WAITING: u64 = 50_000;

/// Number of values that share one text, which needs far less memory than separate values.
const CHUNK: usize = 1024;

/// A bounded log of values. Every consumer reads it from the start.
#[derive(Debug)]
pub(crate) struct Queue {
    name: String,
    state: Mutex<QueueState>,
    /// Notified after new values, and when the last feeder is dropped.
    supplied: Notify,
    /// Notified when a consumer advances or is dropped.
    freed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    chunks: VecDeque<Chunk>,
    /// Number of values so far.
    end: u64,
    consumers: Vec<ConsumerPosition>,
    feeders: usize,
    completeness: Completeness,
    /// Values with their payload: the same value may belong to several parents.
    seen: KeySet,
    /// Values without payload, for [`QueueWatch::has`].
    values: KeySet,
    /// Whether the queue is saved.
    durable: bool,
    /// Number of values that the store has.
    saved: u64,
    /// Chunks in the store: start and end positions.
    stored: BTreeMap<u64, u64>,
}

/// How far a consumer has read.
#[derive(Debug)]
struct ConsumerPosition {
    next: u64,
    /// Positions that an earlier process completed.
    done: RangeSet,
    gone: bool,
    /// All positions before this one are done, and saved as done.
    settled: u64,
}

impl Queue {
    /// A new queue. `durable`: it is saved.
    pub(crate) fn new(name: &str, durable: bool) -> Arc<Self> {
        Self::with(name, QueueState { durable, ..QueueState::default() })
    }

    /// A queue from the store.
    pub(crate) fn restored(name: &str, entries: &Entries) -> Arc<Self> {
        let mut state = QueueState { durable: true, ..QueueState::default() };
        let prefix = format!("{QUEUE}{name}/");
        for (key, value) in entries.range(prefix.clone()..) {
            let Some(start) = key.strip_prefix(&prefix).and_then(|start| start.parse().ok()) else {
                break;
            };
            state.end = start;
            state.chunks.push_back(Chunk { start, ..Chunk::default() });
            for item in value.as_array().into_iter().flatten() {
                let Some(value) = item.get(0).and_then(Value::as_str) else { continue };
                let stamp = item.get(1).and_then(Value::as_i64);
                let carried = item.get(2).and_then(Value::as_str).unwrap_or_default();
                state.is_new(value, carried);
                state.append(value, stamp, carried);
            }
            state.stored.insert(start, state.end);
        }
        state.saved = state.end;
        Self::with(name, state)
    }

    fn with(name: &str, state: QueueState) -> Arc<Self> {
        let (supplied, freed) = (Notify::new(), Notify::new());
        Arc::new(Self { name: name.to_owned(), state: Mutex::new(state), supplied, freed })
    }

    /// Registers a consumer. It reads all values except those at the `done` positions.
    pub(crate) fn consumer(self: &Arc<Self>, done: RangeSet) -> Consumer {
        let mut state = self.state();
        let number = state.consumers.len();
        let settled = done.free(0);
        state.consumers.push(ConsumerPosition { next: settled, done, gone: false, settled });
        Consumer { queue: Arc::clone(self), number }
    }

    /// Registers a stream that looks up values once the queue is complete. The log is kept for it.
    pub(crate) fn watch(self: &Arc<Self>) -> QueueWatch {
        let mut state = self.state();
        let number = state.consumers.len();
        let (next, done) = (u64::MAX, RangeSet::default());
        state.consumers.push(ConsumerPosition { next, done, gone: false, settled: 0 });
        QueueWatch { queue: Arc::clone(self), number }
    }

    /// Registers a feeder. The queue ends when the last one is dropped.
    pub(crate) fn feeder(self: &Arc<Self>) -> Feeder {
        self.state().feeders += 1;
        Feeder { queue: Arc::clone(self), completeness: Completeness::Failed }
    }

    /// Records a feeder that an earlier process completed.
    pub(crate) fn ended(&self, completeness: Completeness) {
        let mut state = self.state();
        state.completeness = state.completeness.max(completeness);
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The changes that the store lacks, and the end of the log after them.
    fn unsaved(&self) -> (Vec<Change>, u64) {
        let state = self.state();
        let key = |start: u64| format!("{QUEUE}{}/{start:012}", self.name);
        let passed = state.passed();
        let mut changes: Vec<Change> =
            passed.iter().map(|start| Change::forget(key(*start))).collect();
        for chunk in state.chunks.iter().filter(|chunk| chunk.end() > state.saved) {
            let items = (chunk.start..chunk.end()).filter_map(|position| chunk.item(position));
            let items = items.map(|item| match &*item.carried {
                "" => serde_json::json!([&*item.value, item.stamp]),
                carried => serde_json::json!([&*item.value, item.stamp, carried]),
            });
            changes.push(Change::set(key(chunk.start), items.collect()));
        }
        (changes, state.end)
    }

    fn note_saved(&self, end: u64) {
        let mut state = self.state();
        for start in state.passed() {
            state.stored.remove(&start);
        }
        let chunks: Vec<(u64, u64)> =
            state.chunks.iter().map(|chunk| (chunk.start, chunk.end().min(end))).collect();
        state.stored.extend(chunks.into_iter().filter(|(start, end)| start < end));
        state.saved = end;
        state.forget();
    }
}

/// The queues of a run, saved together.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) all: Vec<Arc<Queue>>,
    saving: AsyncMutex<()>,
}

impl Queues {
    pub(crate) fn new(all: Vec<Arc<Queue>>) -> Self {
        Self { all, saving: AsyncMutex::new(()) }
    }

    /// Saves the values fed so far, and removes those that no consumer needs any more.
    pub(crate) async fn save(&self, store: &dyn Store) -> Result<()> {
        let _one_at_a_time = self.saving.lock().await;
        let (mut changes, mut ends) = (Vec::new(), Vec::new());
        for queue in &self.all {
            let (own, end) = queue.unsaved();
            changes.extend(own);
            ends.push(end);
        }
        if !changes.is_empty() {
            store.save(&changes).await?;
        }
        for (queue, end) in self.all.iter().zip(ends) {
            queue.note_saved(end);
        }
        Ok(())
    }
}

/// Consecutive values, concatenated in one text.
#[derive(Debug, Default)]
struct Chunk {
    /// Position of its first value.
    start: u64,
    /// Each value, followed by its payload.
    text: String,
    /// Where each value ends in the text, and where its payload ends.
    ends: Vec<(usize, usize)>,
    stamps: Vec<Option<i64>>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.ends.len() as u64
    }

    fn item(&self, position: u64) -> Option<QueueItem> {
        let index = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let before = index.checked_sub(1).map(|before| self.ends.get(before));
        let start = before.map_or(Some(0), |ends| Some(ends?.1))?;
        let (middle, end) = *self.ends.get(index)?;
        let value = self.text.get(start..middle)?.into();
        let carried = self.text.get(middle..end)?.into();
        Some(QueueItem { value, carried, stamp: self.stamps.get(index).copied().flatten() })
    }
}

impl QueueState {
    /// Number of values that the slowest consumer has not read yet.
    fn waiting(&self) -> u64 {
        self.end.saturating_sub(self.slowest())
    }

    fn slowest(&self) -> u64 {
        let living = self.consumers.iter().filter(|place| !place.gone);
        living.map(|place| place.next).min().unwrap_or(self.end)
    }

    /// Chunks that the store no longer needs. The last chunk stays: it marks the end of the log.
    fn passed(&self) -> Vec<u64> {
        if self.feeders > 0 {
            return Vec::new();
        }
        let settled = self.consumers.iter().map(|place| place.settled).min().unwrap_or(0);
        let passed = self.stored.iter().filter(|(_, end)| **end <= settled && **end < self.end);
        passed.map(|(start, _)| *start).collect()
    }

    /// Records a value with its payload; `false` if the queue had both before.
    fn is_new(&mut self, value: &str, carried: &str) -> bool {
        let hash = hash_text(value);
        self.values.insert(hash);
        self.seen.insert(if carried.is_empty() { hash } else { with_text(hash, carried) })
    }

    fn append(&mut self, value: &str, stamp: Option<i64>, carried: &str) {
        if self.chunks.back().is_none_or(|chunk| chunk.ends.len() >= CHUNK) {
            self.chunks.push_back(Chunk { start: self.end, ..Chunk::default() });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.text.push_str(value);
            let middle = chunk.text.len();
            chunk.text.push_str(carried);
            chunk.ends.push((middle, chunk.text.len()));
            chunk.stamps.push(stamp);
            self.end += 1;
        }
    }

    fn item(&self, position: u64) -> Option<QueueItem> {
        let after = self.chunks.partition_point(|chunk| chunk.start <= position);
        self.chunks.get(after.checked_sub(1)?)?.item(position)
    }

    /// Drops the chunks that every consumer has read and the store has.
    fn forget(&mut self) {
        let passed = if self.durable { self.slowest().min(self.saved) } else { self.slowest() };
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= passed) {
            self.chunks.pop_front();
        }
    }
}

/// Feeds a queue. Dropped without [`Feeder::finish`], it counts as failed.
#[derive(Debug)]
pub(crate) struct Feeder {
    queue: Arc<Queue>,
    completeness: Completeness,
}

impl Feeder {
    /// Adds the values that the queue does not have with the same payload. Waits while the queue is full.
    pub(crate) async fn push<'value>(
        &self,
        values: impl Iterator<Item = (&'value str, Option<i64>, String)>,
    ) {
        for (value, stamp, carried) in values {
            self.push_one(value, stamp, &carried).await;
        }
        self.queue.supplied.notify_waiters();
    }

    async fn push_one(&self, value: &str, stamp: Option<i64>, carried: &str) {
        loop {
            let freed = self.queue.freed.notified();
            {
                let mut state = self.queue.state();
                // A durable queue may have consumers in a later process.
                if !state.durable && state.consumers.iter().all(|place| place.gone) {
                    return;
                }
                if state.waiting() < MAX_WAITING {
                    if state.is_new(value, carried) {
                        state.append(value, stamp, carried);
                    }
                    return;
                }
                self.queue.supplied.notify_waiters();
            }
            freed.await;
        }
    }

    /// Records how the feeder ended.
    pub(crate) fn finish(mut self, completeness: Completeness) {
        self.completeness = completeness;
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.feeders -= 1;
        state.completeness = state.completeness.max(self.completeness);
        drop(state);
        self.queue.supplied.notify_waiters();
    }
}

/// Reads a queue from its start.
#[derive(Debug)]
pub(crate) struct Consumer {
    queue: Arc<Queue>,
    number: usize,
}

impl Consumer {
    /// Reads the next `size` values, and returns them with the position of the first; `None` after the last.
    /// Returns fewer at the end of the log, before positions that are done, and for long values.
    pub(crate) async fn next(&self, size: impl Into<ChunkSize>) -> Option<(u64, Vec<QueueItem>)> {
        let size = size.into();
        loop {
            let supplied = self.queue.supplied.notified();
            if let Some((from, values)) = self.take(size) {
                return Some((from, values)).filter(|(_, values)| !values.is_empty());
            }
            supplied.await;
        }
    }

    /// Reads the values that the log has: `None` if there are too few yet, an empty list after the end.
    fn take(&self, size: ChunkSize) -> Option<(u64, Vec<QueueItem>)> {
        let mut state = self.queue.state();
        let place = state.consumers.get(self.number)?;
        let from = place.done.free(place.next);
        let most =
            from.saturating_add(size.count as u64).min(place.done.next(from).unwrap_or(u64::MAX));
        if most > state.end && state.feeders > 0 {
            if let Some(place) = state.consumers.get_mut(self.number).filter(|one| one.next < from)
            {
                // Positions that are done must not count as waiting.
                place.next = from;
                drop(state);
                self.queue.freed.notify_waiters();
            }
            return None;
        }
        let to = most.min(state.end);
        let mut values: Vec<QueueItem> =
            (from..to).filter_map(|position| state.item(position)).collect();
        let fits = size.fits(values.iter().map(|item| encoded(&item.value)));
        values.truncate(fits);
        let to = to.min(from + fits as u64);
        if let Some(place) = state.consumers.get_mut(self.number) {
            place.next = to.max(from);
        }
        state.forget();
        drop(state);
        self.queue.freed.notify_waiters();
        Some((from, values))
    }

    /// How the feeders ended. Final after the last value.
    pub(crate) fn completeness(&self) -> Completeness {
        self.queue.state().completeness
    }

    /// A handle that records which positions of this consumer are done for good.
    pub(crate) fn settler(&self) -> Settler {
        Settler { queue: Arc::clone(&self.queue), number: self.number }
    }
}

/// Looks up values of a complete queue.
#[derive(Debug)]
pub(crate) struct QueueWatch {
    queue: Arc<Queue>,
    number: usize,
}

impl QueueWatch {
    /// Waits until the queue has ended. Returns its completeness.
    pub(crate) async fn complete(&self) -> Completeness {
        loop {
            let supplied = self.queue.supplied.notified();
            {
                let state = self.queue.state();
                if state.feeders == 0 {
                    return state.completeness;
                }
            }
            supplied.await;
        }
    }

    /// Whether the queue has a value.
    pub(crate) fn has(&self, value: &str) -> bool {
        self.queue.state().values.contains(hash_text(value))
    }
}

impl Drop for QueueWatch {
    fn drop(&mut self) {
        // The log is kept: if the API refuses the stream's route, its default route needs the values.
        if let Some(place) = self.queue.state().consumers.get_mut(self.number) {
            place.gone = true;
        }
    }
}

/// Records which positions a consumer no longer needs.
#[derive(Debug)]
pub(crate) struct Settler {
    queue: Arc<Queue>,
    number: usize,
}

impl Settler {
    /// Records that all positions before this one are done, and saved as done.
    pub(crate) fn settle(&self, position: u64) {
        if let Some(place) = self.queue.state().consumers.get_mut(self.number) {
            place.settled = place.settled.max(position);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some(place) = state.consumers.get_mut(self.number) {
            place.gone = true;
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

    fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| number.to_string()).collect()
    }

    async fn push(feeder: &Feeder, range: std::ops::Range<usize>) {
        let values = numbers(range);
        feeder.push(values.iter().map(|value| (value.as_str(), None, String::new()))).await;
    }

    async fn all(consumer: &Consumer, count: usize) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some((_, items)) = consumer.next(count).await {
            seen.extend(items.into_iter().map(|item| item.value.to_string()));
        }
        seen
    }

    #[tokio::test]
    async fn every_consumer_sees_every_value_once() {
        let queue = Queue::new("q", false);
        let (one, two) = (queue.consumer(RangeSet::default()), queue.consumer(RangeSet::default()));
        let feeder = queue.feeder();
        push(&feeder, 0..5).await;
        push(&feeder, 3..7).await;
        feeder.finish(Completeness::Complete);
        assert_eq!(all(&one, 2).await, numbers(0..7));
        assert_eq!(two.next(100).await.map(|(_, items)| items.len()), Some(7));
        assert_eq!(two.next(100).await, None);
        assert_eq!(one.completeness(), Completeness::Complete);
    }

    #[tokio::test]
    async fn a_value_with_other_values_along_is_another() {
        use crate::write::Target;
        use crate::write::memory::Memory;
        let store = Memory::new().store("r").unwrap();
        let queue = Queue::new("projects", true);
        let fed = [("1", "[\"a\"]"), ("1", "[\"b\"]"), ("1", "[\"a\"]"), ("2", "[\"a\"]")];
        let items = || fed.iter().map(|(value, along)| (*value, None, (*along).to_owned()));
        let (consumer, feeder) = (queue.consumer(RangeSet::default()), queue.feeder());
        feeder.push(items()).await;
        Queues::new(vec![Arc::clone(&queue)]).save(store.as_ref()).await.unwrap();
        drop(feeder);
        assert_eq!(all(&consumer, 1).await, ["1", "1", "2"]);

        let queue = Queue::restored("projects", &store.load().await.unwrap());
        let (consumer, feeder) = (queue.consumer(RangeSet::default()), queue.feeder());
        feeder.push(items()).await;
        drop(feeder);
        assert_eq!(all(&consumer, 1).await, ["1", "1", "2"]);
        let watch = queue.watch();
        assert!(watch.has("1") && watch.has("2") && !watch.has("3"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feeder_waits_for_the_slowest_consumer() {
        let queue = Queue::new("q", false);
        let (slow, gone) =
            (queue.consumer(RangeSet::default()), queue.consumer(RangeSet::default()));
        let feeder = queue.feeder();
        let feeding = tokio::spawn(async move {
            push(&feeder, 0..usize::try_from(MAX_WAITING).unwrap() + 10).await;
            feeder.finish(Completeness::Incomplete);
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!feeding.is_finished());
        assert_eq!(slow.next(20).await.map(|(_, items)| items.len()), Some(20));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!feeding.is_finished(), "the other consumer has taken nothing");
        drop(gone);
        feeding.await.unwrap();
        while slow.next(1000).await.is_some() {}
        assert_eq!(slow.completeness(), Completeness::Incomplete);
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_fill_up_unless_the_queue_ends() {
        let queue = Queue::new("q", false);
        let (consumer, feeder) = (queue.consumer(RangeSet::default()), queue.feeder());
        push(&feeder, 0..3).await;
        let early = tokio::time::timeout(Duration::from_secs(1), consumer.next(5)).await;
        assert!(early.is_err());
        drop(feeder);
        assert_eq!(consumer.next(5).await.map(|(_, items)| items.len()), Some(3));
        assert_eq!(consumer.next(5).await, None);
        assert_eq!(consumer.completeness(), Completeness::Failed);
    }

    #[tokio::test]
    async fn nobody_waits_for_consumers_that_are_gone() {
        let queue = Queue::new("q", false);
        let feeder = queue.feeder();
        drop(queue.consumer(RangeSet::default()));
        push(&feeder, 0..usize::try_from(MAX_WAITING).unwrap() * 3).await;
    }

    #[tokio::test]
    async fn what_is_saved_goes_on_where_its_consumers_were() {
        use crate::write::Target;
        use crate::write::memory::Memory;
        let store = Memory::new().store("r").unwrap();
        let queue = Queue::new("ids", true);
        let (fast, slow) =
            (queue.consumer(RangeSet::default()), queue.consumer(RangeSet::default()));
        let feeder = queue.feeder();
        push(&feeder, 0..3000).await;
        let queues = Queues::new(vec![Arc::clone(&queue)]);
        queues.save(store.as_ref()).await.unwrap();
        push(&feeder, 2990..3100).await;
        for _ in 0..3 {
            fast.next(1000).await.unwrap();
        }
        slow.next(1100).await.unwrap();
        fast.settler().settle(3000);
        slow.settler().settle(1100);
        queues.save(store.as_ref()).await.unwrap();
        let entries = store.load().await.unwrap();
        assert_eq!(entries.len(), 4, "a feeder may feed any of them again");

        let queue = Queue::restored("ids", &entries);
        let mut done = RangeSet::default();
        done.insert(0, 1100);
        done.insert(1500, 3090);
        let consumer = queue.consumer(done);
        let feeder = queue.feeder();
        push(&feeder, 3050..3110).await;
        feeder.finish(Completeness::Complete);
        let (from, first) = consumer.next(1000).await.unwrap();
        assert_eq!((from, first.len()), (1100, 400));
        assert_eq!(all(&consumer, 7).await, numbers(3090..3110));
    }

    #[tokio::test]
    async fn a_log_keeps_its_positions_when_all_of_it_is_done() {
        use crate::write::Target;
        use crate::write::memory::Memory;
        let store = Memory::new().store("r").unwrap();
        let queue = Queue::new("ids", true);
        let (consumer, feeder) = (queue.consumer(RangeSet::default()), queue.feeder());
        let queues = Queues::new(vec![Arc::clone(&queue)]);
        push(&feeder, 0..3000).await;
        queues.save(store.as_ref()).await.unwrap();
        assert_eq!(consumer.next(3000).await.map(|(_, items)| items.len()), Some(3000));
        consumer.settler().settle(3000);
        queues.save(store.as_ref()).await.unwrap();

        let entries = store.load().await.unwrap();
        let queue = Queue::restored("ids", &entries);
        let mut done = RangeSet::default();
        done.insert(0, 3000);
        let (consumer, feeder) = (queue.consumer(done), queue.feeder());
        let queues = Queues::new(vec![Arc::clone(&queue)]);
        push(&feeder, 2990..3005).await;
        feeder.finish(Completeness::Complete);
        assert_eq!(all(&consumer, 10).await, numbers(3000..3005));
        consumer.settler().settle(3005);
        queues.save(store.as_ref()).await.unwrap();
        queues.save(store.as_ref()).await.unwrap();
        let entries = store.load().await.unwrap();
        let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["queue/ids/000000002048"],
            "the last chunk is kept, because it marks the end"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_done_already_keeps_no_feeder_waiting() {
        let queue = Queue::new("q", true);
        let most = usize::try_from(MAX_WAITING).unwrap();
        let mut done = RangeSet::default();
        done.insert(0, 10);
        done.insert(20, MAX_WAITING + 100);
        let (consumer, feeder) = (queue.consumer(done), queue.feeder());
        let feeding = tokio::spawn(async move {
            push(&feeder, 0..most + 200).await;
            feeder.finish(Completeness::Complete);
        });
        let mut left = numbers(10..20);
        left.extend(numbers(most + 100..most + 200));
        let seen = tokio::time::timeout(Duration::from_mins(1), all(&consumer, 1)).await;
        assert_eq!(seen.unwrap(), left);
        feeding.await.unwrap();
    }
}
