//! Versions of parents whose children a stream has, so that only those of changed parents are asked for;
//! or versions of the stream's own records, so that only the rows of changed ones are.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::Value;

use super::keys::hash_text;
use super::queue::Item;
use super::state::PARENTS;
use crate::state::{Change, Entries};

/// Most parents that are remembered of a stream, 8 bytes each. With more, a parent that comes back
/// with an old version is not noticed.
const MAX_PARENTS: usize = 1 << 20;

/// In the place of a request's number: what was written after its look was noted.
const TOUCHED: usize = usize::MAX;

/// Parents as they were when earlier runs read their children: hashes of value and version. `None`:
/// there were too many to remember.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Option<Arc<HashSet<u64>>>);

impl Known {
    /// Whether a record looks as it did when its row was written last.
    pub(super) fn is_same(&self, item: &Item) -> bool {
        let touched = Item { stamp: Some(0), ..item.clone() };
        self.contains(0, item) == Some(true) && self.contains(TOUCHED, &touched) == Some(false)
    }

    /// Whether the children of a parent, as it is now, were read; `None` when that is not known.
    pub(super) fn contains(&self, request: usize, item: &Item) -> Option<bool> {
        let known = self.0.as_ref()?;
        Some(hash(request, item).is_some_and(|hash| known.contains(&hash)))
    }
}

/// The parents whose children this run has read, or need not read.
#[derive(Debug, Default)]
pub(super) struct Read {
    stream: String,
    hashes: Vec<u64>,
    /// How many of them are in the store.
    saved: usize,
    /// Parts in the store.
    parts: usize,
    known: Known,
    /// Whether what the store has counts for nothing.
    outdated: bool,
}

fn hash(request: usize, item: &Item) -> Option<u64> {
    let text = format!("{request} {} {}", item.stamp?, item.value);
    // Half of the hash: two of a million parents share it once in forty million runs.
    u64::try_from(hash_text(&text) >> 64).ok()
}

fn key(stream: &str) -> String {
    format!("{PARENTS}{stream}")
}

fn written(hashes: &[u64]) -> Value {
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    Value::from(STANDARD_NO_PAD.encode(bytes))
}

fn read(value: &Value) -> Option<Vec<u64>> {
    let bytes = STANDARD_NO_PAD.decode(value.as_str()?).ok()?;
    let (hashes, rest) = bytes.as_chunks::<8>();
    rest.is_empty().then(|| hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect())
}

/// Keys of the parts that a run which has not ended has saved.
pub(super) fn parts<'entries>(
    stream: &str,
    entries: &'entries Entries,
) -> impl Iterator<Item = (&'entries String, &'entries Value)> + use<'entries> {
    let prefix = format!("{}/", key(stream));
    let from = entries.range(prefix.clone()..);
    from.take_while(move |(key, _)| key.starts_with(&prefix))
}

/// How many are known of a stream.
pub(super) fn count(stream: &str, entries: &Entries) -> u64 {
    let written = entries.get(&key(stream)).and_then(Value::as_str).unwrap_or_default();
    u64::try_from(base64::decoded_len_estimate(written.len()) / 8).unwrap_or(u64::MAX)
}

/// The change that forgets the parents of a stream.
pub(super) fn forgotten(stream: &str) -> Change {
    Change::forget(key(stream))
}

impl Read {
    /// What is remembered of a stream; with what its run has read so far, when it goes on.
    pub(super) fn restored(stream: &str, entries: &Entries, going_on: bool) -> Self {
        let known = Known(match entries.get(&key(stream)) {
            Some(Value::Null) => None,
            // Of whom nothing is known, the children are asked for.
            base => Some(Arc::new(base.and_then(read).into_iter().flatten().collect())),
        });
        let mut all = Self { stream: stream.to_owned(), known, ..Self::default() };
        for (_, value) in parts(stream, entries).filter(|_| going_on) {
            all.hashes.extend(read(value).unwrap_or_default());
            all.parts += 1;
        }
        all.saved = all.hashes.len();
        all
    }

    /// Takes note that a record's row may have become another than the one whose look is known.
    pub(super) fn touch(&mut self, item: &Item) {
        self.note(TOUCHED, &Item { stamp: Some(0), ..item.clone() });
    }

    /// What earlier runs knew.
    pub(super) fn known(&self) -> Known {
        self.known.clone()
    }

    /// Takes note of a parent.
    pub(super) fn note(&mut self, request: usize, item: &Item) {
        if self.hashes.len() <= MAX_PARENTS
            && let Some(hash) = hash(request, item)
        {
            self.hashes.push(hash);
        }
    }

    /// What the store lacks, to be saved with the progress of the same moment.
    pub(super) fn unsaved(&mut self) -> Option<Change> {
        let new = self.hashes.get(self.saved..).filter(|new| !new.is_empty())?;
        let change = Change::set(format!("{}/{:06}", key(&self.stream), self.parts), written(new));
        (self.saved, self.parts) = (self.hashes.len(), self.parts + 1);
        Some(change)
    }

    /// The same, knowing nothing of earlier runs.
    pub(super) fn alone(mut self) -> Self {
        self.known = Known(Some(Arc::default()));
        self.outdated = true;
        self
    }

    fn parts(&self) -> impl Iterator<Item = Change> {
        (0..self.parts).map(|number| Change::forget(format!("{}/{number:06}", key(&self.stream))))
    }

    /// Nothing is remembered from now on.
    pub(super) fn forgotten(&self) -> Vec<Change> {
        self.parts().chain([forgotten(&self.stream)]).collect()
    }

    /// What is remembered from now on: these parents, and unless `all` of them were there to be read,
    /// those that were known before.
    pub(super) fn settled(&self, all: bool) -> Vec<Change> {
        let mut changes: Vec<Change> = self.parts().collect();
        if self.known.0.is_none() && !all {
            return changes;
        }
        let before = self.known.0.as_deref().filter(|_| !all);
        let mut hashes = self.hashes.clone();
        hashes.extend(before.into_iter().flatten());
        hashes.sort_unstable();
        hashes.dedup();
        let same = self.known.0.as_ref().is_some_and(|known| {
            known.len() == hashes.len() && hashes.iter().all(|hash| known.contains(hash))
        });
        if hashes.len() > MAX_PARENTS {
            changes.push(Change::set(key(&self.stream), Value::Null));
        } else if self.outdated || !same {
            changes.push(Change::set(key(&self.stream), written(&hashes)));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: &str, stamp: i64) -> Item {
        Item { value: value.into(), stamp: Some(stamp), carried: "".into() }
    }

    fn apply(entries: &mut Entries, changes: impl IntoIterator<Item = Change>) {
        for Change { key, value } in changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
    }

    #[test]
    fn parents_are_known_by_their_version_and_forgotten_when_they_are_gone() {
        let mut entries = Entries::new();
        let mut read = Read::restored("labels", &entries, false);
        assert_eq!(read.known().contains(0, &item("1", 5)), Some(false));
        read.note(0, &item("1", 5));
        apply(&mut entries, read.unsaved());
        assert!(read.unsaved().is_none());
        // The process dies, and another one goes on.
        let mut read = Read::restored("labels", &entries, true);
        read.note(0, &item("2", 5));
        apply(&mut entries, read.unsaved());
        assert_eq!(entries.len(), 2);
        apply(&mut entries, read.settled(true));
        assert_eq!(entries.len(), 1);
        let read = Read::restored("labels", &entries, false);
        let known = |read: &Read, value, stamp| read.known().contains(0, &item(value, stamp));
        assert_eq!(known(&read, "1", 5), Some(true));
        assert_eq!(known(&read, "2", 5), Some(true));
        assert_eq!(known(&read, "2", 6), Some(false));
        assert!(read.settled(false).is_empty());
        let mut read = Read::restored("labels", &entries, false);
        read.note(0, &item("2", 6));
        apply(&mut entries, read.settled(true));
        let read = Read::restored("labels", &entries, false);
        assert_eq!(known(&read, "1", 5), Some(false));
        assert_eq!(known(&read, "2", 6), Some(true));
        // All are gone; one comes back as it was.
        let read = Read::restored("labels", &entries, false);
        apply(&mut entries, read.settled(true));
        let read = Read::restored("labels", &entries, false);
        assert_eq!(known(&read, "2", 6), Some(false));
    }

    #[test]
    fn too_many_parents_are_told_by_their_time_alone() {
        let mut entries = Entries::new();
        let mut read = Read::restored("labels", &entries, false);
        for number in 0..=i64::try_from(MAX_PARENTS).unwrap() {
            read.note(0, &item("1", number));
        }
        apply(&mut entries, read.settled(true));
        let mut read = Read::restored("labels", &entries, false);
        assert_eq!(read.known().contains(0, &item("1", 5)), None);
        read.note(0, &item("1", 5));
        apply(&mut entries, read.settled(false));
        assert_eq!(
            Read::restored("labels", &entries, false).known().contains(0, &item("2", 5)),
            None
        );
    }
}
