//! Saved versions: those of the parents whose children a stream has read, so that it reads only the children of
//! changed parents; and the fingerprints of its own records, so that it fetches only changed ones.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::Value;

use crate::progress::item::QueueItem;
use crate::progress::row_keys::hash_text;
use crate::state::{Change, Entries};

/// Maximum number of saved versions per stream, 8 bytes each. With more, a parent that reappears with an old
/// version is not detected.
const MAX_PARENTS: usize = 1 << 20;

/// The kinds of versions that are saved of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionKind {
    /// Versions of the parents whose children were read.
    Parents,
    /// Fingerprints of the stream's records, as of the last full read.
    Fingerprints,
    /// Records whose rows later runs have written.
    Overwritten,
}

impl VersionKind {
    const ALL: [Self; 3] = [Self::Parents, Self::Fingerprints, Self::Overwritten];

    /// The change that removes the saved versions.
    pub(crate) fn forgotten(self, stream: &str) -> Change {
        Change::forget(self.key(stream))
    }

    fn key(self, stream: &str) -> String {
        let about = match self {
            Self::Parents => "parents",
            Self::Fingerprints => "looks",
            Self::Overwritten => "touched",
        };
        format!("{about}/{stream}")
    }
}

/// Versions that earlier runs saved: hashes of value and version. `None`: there were too many to save.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownVersions(Option<Arc<HashSet<u64>>>);

impl KnownVersions {
    /// Whether a parent is new since the versions of others were saved.
    pub(crate) fn lacks(&self, item: &QueueItem) -> bool {
        let any = self.0.as_ref().is_some_and(|known| !known.is_empty());
        any && self.contains(0, &met(item)) == Some(false)
    }

    /// Whether the children of this version of a parent were read; `None` if that is unknown.
    pub(crate) fn contains(&self, request: usize, item: &QueueItem) -> Option<bool> {
        let known = self.0.as_ref()?;
        Some(hash(request, item).is_some_and(|hash| known.contains(&hash)))
    }
}

/// Fingerprints of records, as of when their rows were written.
#[derive(Clone, Debug)]
pub(crate) struct KnownFingerprints {
    fingerprints: KnownVersions,
    overwritten: KnownVersions,
}

impl KnownFingerprints {
    /// The saved fingerprints of a stream.
    pub(crate) fn restored(stream: &str, entries: &Entries) -> Self {
        let known = |kind| VersionLog::restored(kind, stream, entries, false).known();
        Self {
            fingerprints: known(VersionKind::Fingerprints),
            overwritten: known(VersionKind::Overwritten),
        }
    }

    /// Whether the fingerprint of a record is unchanged since its row was written.
    pub(crate) fn is_same(&self, item: &QueueItem) -> bool {
        self.fingerprints.contains(0, item) == Some(true)
            && self.overwritten.contains(0, &touched(item)) == Some(false)
    }
}

/// A record regardless of its fingerprint.
pub(crate) fn touched(item: &QueueItem) -> QueueItem {
    QueueItem { stamp: Some(0), ..item.clone() }
}

/// A parent with its payload, regardless of its version.
pub(crate) fn met(item: &QueueItem) -> QueueItem {
    let value = format!("{} {}", item.value, item.carried).into();
    QueueItem { value, stamp: Some(0), carried: "".into() }
}

/// The versions that this run has read, to be saved.
#[derive(Debug, Default)]
pub(crate) struct VersionLog {
    /// Key in the store.
    key: String,
    hashes: Vec<u64>,
    /// Number of hashes in the store.
    saved: usize,
    /// Number of parts in the store.
    parts: usize,
    known: KnownVersions,
}

fn hash(request: usize, item: &QueueItem) -> Option<u64> {
    let text = format!("{request} {} {} {}", item.stamp?, item.value, item.carried);
    // Half of the hash. For a million parents, the probability of a collision is 1 in 40 million.
    u64::try_from(hash_text(&text) >> 64).ok()
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

/// The parts that an open run has saved below a key.
fn parts_of<'entries>(
    key: &str,
    entries: &'entries Entries,
) -> impl Iterator<Item = (&'entries String, &'entries Value)> + use<'entries> {
    let prefix = format!("{key}/");
    let from = entries.range(prefix.clone()..);
    from.take_while(move |(key, _)| key.starts_with(&prefix))
}

/// Keys of all parts that an open run has saved of a stream.
pub(crate) fn parts<'entries>(
    stream: &str,
    entries: &'entries Entries,
) -> impl Iterator<Item = &'entries String> + use<'entries> {
    let keys = VersionKind::ALL.map(|about| about.key(stream));
    keys.into_iter().flat_map(|key| parts_of(&key, entries)).map(|(key, _)| key)
}

/// Number of saved fingerprints of a stream.
pub(crate) fn fingerprint_count(stream: &str, entries: &Entries) -> u64 {
    let written = entries.get(&VersionKind::Fingerprints.key(stream)).and_then(Value::as_str);
    let length = base64::decoded_len_estimate(written.unwrap_or_default().len());
    u64::try_from(length / 8).unwrap_or(u64::MAX)
}

/// The changes that remove all saved versions of a stream.
pub(crate) fn forgotten(stream: &str) -> [Change; 3] {
    VersionKind::ALL.map(|about| about.forgotten(stream))
}

impl VersionLog {
    /// The saved versions of a stream. `resumed`: with those that the resumed run has read so far.
    pub(crate) fn restored(
        kind: VersionKind,
        stream: &str,
        entries: &Entries,
        resumed: bool,
    ) -> Self {
        let key = kind.key(stream);
        let known = KnownVersions(match entries.get(&key) {
            Some(Value::Null) => None,
            // The children of an unknown parent are read.
            base => Some(Arc::new(base.and_then(read).into_iter().flatten().collect())),
        });
        let mut all = Self { key, known, ..Self::default() };
        for (_, value) in parts_of(&all.key, entries).filter(|_| resumed) {
            all.hashes.extend(read(value).unwrap_or_default());
            all.parts += 1;
        }
        all.saved = all.hashes.len();
        all
    }

    /// The versions that earlier runs saved.
    pub(crate) fn known(&self) -> KnownVersions {
        self.known.clone()
    }

    /// Adds the version of a parent.
    pub(crate) fn note(&mut self, request: usize, item: &QueueItem) {
        if self.hashes.len() <= MAX_PARENTS
            && let Some(hash) = hash(request, item)
        {
            self.hashes.push(hash);
        }
    }

    /// The versions that the store lacks. Save them with the progress of the same moment.
    pub(crate) fn unsaved(&mut self) -> Option<Change> {
        let new = self.hashes.get(self.saved..).filter(|new| !new.is_empty())?;
        let change = Change::set(format!("{}/{:06}", self.key, self.parts), written(new));
        (self.saved, self.parts) = (self.hashes.len(), self.parts + 1);
        Some(change)
    }

    fn parts(&self) -> impl Iterator<Item = Change> {
        (0..self.parts).map(|number| Change::forget(format!("{}/{number:06}", self.key)))
    }

    /// The changes that remove all versions of this kind.
    pub(crate) fn forgotten(&self) -> Vec<Change> {
        self.parts().chain([Change::forget(&self.key)]).collect()
    }

    /// The changes at the end of a run: save the versions that it read, and keep the earlier ones unless the run
    /// received `all` parents.
    pub(crate) fn settled(&self, all: bool) -> Vec<Change> {
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
            changes.push(Change::set(&self.key, Value::Null));
        } else if !same {
            changes.push(Change::set(&self.key, written(&hashes)));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: &str, stamp: i64) -> QueueItem {
        QueueItem { value: value.into(), stamp: Some(stamp), carried: "".into() }
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
        let mut read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        assert_eq!(read.known().contains(0, &item("1", 5)), Some(false));
        read.note(0, &item("1", 5));
        apply(&mut entries, read.unsaved());
        assert!(read.unsaved().is_none());
        // The process is killed, and another one resumes the run.
        let mut read = VersionLog::restored(VersionKind::Parents, "labels", &entries, true);
        read.note(0, &item("2", 5));
        apply(&mut entries, read.unsaved());
        assert_eq!(entries.len(), 2);
        apply(&mut entries, read.settled(true));
        assert_eq!(entries.len(), 1);
        let read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        let known = |read: &VersionLog, value, stamp| read.known().contains(0, &item(value, stamp));
        assert_eq!(known(&read, "1", 5), Some(true));
        assert_eq!(known(&read, "2", 5), Some(true));
        assert_eq!(known(&read, "2", 6), Some(false));
        assert!(read.settled(false).is_empty());
        let mut read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        read.note(0, &item("2", 6));
        apply(&mut entries, read.settled(true));
        let read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        assert_eq!(known(&read, "1", 5), Some(false));
        assert_eq!(known(&read, "2", 6), Some(true));
        // All parents are deleted; one reappears unchanged.
        let read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        apply(&mut entries, read.settled(true));
        let read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        assert_eq!(known(&read, "2", 6), Some(false));
    }

    #[test]
    fn too_many_parents_are_told_by_their_time_alone() {
        let mut entries = Entries::new();
        let mut read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        for number in 0..=i64::try_from(MAX_PARENTS).unwrap() {
            read.note(0, &item("1", number));
        }
        apply(&mut entries, read.settled(true));
        let mut read = VersionLog::restored(VersionKind::Parents, "labels", &entries, false);
        assert_eq!(read.known().contains(0, &item("1", 5)), None);
        read.note(0, &item("1", 5));
        apply(&mut entries, read.settled(false));
        assert_eq!(
            VersionLog::restored(VersionKind::Parents, "labels", &entries, false)
                .known()
                .contains(0, &item("2", 5)),
            None
        );
    }
}
