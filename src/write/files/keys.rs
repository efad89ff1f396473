//! Rows recognised by a hash of their values, wide enough that two with the same one are not to be
//! expected.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_schema::DataType;

/// Hash of some values of a row.
pub(super) type RowHash = u128;

type Hasher = BuildHasherDefault<DefaultHasher>;

/// Hash of the values of some columns in each row.
pub(super) fn hashes(batch: &RecordBatch, columns: &[usize]) -> Vec<RowHash> {
    let mut hashes = vec![0; batch.num_rows()];
    for column in columns {
        let array = batch.column(*column).as_ref();
        for (row, hash) in hashes.iter_mut().enumerate() {
            *hash = mix(*hash, &bytes(array, row));
        }
    }
    hashes
}

fn mix<T: Hash + ?Sized>(hash: RowHash, value: &T) -> RowHash {
    let hasher = Hasher::default();
    let low = hasher.hash_one((hash, value));
    let high = hasher.hash_one((low, hash, value, 1_u8));
    (RowHash::from(high) << 64) | RowHash::from(low)
}

/// A value's bytes; nothing for null.
fn bytes(array: &dyn Array, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::Boolean => {
            if array.as_boolean().value(row) {
                b"t"
            } else {
                b"f"
            }
        }
        _ => fixed(array, row),
    })
}

/// Bytes of a value of fixed width.
fn fixed(array: &dyn Array, row: usize) -> &[u8] {
    let data = array.data_type().primitive_width().unwrap_or_default();
    let buffer = match array.data_type() {
        DataType::Int64 => array.as_primitive::<arrow_array::types::Int64Type>().values().inner(),
        DataType::Float64 => {
            array.as_primitive::<arrow_array::types::Float64Type>().values().inner()
        }
        DataType::Date32 => array.as_primitive::<arrow_array::types::Date32Type>().values().inner(),
        DataType::Decimal128(..) => {
            array.as_primitive::<arrow_array::types::Decimal128Type>().values().inner()
        }
        DataType::Timestamp(..) => {
            array.as_primitive::<arrow_array::types::TimestampMicrosecondType>().values().inner()
        }
        _ => return &[],
    };
    buffer.as_slice().get(row * data..(row + 1) * data).unwrap_or_default()
}
