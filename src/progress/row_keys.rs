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
    /// Whether a set contains a key after a number of insertions.
    #[track_caller]
    fn check(set: &mut KeySet, taken: usize, key: usize, expected: bool) {
        let seen = set.young.len() + set.old.len();
        assert!((seen..taken).all(|key| set.insert(u128::try_from(key).unwrap())));
        assert_eq!(set.contains(u128::try_from(key).unwrap()), expected, "{key} of {taken}");
    }

    #[test]
    fn a_set_that_has_forgotten_keys_says_that_it_has_seen_all() {
        let mut set = KeySet::default();
        check(&mut set, 0, 0, false);
        check(&mut set, 1, 0, true);
        check(&mut set, 1, 1, false);
        check(&mut set, GENERATION, 0, true);
        check(&mut set, GENERATION, GENERATION, false);
        check(&mut set, 2 * GENERATION - 1, 2 * GENERATION, false);
        check(&mut set, 2 * GENERATION, 2 * GENERATION, true);
    }

    #[test]
    fn the_order_of_texts_matters_to_a_hash() {
        assert_eq!(hash_text("a"), hash_text("a"));
        assert_ne!(hash_text("a"), hash_text("b"));
        assert_ne!(with_text(hash_text("a"), "b"), with_text(hash_text("b"), "a"));
        assert_ne!(with_text(hash_text("a"), "b"), hash_text("ab"));
    }
}
