//! Arrays and values from JSON texts.

use arrow_array::ArrayRef;

use super::column::ColumnBuilder;
use super::scalar;
use crate::schema::ColumnType;

/// A timestamp in one of the common formats, or a date, in microseconds since 1970; `None` if it is
/// neither.
pub fn timestamp(text: &str) -> Option<i64> {
    scalar::timestamp(&serde_json::Value::from(text).to_string())
}

/// An array with the same value in every row, given as JSON text; null if there is none or its type
/// does not match.
pub fn repeated(kind: ColumnType, json: Option<&str>, rows: usize) -> ArrayRef {
    let mut column = ColumnBuilder::new(kind);
    if let Some(more) = rows.checked_sub(1) {
        push(&mut column, json);
        column.repeat_last(more);
    }
    column.finish()
}

/// An array of values given as JSON text; null where there is none or its type does not match.
pub fn array<'json>(
    kind: ColumnType,
    values: impl Iterator<Item = Option<&'json str>>,
) -> ArrayRef {
    let mut column = ColumnBuilder::new(kind);
    for json in values {
        push(&mut column, json);
    }
    column.finish()
}

pub(super) fn push(column: &mut ColumnBuilder, json: Option<&str>) {
    if json.is_none_or(|json| column.push_json(json).is_err()) {
        column.push_null();
    }
}
