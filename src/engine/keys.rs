//! Rows seen before, recognised by a hash of their key.

use std::{
    collections::HashSet,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
};

use arrow_array::{
    Array, BooleanArray, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;

/// Keys after which the older half of a set is forgotten.
const GENERATION: usize = 500_000;

/// Hash of a key, wide enough that two keys with the same one are not to be expected.
pub(super) type KeyHash = u128;

type Hasher = BuildHasherDefault<DefaultHasher>;

/// The last half to one million keys: bounded, and enough for listings that shift under way.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    young: HashSet<KeyHash>,
    old: HashSet<KeyHash>,
    /// Whether it has forgotten any.
    forgot: bool,
}

impl KeySet {
    /// Takes note of a key; `false` when it was there before.
    pub(super) fn insert(&mut self, key: KeyHash) -> bool {
        if self.old.contains(&key) || !self.young.insert(key) {
            return false;
        }
        if self.young.len() >= GENERATION {
            self.forgot |= !self.old.is_empty();
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    /// Whether a key was there before; of keys that may have been forgotten, that it was.
    pub(super) fn contains(&self, key: KeyHash) -> bool {
        self.forgot || self.young.contains(&key) || self.old.contains(&key)
    }
}

/// Takes note of the keys of rows; how many of them were not there before.
pub(super) fn count_new(batch: &RecordBatch, key: &[usize], known: &mut KeySet) -> usize {
    hash_rows(batch, key).into_iter().filter(|hash| known.insert(*hash)).count()
}

/// Hash of one text.
pub(super) fn hash_text(text: &str) -> KeyHash {
    with_text(0, text)
}

/// A hash with one more text.
pub(super) fn with_text(hash: KeyHash, text: &str) -> KeyHash {
    mix(hash, &text)
}

/// Hash of each row's key, given the positions of the key's columns.
pub(super) fn hash_rows(batch: &RecordBatch, key: &[usize]) -> Vec<KeyHash> {
    let mut hashes = vec![0; batch.num_rows()];
    for position in key {
        let column = batch.column(*position);
        match column.data_type() {
            DataType::Utf8 => fold(&mut hashes, column.as_string::<i32>().iter()),
            DataType::Binary => fold(&mut hashes, column.as_binary::<i32>().iter()),
            DataType::Int64 => fold(&mut hashes, column.as_primitive::<Int64Type>().iter()),
            DataType::Date32 => fold(&mut hashes, column.as_primitive::<Date32Type>().iter()),
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().iter();
                fold(&mut hashes, values.map(|value| value.map(f64::to_bits)));
            }
            DataType::Decimal128(..) => {
                fold(&mut hashes, column.as_primitive::<Decimal128Type>().iter());
            }
            DataType::Timestamp(..) => {
                fold(&mut hashes, column.as_primitive::<TimestampMicrosecondType>().iter());
            }
            _ => {
                if let Some(values) = column.as_any().downcast_ref::<BooleanArray>() {
                    fold(&mut hashes, values.iter());
                }
            }
        }
    }
    hashes
}

fn fold<T: Hash>(hashes: &mut [KeyHash], values: impl Iterator<Item = T>) {
    for (hash, value) in hashes.iter_mut().zip(values) {
        *hash = mix(*hash, &value);
    }
}

fn mix<T: Hash>(hash: KeyHash, value: &T) -> KeyHash {
    let hasher = Hasher::default();
    let low = hasher.hash_one((hash, value));
    let high = hasher.hash_one((low, hash, value, 1_u8));
    (KeyHash::from(high) << 64) | KeyHash::from(low)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn rows_with_the_same_key_hash_alike() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "a", "b", "a"]));
        let numbers: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(1), Some(1)]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("number", numbers)]).unwrap();
        let hashes = hash_rows(&batch, &[0, 1]);
        assert_eq!(hashes[0], hashes[3]);
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }

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
