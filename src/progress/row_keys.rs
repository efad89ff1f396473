//! Sets of row keys, stored as hashes, to recognise rows that were read before.

use std::collections::HashSet;

use arrow_array::RecordBatch;

use crate::hash;
use crate::hash::Wide;

/// Number of keys after which the older half of a set is dropped.
const GENERATION: usize = 500_000;

/// Hash of a key. 128 bits make collisions negligible.
pub(crate) type KeyHash = Wide;

/// The most recent 0.5 to 1 million keys. Bounded, and sufficient for listings whose pages shift while they are
/// read.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    young: HashSet<KeyHash>,
    old: HashSet<KeyHash>,
    /// Whether keys were dropped.
    forgot: bool,
}

impl KeySet {
    /// Adds a key; `false` if the set had it.
    pub(crate) fn insert(&mut self, key: KeyHash) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= GENERATION {
            self.forgot |= !self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    /// Whether the set has a key. `true` for all keys once keys were dropped.
    pub(crate) fn contains(&self, key: KeyHash) -> bool {
        self.forgot || self.young.contains(&key) || self.old.contains(&key)
    }
}

/// Adds the keys of rows. Returns the number of new ones.
pub(crate) fn count_new(batch: &RecordBatch, key: &[usize], known: &mut KeySet) -> usize {
    hash_rows(batch, key).into_iter().filter(|hash| known.insert(*hash)).count()
}

/// Hash of one text.
pub(crate) fn hash_text(text: &str) -> KeyHash {
    with_text(0, text)
}

/// A hash extended by a text.
pub(crate) fn with_text(hash: KeyHash, text: &str) -> KeyHash {
    hash::with(hash, Some(text.as_bytes()))
}

/// Hash of each row's key, given the positions of the key's columns.
pub(crate) fn hash_rows(batch: &RecordBatch, key: &[usize]) -> Vec<KeyHash> {
    hash::rows(batch, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_recognises_its_recent_keys_and_stays_bounded() {
        let mut set = KeySet::default();
        let count = u128::try_from(GENERATION).unwrap() * 3;
        for key in 0..count {
            assert!(set.insert(key));
            assert!(!set.insert(key));
        }
        assert!(!set.insert(count - u128::try_from(GENERATION).unwrap()));
        assert!(set.young.len() + set.old.len() <= 2 * GENERATION);
    }
}
