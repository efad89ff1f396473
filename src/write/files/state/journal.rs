//! The format of state files: records that each carry their length and a checksum.
//!
//! A snapshot is one record, a journal any number of them. Reading ends at the first record that is incomplete
//! or altered, so damage never passes for saved state. A record belongs to one generation of the snapshot, so a
//! journal is never applied to another snapshot than its own.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::hash;
use crate::state::{Change, Entries};

/// Bytes before a record's text: its length and its checksum in hexadecimal, each followed by a space.
const HEAD: usize = 16 + 1 + 16 + 1;

/// A state as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) entries: Entries,
    /// Number of the snapshot, from 0.
    pub(crate) generation: u64,
    /// What was damaged, as a clause.
    pub(crate) damage: Option<String>,
}

/// The changes in a record of a journal.
type ReadChanges = Vec<(String, Option<Value>)>;

/// A snapshot of all entries.
pub(crate) fn snapshot(generation: u64, entries: &Entries) -> Result<Vec<u8>> {
    record(&(generation, entries))
}

/// A record of a journal.
pub(crate) fn changes(generation: u64, changes: &[Change]) -> Result<Vec<u8>> {
    let changes: Vec<_> = changes.iter().map(|change| (&change.key, &change.value)).collect();
    record(&(generation, changes))
}

/// A record with this content.
pub(crate) fn record(content: &impl serde::Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_vec(content)
        .map_err(|error| Error::target("the state cannot be written as JSON").because(error))?;
    let mut record = format!("{:016x} {:016x} ", text.len(), checksum(&text)).into_bytes();
    record.extend(text);
    record.push(b'\n');
    Ok(record)
}

fn checksum(text: &[u8]) -> u64 {
    hash::narrow(hash::with(0, Some(text)))
}

/// The text of the first record, and the bytes after the record; `None` when the record is damaged.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = std::str::from_utf8(bytes.get(..HEAD)?).ok()?;
    let (length, sum) = head.strip_suffix(' ')?.split_once(' ')?;
    let length = usize::try_from(u64::from_str_radix(length, 16).ok()?).ok()?;
    let end = HEAD.checked_add(length)?;
    let text = bytes.get(HEAD..end)?;
    let whole = sum == format!("{:016x}", checksum(text)) && bytes.get(end) == Some(&b'\n');
    whole.then(|| (text, bytes.get(end + 1..).unwrap_or_default()))
}

/// The content of a single record; `None` when the record is damaged.
pub(crate) fn content<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (text, []) = first(bytes)? else { return None };
    serde_json::from_slice(text).ok()
}

/// Reads a snapshot and the journal that was written after it. Leaves out the first damaged record and all later
/// ones.
pub(crate) fn read(snapshot: Option<&[u8]>, journal: &[u8]) -> Loaded {
    let found = snapshot.map_or(Some((0, Entries::new())), content);
    let Some((generation, entries)) = found else {
        let damage = Some("the saved state is incomplete or altered".to_owned());
        return Loaded { damage, ..Loaded::default() };
    };
    let mut loaded = Loaded { entries, generation, damage: None };
    let mut rest = journal;
    while !rest.is_empty() {
        let read = read_changes(rest);
        let Some((generation, changes, after)) = read else {
            loaded.damage = Some(format!(
                "the last {} of {} bytes of its journal are incomplete or altered",
                rest.len(),
                journal.len()
            ));
            break;
        };
        // The journal of an earlier snapshot is part of this snapshot. The journal of a later one cannot be
        // applied without that snapshot.
        if generation > loaded.generation {
            loaded.damage = Some("the snapshot that its journal follows is missing".to_owned());
            break;
        }
        if generation == loaded.generation {
            apply(&mut loaded.entries, changes);
        }
        rest = after;
    }
    loaded
}

fn read_changes(bytes: &[u8]) -> Option<(u64, ReadChanges, &[u8])> {
    let (text, rest) = first(bytes)?;
    let (generation, changes) = serde_json::from_slice(text).ok()?;
    Some((generation, changes, rest))
}

fn apply(entries: &mut Entries, changes: ReadChanges) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal of ten records, and the entries after each of them.
    fn history() -> (Vec<u8>, Vec<Entries>) {
        let (mut journal, mut entries, mut all) = (Vec::new(), Entries::new(), Vec::new());
        all.push(entries.clone());
        for number in 0..10_u64 {
            let key = format!("stream/{}", number % 3);
            let change = if number == 7 {
                entries.remove(&key);
                Change::forget(key)
            } else {
                entries.insert(key.clone(), Value::from(number));
                Change::set(key, Value::from(number))
            };
            journal.extend(changes(0, &[change]).unwrap());
            all.push(entries.clone());
        }
        (journal, all)
    }

    #[test]
    fn a_journal_cut_anywhere_is_one_of_the_states_that_were_saved() {
        let (journal, states) = history();
        for length in 0..=journal.len() {
            let read = read(None, &journal[..length]);
            let at = states.iter().position(|state| *state == read.entries).unwrap();
            let ends = journal[..length].split(|byte| *byte == b'\n').count() - 1;
            assert_eq!(at, ends.min(at), "{length}");
            assert_eq!(read.damage.is_none(), length == 0 || journal[length - 1] == b'\n');
        }
    }

    #[test]
    fn a_flipped_bit_takes_its_record_and_what_follows_and_nothing_before() {
        let (journal, states) = history();
        for at in 0..journal.len() {
            for bit in 0..8 {
                let mut damaged = journal.clone();
                damaged[at] ^= 1 << bit;
                let read = read(None, &damaged);
                let before = journal[..at].split(|byte| *byte == b'\n').count() - 1;
                assert_eq!(read.entries, states[before], "byte {at} bit {bit}");
                assert!(read.damage.is_some());
            }
        }
    }

    #[test]
    fn a_snapshot_is_whole_or_nothing_and_an_older_journal_is_not_read_over_it() {
        let (journal, states) = history();
        let snapshot = snapshot(1, &states[10]).unwrap();
        assert_eq!(read(Some(&snapshot), &journal[..100]).entries, states[10]);
        for length in 0..snapshot.len() {
            let read = read(Some(&snapshot[..length]), &journal);
            assert!(read.entries.is_empty() && read.damage.is_some());
        }
    }

    #[test]
    fn a_journal_without_the_snapshot_that_it_follows_is_damage() {
        let later = changes(2, &[Change::set("a".to_owned(), Value::from(1))]).unwrap();
        let read = read(None, &later);
        assert!(read.entries.is_empty() && read.damage.is_some());
    }
}
