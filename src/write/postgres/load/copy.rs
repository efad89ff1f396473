//! Arrow batches as the bytes of a binary COPY.
//!
//! Values that Postgres cannot hold are replaced by the nearest possible ones, and counted: NUL characters by U+FFFD,
//! dates and timestamps out of range by `infinity` or `-infinity`, and in JSON what [`storable`] replaces.

use arrow_array::{Array, RecordBatch};
use bytes::{BufMut, BytesMut};

use crate::error::{Error, Kind, Result};
use crate::schema::{ColumnType, DECIMAL, TableSchema};
use crate::write::formats::cells::Cells;
use crate::write::postgres::load::jsonb::storable;

/// Beginning of a binary COPY: its signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// End of a binary COPY.
pub(crate) const TRAILER: &[u8] = &[0xff, 0xff];

/// Postgres counts days and microseconds from 2000-01-01.
const EPOCH_DAYS: i64 = 10_957;
const EPOCH_MICROS: i64 = EPOCH_DAYS * 86_400_000_000;
/// Ranges of `date` and `timestamptz`, in Postgres' count. The range of `timestamptz` ends after Arrow's.
const FIRST_DAY: i64 = -2_451_545;
const LAST_DAY: i64 = 2_145_031_948;
const FIRST_MICROS: i64 = -211_813_488_000_000_000;
/// Groups of four digits in the fraction: three groups hold nine digits and three zeros.
const FRACTION_GROUPS: usize = 3;
/// Most groups of four digits in a decimal of 38 digits.
const MOST_GROUPS: usize = 8 + FRACTION_GROUPS + 1;

/// Encodes the rows of one batch.
pub(crate) struct Rows<'a> {
    columns: Vec<CopyColumn<'a>>,
    /// Fields per row: the columns, and one more when rows are numbered.
    fields: i16,
    /// Number of the batch's first row; `None` when rows are not numbered.
    first: Option<i64>,
    /// Number of replaced values by column.
    pub(crate) replaced: Vec<u64>,
}

/// A column, and whether some of its texts hold a NUL character.
struct CopyColumn<'a> {
    cells: Cells<'a>,
    has_nul: bool,
}

impl<'a> Rows<'a> {
    /// The rows of a batch with the columns of the schema; `first` is the number of the first row.
    pub(crate) fn new(
        schema: &TableSchema,
        batch: &'a RecordBatch,
        first: Option<i64>,
    ) -> Result<Self> {
        if batch.num_columns() != schema.columns.len() {
            let (has, needs) = (batch.num_columns(), schema.columns.len());
            let what = format!("a batch has {has} columns, its table has {needs}");
            return Err(Error::new(Kind::Shape, what));
        }
        let mut columns = Vec::with_capacity(schema.columns.len());
        for (column, array) in schema.columns.iter().zip(batch.columns()) {
            let cells = CopyColumn::new(column.kind, array.as_ref()).ok_or_else(|| {
                let (name, found) = (&column.name, array.data_type());
                Error::new(
                    Kind::Shape,
                    format!("column `{name}` is `{}`, the batch has {found}", column.kind),
                )
            })?;
            columns.push(cells);
        }
        let fields = columns.len() + usize::from(first.is_some());
        let fields = i16::try_from(fields)
            .map_err(|_| Error::input(format!("a table cannot have {fields} columns")))?;
        let replaced = vec![0; columns.len()];
        Ok(Self { columns, fields, first, replaced })
    }

    /// Appends one row.
    pub(crate) fn put(&mut self, row: usize, out: &mut BytesMut) {
        out.put_i16(self.fields);
        for (column, replaced) in self.columns.iter().zip(&mut self.replaced) {
            *replaced += u64::from(column.put(row, out));
        }
        if let Some(first) = self.first {
            out.put_i32(8);
            out.put_i64(first.saturating_add(i64::try_from(row).unwrap_or(i64::MAX)));
        }
    }
}

impl<'a> CopyColumn<'a> {
    fn new(kind: ColumnType, array: &'a dyn Array) -> Option<Self> {
        let cells = Cells::of_type(kind, array)?;
        let has_nul = matches!(&cells, Cells::Text(text) if text.value_data().contains(&0));
        Some(Self { cells, has_nul })
    }

    /// Appends one field; `true` when its value had to be replaced.
    fn put(&self, row: usize, out: &mut BytesMut) -> bool {
        if self.cells.is_null(row) {
            out.put_i32(-1);
            return false;
        }
        match &self.cells {
            Cells::Text(array) if self.has_nul => return put_unclean(array.value(row), out),
            Cells::Text(array) => put_bytes(array.value(row).as_bytes(), out),
            Cells::Json(array) => return put_json(array.value(row), out),
            Cells::Int(array) => {
                out.put_i32(8);
                out.put_i64(array.value(row));
            }
            Cells::Float(array) => {
                out.put_i32(8);
                out.put_f64(array.value(row));
            }
            Cells::Decimal(array) => put_decimal(array.value(row), out),
            Cells::Bool(array) => {
                out.put_i32(1);
                out.put_u8(u8::from(array.value(row)));
            }
            Cells::Date(array) => return put_date(array.value(row), out),
            Cells::Timestamp(array) => return put_timestamp(array.value(row), out),
            Cells::Bytes(array) => put_bytes(array.value(row), out),
        }
        false
    }
}

fn put_length(length: usize, out: &mut BytesMut) {
    // Arrow's offsets are 32 bits wide, so no value is longer.
    out.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

fn put_unclean(text: &str, out: &mut BytesMut) -> bool {
    if text.contains('\0') {
        put_bytes(text.replace('\0', "\u{fffd}").as_bytes(), out);
        return true;
    }
    put_bytes(text.as_bytes(), out);
    false
}

/// Appends a version byte and the text.
fn put_json(text: &str, out: &mut BytesMut) -> bool {
    let stored = storable(text);
    put_length(stored.len() + 1, out);
    out.put_u8(1);
    out.put_slice(stored.as_bytes());
    matches!(stored, std::borrow::Cow::Owned(_))
}

fn put_date(days: i32, out: &mut BytesMut) -> bool {
    let days = i64::from(days) - EPOCH_DAYS;
    out.put_i32(4);
    match i32::try_from(days) {
        Ok(within) if (FIRST_DAY..=LAST_DAY).contains(&days) => {
            out.put_i32(within);
            false
        }
        _ => {
            out.put_i32(if days < 0 { i32::MIN } else { i32::MAX });
            true
        }
    }
}

fn put_timestamp(micros: i64, out: &mut BytesMut) -> bool {
    let shifted = micros.checked_sub(EPOCH_MICROS).filter(|micros| *micros >= FIRST_MICROS);
    out.put_i32(8);
    out.put_i64(shifted.unwrap_or(i64::MIN));
    shifted.is_none()
}

/// Appends a decimal: its sign, and digits to the base of 10,000 without zeros at either end.
fn put_decimal(value: i128, out: &mut BytesMut) {
    let unit = 10_u128.pow(DECIMAL.1.unsigned_abs().into());
    let (mut whole, fraction) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
    // Least significant group first.
    let mut groups = [0_u16; MOST_GROUPS];
    let mut rest = fraction * 1000;
    for group in groups.iter_mut().take(FRACTION_GROUPS) {
        *group = u16::try_from(rest % 10_000).unwrap_or(0);
        rest /= 10_000;
    }
    for group in groups.iter_mut().skip(FRACTION_GROUPS) {
        *group = u16::try_from(whole % 10_000).unwrap_or(0);
        whole /= 10_000;
    }
    let low = groups.iter().position(|group| *group != 0).unwrap_or(0);
    let high = groups.iter().rposition(|group| *group != 0).map_or(low, |high| high + 1);
    let digits = groups.get(low..high).unwrap_or_default();
    let count = i16::try_from(digits.len()).unwrap_or(0);
    let weight = i16::try_from(high).unwrap_or(0) - i16::try_from(FRACTION_GROUPS).unwrap_or(0) - 1;
    out.put_i32(8 + 2 * i32::from(count));
    out.put_i16(count);
    out.put_i16(if count == 0 { 0 } else { weight });
    out.put_u16(if value < 0 { 0x4000 } else { 0 });
    out.put_i16(places(fraction));
    for digit in digits.iter().rev() {
        out.put_u16(*digit);
    }
}

/// Number of digits after the decimal point to show.
fn places(mut fraction: u128) -> i16 {
    if fraction == 0 {
        return 0;
    }
    let mut places = i16::from(DECIMAL.1);
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        places -= 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decimal(value: i128, expected: (i16, u16, i16, &[u16])) {
        let mut out = BytesMut::new();
        put_decimal(value, &mut out);
        let words: Vec<u16> =
            out[4..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        let (weight, sign, scale, digits) = expected;
        assert_eq!(usize::from(words[0]), digits.len());
        assert_eq!(
            (words[1], words[2], words[3]),
            (weight.cast_unsigned(), sign, scale.cast_unsigned())
        );
        assert_eq!(&words[4..], digits);
    }

    #[test]
    fn decimals_are_groups_of_four_digits() {
        decimal(0, (0, 0, 0, &[]));
        decimal(1_000_000_000, (0, 0, 0, &[1]));
        decimal(-1_500_000_000, (0, 0x4000, 1, &[1, 5000]));
        decimal(1, (-3, 0, 9, &[1000]));
        decimal(12_345_000_000_000, (1, 0, 0, &[1, 2345]));
        decimal(100_000_000_000_000, (1, 0, 0, &[10]));
    }

    #[test]
    fn what_is_out_of_range_becomes_infinite() {
        let mut out = BytesMut::new();
        assert!(put_date(i32::MAX, &mut out) && put_date(i32::MIN, &mut out));
        assert!(put_timestamp(i64::MIN, &mut out));
        assert!(!put_timestamp(i64::MAX, &mut out) && !put_date(0, &mut out));
    }
}
