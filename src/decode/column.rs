//! A column under construction, whose last rows can be removed again.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::scalar;
use crate::schema::{ColumnType, DECIMAL};

/// The value does not match the column's type; the column is unchanged.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit;

/// Builder of a column that can remove its last values.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    kind: ColumnType,
    values: Builder,
    valid: BooleanBufferBuilder,
}

#[derive(Debug)]
enum Builder {
    Text { ends: Vec<i32>, bytes: Vec<u8> },
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Bool(BooleanBufferBuilder),
    Date(Vec<i32>),
}

impl ColumnBuilder {
    pub(super) fn new(kind: ColumnType) -> Self {
        let values = match kind {
            ColumnType::Text | ColumnType::Json | ColumnType::Bytes => {
                Builder::Text { ends: vec![0], bytes: Vec::new() }
            }
            ColumnType::Int | ColumnType::Timestamp => Builder::Int(Vec::new()),
            ColumnType::Float => Builder::Float(Vec::new()),
            ColumnType::Decimal => Builder::Decimal(Vec::new()),
            ColumnType::Bool => Builder::Bool(BooleanBufferBuilder::new(0)),
            ColumnType::Date => Builder::Date(Vec::new()),
        };
        Self { kind, values, valid: BooleanBufferBuilder::new(0) }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Appends the value of a JSON text other than `null`.
    pub(super) fn push_json(&mut self, raw: &str) -> Result<(), Misfit> {
        match &mut self.values {
            Builder::Text { ends, bytes } => {
                let start = bytes.len();
                let fits = match self.kind {
                    ColumnType::Json => {
                        bytes.extend_from_slice(raw.as_bytes());
                        true
                    }
                    ColumnType::Bytes => scalar::bytes(raw, bytes),
                    _ => scalar::text(raw, bytes),
                };
                let end = i32::try_from(bytes.len()).ok().filter(|_| fits);
                let Some(end) = end else {
                    bytes.truncate(start);
                    return Err(Misfit);
                };
                ends.push(end);
            }
            Builder::Int(values) if self.kind == ColumnType::Timestamp => {
                values.push(scalar::timestamp(raw).ok_or(Misfit)?);
            }
            Builder::Int(values) => values.push(scalar::int(raw).ok_or(Misfit)?),
            Builder::Float(values) => values.push(scalar::float(raw).ok_or(Misfit)?),
            Builder::Decimal(values) => values.push(scalar::decimal(raw).ok_or(Misfit)?),
            Builder::Bool(values) => values.append(scalar::bool(raw).ok_or(Misfit)?),
            Builder::Date(values) => values.push(scalar::date(raw).ok_or(Misfit)?),
        }
        self.valid.append(true);
        Ok(())
    }

    /// Appends a null.
    pub(super) fn push_null(&mut self) {
        match &mut self.values {
            Builder::Text { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Builder::Int(values) => values.push(0),
            Builder::Float(values) => values.push(0.0),
            Builder::Decimal(values) => values.push(0),
            Builder::Bool(values) => values.append(false),
            Builder::Date(values) => values.push(0),
        }
        self.valid.append(false);
    }

    /// Appends the last value `times` more.
    pub(super) fn repeat_last(&mut self, times: usize) {
        let Some(last) = self.len().checked_sub(1) else { return };
        for _ in 0..times {
            match &mut self.values {
                Builder::Text { ends, bytes } => {
                    let end = ends.last().copied().unwrap_or(0);
                    let start = ends.len().checked_sub(2).and_then(|at| ends.get(at)).copied();
                    let range = usize::try_from(start.unwrap_or(0)).unwrap_or(0)..bytes.len();
                    bytes.extend_from_within(range);
                    ends.push(i32::try_from(bytes.len()).unwrap_or(end));
                }
                Builder::Int(values) => values.extend_from_within(last..=last),
                Builder::Float(values) => values.extend_from_within(last..=last),
                Builder::Decimal(values) => values.extend_from_within(last..=last),
                Builder::Bool(values) => values.append(values.get_bit(last)),
                Builder::Date(values) => values.extend_from_within(last..=last),
            }
            self.valid.append(self.valid.get_bit(last));
        }
    }

    /// Removes all values after the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Builder::Text { ends, bytes } => {
                ends.truncate(rows + 1);
                let end = ends.last().copied().unwrap_or(0);
                bytes.truncate(usize::try_from(end).unwrap_or(0));
            }
            Builder::Int(values) => values.truncate(rows),
            Builder::Float(values) => values.truncate(rows),
            Builder::Decimal(values) => values.truncate(rows),
            Builder::Bool(values) => values.truncate(rows),
            Builder::Date(values) => values.truncate(rows),
        }
        self.valid.truncate(rows);
    }

    /// The column as an Arrow array of [`ColumnType::arrow`]'s type.
    pub(super) fn finish(mut self) -> ArrayRef {
        let nulls =
            Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        match self.values {
            Builder::Text { ends, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                let bytes = Buffer::from_vec(bytes);
                if self.kind == ColumnType::Bytes {
                    return Arc::new(BinaryArray::new(offsets, bytes, nulls));
                }
                Arc::new(StringArray::new(offsets, bytes, nulls))
            }
            Builder::Int(values) if self.kind == ColumnType::Timestamp => {
                let array = TimestampMicrosecondArray::new(values.into(), nulls);
                Arc::new(array.with_timezone("UTC"))
            }
            Builder::Int(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Builder::Float(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Builder::Decimal(values) => {
                let array = Decimal128Array::new(values.into(), nulls);
                let typed = array.with_precision_and_scale(DECIMAL.0, DECIMAL.1);
                Arc::new(typed.expect("the precision and scale are constants that Arrow allows"))
            }
            Builder::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Builder::Date(values) => Arc::new(Date32Array::new(values.into(), nulls)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray};

    use super::*;

    #[test]
    fn values_can_be_taken_back() {
        let mut column = ColumnBuilder::new(ColumnType::Text);
        column.push_json("\"a\"").unwrap();
        column.push_json("\"bc\"").unwrap();
        column.truncate(1);
        column.push_null();
        column.push_json("\"d\"").unwrap();
        column.repeat_last(2);
        let array = column.finish();
        let texts: Vec<Option<&str>> = array.as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("a"), None, Some("d"), Some("d"), Some("d")]);
    }

    #[test]
    fn a_misfit_leaves_the_column_as_it_was() {
        for kind in ColumnType::ALL {
            let mut column = ColumnBuilder::new(kind);
            column.push_null();
            let fits = column.push_json("{\"a\":1}").is_ok();
            assert_eq!(fits, kind == ColumnType::Json, "{kind}");
            assert_eq!(column.len(), 1 + usize::from(fits));
            assert_eq!(column.finish().data_type(), &kind.arrow());
        }
    }
}
