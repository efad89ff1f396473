//! Hashes with fixed algorithms: saved hashes are valid for every build and machine.

use std::hash::Hasher;

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;
use siphasher::sip128::{Hasher128, SipHasher13};

/// A hash of 128 bits, wide enough that collisions are not expected.
pub(crate) type Wide = u128;

/// SipHash-1-3 with a zero key and 128 bits: extends `hash` by one more value. `None` is a distinct
/// value.
pub(crate) fn with(hash: Wide, value: Option<&[u8]>) -> Wide {
    let mut hasher = SipHasher13::new();
    hasher.write(&hash.to_le_bytes());
    hasher.write(&[u8::from(value.is_some())]);
    hasher.write(value.unwrap_or_default());
    hasher.finish128().as_u128()
}

/// The lower half of a hash.
pub(crate) fn narrow(hash: Wide) -> u64 {
    u64::try_from(hash & Wide::from(u64::MAX)).unwrap_or_default()
}

/// [`with`] over the values of some columns, for each row.
pub(crate) fn rows(batch: &RecordBatch, columns: &[usize]) -> Vec<Wide> {
    let mut hashes = vec![0; batch.num_rows()];
    for column in columns {
        let array = batch.column(*column).as_ref();
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = with(*hash, bytes(array, row));
        }
    }
    hashes
}

/// FNV-1a, 64 bits: for names and fingerprints.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The bytes of a value; `None` for null.
fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::Boolean => [b"f", b"t"][usize::from(array.as_boolean().value(row))],
        _ => fixed(array, row),
    })
}

/// Bytes of a fixed-width value as in Arrow: little-endian.
fn fixed(array: &dyn Array, row: usize) -> &[u8] {
    let width = array.data_type().primitive_width().unwrap_or_default();
    let buffer = match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().values().inner(),
        DataType::Float64 => array.as_primitive::<Float64Type>().values().inner(),
        DataType::Date32 => array.as_primitive::<Date32Type>().values().inner(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().values().inner(),
        DataType::Timestamp(..) => {
            array.as_primitive::<TimestampMicrosecondType>().values().inner()
        }
        _ => return &[],
    };
    buffer.as_slice().get(row * width..(row + 1) * width).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn hashes_are_the_same_for_ever() {
        // Saved state contains these hashes: a different value here makes every replication read
        // everything again.
        assert_eq!(with(0, Some(b"7 123")), 82_028_979_941_026_899_431_206_110_044_361_211_368);
        assert_eq!(fnv(*b"weir"), 4_420_281_892_235_557_110);
    }

    #[test]
    fn rows_with_the_same_values_hash_alike() {
        let ids: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), Some("a"), Some("b"), None]));
        let numbers: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(1), Some(1)]));
        let batch = RecordBatch::try_from_iter([("id", ids), ("number", numbers)]).unwrap();
        let [one, two, three, four] = rows(&batch, &[0, 1]).try_into().unwrap();
        assert_eq!(one, rows(&batch.slice(0, 1), &[0, 1])[0]);
        assert!(one != two && one != three && four != with(with(0, Some(b"")), None));
    }
}
