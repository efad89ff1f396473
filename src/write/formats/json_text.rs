//! Arrow rows as lines of JSON, encoded from the columns into one buffer.
//!
//! Integers, floats and decimals become numbers (a decimal with its exact digits), timestamps become
//! `2026-01-12T09:30:11.204Z`, dates `2026-01-12`, bytes base64, and JSON columns their own value. Null and floats
//! without a JSON number (NaN and infinities) become `null`.

use std::io::Write;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike};

use crate::error::{Error, Result};
use crate::write::formats::cells::Cells;

/// The text before each value of a row: `{"id":`, `,"title":` …
pub(crate) fn names(schema: &Schema) -> Vec<Vec<u8>> {
    let mut names = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let mut name = vec![if names.is_empty() { b'{' } else { b',' }];
        text(field.name(), &mut name);
        name.push(b':');
        names.push(name);
    }
    names
}

/// Appends one line per row.
pub(crate) fn encode(batch: &RecordBatch, names: &[Vec<u8>], out: &mut Vec<u8>) -> Result<()> {
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(batch.columns());
    let columns: Vec<Cells<'_>> =
        fields.map(|(field, array)| cells(field, array)).collect::<Result<_>>()?;
    for row in 0..batch.num_rows() {
        for (name, column) in names.iter().zip(&columns) {
            out.extend_from_slice(name);
            if column.is_null(row) {
                out.extend_from_slice(b"null");
            } else {
                put(column, row, out);
            }
        }
        out.extend_from_slice(if names.is_empty() { b"{}\n" } else { b"}\n" });
    }
    Ok(())
}

/// The values of a column as JSON texts; `None` for null.
pub(crate) fn texts(field: &Field, array: &ArrayRef) -> Result<Vec<Option<String>>> {
    let values = cells(field, array)?;
    let text = |row| {
        if values.is_null(row) {
            return None;
        }
        let mut out = Vec::new();
        put(&values, row, &mut out);
        Some(String::from_utf8(out).expect("JSON is written as UTF-8"))
    };
    Ok((0..array.len()).map(text).collect())
}

fn cells<'a>(field: &Field, array: &'a ArrayRef) -> Result<Cells<'a>> {
    Cells::of_field(field, array).ok_or_else(|| {
        let (name, found) = (field.name(), array.data_type());
        Error::target(format!("column `{name}` has the type `{found}`, which JSON cannot express"))
    })
}

/// Appends a value; null is written by the caller.
fn put(cells: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
    match cells {
        Cells::Text(array) => text(array.value(row), out),
        Cells::Json(array) => raw(array.value(row), out),
        Cells::Int(array) => number(array.value(row), out),
        Cells::Float(array) => number(array.value(row), out),
        Cells::Decimal(array) => decimal(array.value(row), array.scale(), out),
        Cells::Bool(array) => {
            out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
        }
        Cells::Date(array) => date(array.value(row), out),
        Cells::Timestamp(array) => timestamp(array.value(row), out),
        Cells::Bytes(array) => base64(array.value(row), out),
    }
}

/// How a JSON string escapes each byte: 0 when it needs no escape, `u` for `\u00XX`, else the letter after the
/// backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[8] = b'b';
    table[12] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(clean) = next_escape(rest) {
        let (before, after) = rest.split_at(clean);
        out.extend_from_slice(before);
        if let Some((&byte, after)) = after.split_first() {
            escape(byte, out);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Position of the first byte that needs an escape. Checks eight bytes at a time.
fn next_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    let (words, _) = bytes.as_chunks::<8>();
    let mut clean = 0;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        let zero = |x: u64| x.wrapping_sub(ONES) & !x;
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ QUOTES);
        let backslash = zero(word ^ BACKSLASHES);
        if (control | quote | backslash) & HIGH != 0 {
            break;
        }
        clean += 8;
    }
    let tail = bytes.get(clean..).unwrap_or_default();
    tail.iter().position(|&byte| ESCAPES[usize::from(byte)] != 0).map(|at| clean + at)
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match ESCAPES[usize::from(byte)] {
        b'u' => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
        letter => out.extend_from_slice(&[b'\\', letter]),
    }
}

/// Appends a JSON value on one line. A raw line break can only be space between tokens, so a space replaces it.
fn raw(value: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(if value.trim().is_empty() { b"null" } else { value.as_bytes() });
    for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

fn number(value: impl serde::Serialize, out: &mut Vec<u8>) {
    // Writing a number to memory cannot fail; floats without a JSON number become `null`.
    serde_json::to_writer(out, &value).ok();
}

fn decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let scale = u32::from(scale.unsigned_abs());
    let power = 10_u128.pow(scale.min(38));
    let (whole, mut part) = (value.unsigned_abs() / power, value.unsigned_abs() % power);
    let sign = if value < 0 { "-" } else { "" };
    append(out, format_args!("{sign}{whole}"));
    if part == 0 {
        return;
    }
    let mut digits = scale as usize;
    while part.is_multiple_of(10) {
        part /= 10;
        digits -= 1;
    }
    append(out, format_args!(".{part:0digits$}"));
}

fn date(days: i32, out: &mut Vec<u8>) {
    match NaiveDate::from_epoch_days(days) {
        Some(date) => {
            out.push(b'"');
            day(date, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn timestamp(micros: i64, out: &mut Vec<u8>) {
    let Some(time) = DateTime::from_timestamp_micros(micros) else {
        out.extend_from_slice(b"null");
        return;
    };
    if !(0..=9999).contains(&time.year()) {
        append(out, format_args!("\"{}\"", time.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
        return;
    }
    out.push(b'"');
    day(time.date_naive(), out);
    for (mark, value) in [(b'T', time.hour()), (b':', time.minute()), (b':', time.second())] {
        out.push(mark);
        digits(value, 2, out);
    }
    let micros = time.nanosecond() / 1000;
    if micros != 0 {
        out.push(b'.');
        let (value, width) = if micros % 1000 == 0 { (micros / 1000, 3) } else { (micros, 6) };
        digits(value, width, out);
    }
    out.extend_from_slice(b"Z\"");
}

fn day(date: NaiveDate, out: &mut Vec<u8>) {
    match u32::try_from(date.year()) {
        Ok(year @ 0..=9999) => digits(year, 4, out),
        _ => append(out, format_args!("{:+05}", date.year())),
    }
    out.push(b'-');
    digits(date.month(), 2, out);
    out.push(b'-');
    digits(date.day(), 2, out);
}

fn digits(value: u32, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u32.pow(place) % 10) as u8);
    }
}

fn base64(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    if let Some(room) = out.get_mut(start..) {
        // The room has exactly the size of the encoding.
        BASE64_STANDARD.encode_slice(value, room).ok();
    }
    out.push(b'"');
}

fn append(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    out.write_fmt(arguments).ok();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        StringArray, TimestampMicrosecondArray,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{Column, ColumnType, TableSchema};

    fn line(kind: ColumnType, array: ArrayRef) -> String {
        let table = TableSchema { columns: vec![Column::new("a\"b", kind)], key: Vec::new() };
        let schema = table.arrow();
        let names = names(&schema);
        let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
        let mut out = Vec::new();
        encode(&batch, &names, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("{\"a\\\"b\":").unwrap().strip_suffix("}\n").unwrap().to_owned()
    }

    #[test]
    fn each_type_has_its_form() {
        let day = 20465;
        let time = |micros| {
            Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef
        };
        let exact = |value| {
            let array = Decimal128Array::from(vec![value]);
            Arc::new(array.with_precision_and_scale(38, 9).unwrap()) as ArrayRef
        };
        let string = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let cases: Vec<(ColumnType, ArrayRef, &str)> = vec![
            (ColumnType::Text, string("a\"\\\n\u{1}é\u{2028}"), "\"a\\\"\\\\\\n\\u0001é\u{2028}\""),
            (ColumnType::Json, string("{\"a\":\n [1]}"), "{\"a\":  [1]}"),
            (ColumnType::Json, string(""), "null"),
            (ColumnType::Int, Arc::new(Int64Array::from(vec![i64::MIN])), "-9223372036854775808"),
            (ColumnType::Float, Arc::new(Float64Array::from(vec![1.5])), "1.5"),
            (ColumnType::Float, Arc::new(Float64Array::from(vec![f64::NAN])), "null"),
            (ColumnType::Decimal, exact(-1_500_000_000), "-1.5"),
            (ColumnType::Decimal, exact(-1), "-0.000000001"),
            (ColumnType::Decimal, exact(12_000_000_000), "12"),
            (ColumnType::Bool, Arc::new(BooleanArray::from(vec![true])), "true"),
            (ColumnType::Bool, Arc::new(BooleanArray::from(vec![None])), "null"),
            (ColumnType::Date, Arc::new(Date32Array::from(vec![day])), "\"2026-01-12\""),
            (ColumnType::Timestamp, time(1_768_210_211_204_000), "\"2026-01-12T09:30:11.204Z\""),
            (ColumnType::Timestamp, time(1_768_210_211_000_001), "\"2026-01-12T09:30:11.000001Z\""),
            (ColumnType::Timestamp, time(-1_000_000), "\"1969-12-31T23:59:59Z\""),
            (ColumnType::Timestamp, time(i64::MAX), "null"),
            (ColumnType::Bytes, Arc::new(BinaryArray::from(vec![&[0_u8, 255][..]])), "\"AP8=\""),
            (ColumnType::Bytes, Arc::new(BinaryArray::from(vec![&[][..]])), "\"\""),
        ];
        for (kind, array, expected) in cases {
            assert_eq!(line(kind, array), expected, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_what_serde_json_makes_of_it(value in ".*|[\\x00-\\x7f]{0,40}") {
            let mut out = Vec::new();
            text(&value, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn any_timestamp_reads_back(micros in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let mut out = Vec::new();
            timestamp(micros, &mut out);
            let text: String = serde_json::from_slice(&out).unwrap();
            let read = DateTime::parse_from_rfc3339(&text).unwrap();
            prop_assert_eq!(read.timestamp_micros(), micros);
        }
    }
}
