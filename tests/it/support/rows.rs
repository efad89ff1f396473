//! Rows as JSON, to Arrow batches and back: what a test writes and what it expects to read.
//!
//! Decimals are strings without trailing zeros, bytes are base64, timestamps are RFC 3339 in UTC.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};
use serde_json::{Map, Value, json};
use weir::schema::{ColumnType, DECIMAL, TableSchema};

/// One row: column to value.
pub(crate) type Row = Map<String, Value>;

/// Rows, from a JSON array of objects.
pub(crate) fn rows(rows: Value) -> Vec<Row> {
    serde_json::from_value(rows).unwrap()
}

/// A batch of these rows as it is staged, all by slice 0; what a row does not name is null.
pub(crate) fn batch(schema: &TableSchema, rows: &[Row]) -> RecordBatch {
    staged(schema, rows, 0, None)
}

/// A batch of rows, or of markers, as a slice stages it.
pub(crate) fn staged(
    schema: &TableSchema,
    rows: &[Row],
    slice: i64,
    mark: Option<bool>,
) -> RecordBatch {
    let arrays = schema.columns.iter().map(|column| {
        let cells: Vec<Option<&Value>> =
            rows.iter().map(|row| row.get(&column.name).filter(|value| !value.is_null())).collect();
        array(column.kind, &cells)
    });
    let own: [ArrayRef; 2] = [
        Arc::new(Int64Array::from_value(slice, rows.len())),
        Arc::new(BooleanArray::from(vec![mark; rows.len()])),
    ];
    RecordBatch::try_new(schema.staged(), arrays.chain(own).collect()).unwrap()
}

fn array(kind: ColumnType, cells: &[Option<&Value>]) -> ArrayRef {
    fn collect<T, A: FromIterator<Option<T>>>(
        cells: &[Option<&Value>],
        read: impl Fn(&Value) -> T,
    ) -> A {
        cells.iter().map(|cell| cell.map(&read)).collect()
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    match kind {
        ColumnType::Text => Arc::new(collect::<_, StringArray>(cells, text)),
        ColumnType::Json => Arc::new(collect::<_, StringArray>(cells, Value::to_string)),
        ColumnType::Int => {
            Arc::new(collect::<_, Int64Array>(cells, |value| value.as_i64().unwrap()))
        }
        ColumnType::Float => {
            Arc::new(collect::<_, Float64Array>(cells, |value| value.as_f64().unwrap()))
        }
        ColumnType::Bool => {
            Arc::new(collect::<_, BooleanArray>(cells, |value| value.as_bool().unwrap()))
        }
        ColumnType::Decimal => {
            let array: Decimal128Array = collect(cells, |value| unscaled(value.as_str().unwrap()));
            Arc::new(array.with_precision_and_scale(DECIMAL.0, DECIMAL.1).unwrap())
        }
        ColumnType::Date => Arc::new(collect::<_, Date32Array>(cells, |value| {
            let date: NaiveDate = value.as_str().unwrap().parse().unwrap();
            i32::try_from((date - NaiveDate::default()).num_days()).unwrap()
        })),
        ColumnType::Timestamp => {
            let array: TimestampMicrosecondArray = collect(cells, |value| {
                DateTime::parse_from_rfc3339(value.as_str().unwrap()).unwrap().timestamp_micros()
            });
            Arc::new(array.with_timezone("UTC"))
        }
        ColumnType::Bytes => {
            let bytes: Vec<Option<Vec<u8>>> =
                collect(cells, |value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap());
            Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
    }
}

/// Digits of a decimal, without its point.
fn unscaled(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}{fraction:0<9}").parse().unwrap()
}

/// The rows of batches with this schema's columns; columns that a batch lacks are null.
pub(crate) fn rows_of(schema: &TableSchema, batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &weir::schema::Column| {
                let array = batch.column_by_name(&column.name);
                let value = array.filter(|array| array.is_valid(row));
                let value = value.map_or(Value::Null, |array| value_of(column.kind, array, row));
                (column.name.clone(), value)
            };
            rows.push(schema.columns.iter().map(cell).collect());
        }
    }
    rows
}

/// The rows of a batch by the types of its own columns.
pub(crate) fn read(batch: &RecordBatch) -> Vec<Row> {
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|field| {
        let json = field.metadata().values().any(|name| name == "arrow.json");
        let kinds = ColumnType::ALL.into_iter().filter(|kind| kind.arrow() == *field.data_type());
        let kind = kinds.into_iter().find(|kind| (*kind == ColumnType::Json) == json);
        weir::schema::Column::new(field.name(), kind.unwrap())
    });
    let schema = TableSchema { columns: columns.collect(), key: Vec::new() };
    rows_of(&schema, std::slice::from_ref(batch))
}

fn value_of(kind: ColumnType, array: &ArrayRef, row: usize) -> Value {
    match kind {
        ColumnType::Text => array.as_string::<i32>().value(row).into(),
        ColumnType::Json => serde_json::from_str(array.as_string::<i32>().value(row)).unwrap(),
        ColumnType::Int => array.as_primitive::<Int64Type>().value(row).into(),
        ColumnType::Float => array.as_primitive::<Float64Type>().value(row).into(),
        ColumnType::Bool => array.as_boolean().value(row).into(),
        ColumnType::Decimal => array.as_primitive::<Decimal128Type>().value_as_string(row).into(),
        ColumnType::Date => {
            let days = array.as_primitive::<Date32Type>().value(row);
            (NaiveDate::default() + TimeDelta::days(days.into())).to_string().into()
        }
        ColumnType::Timestamp => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            DateTime::from_timestamp_micros(micros).unwrap().to_rfc3339().into()
        }
        ColumnType::Bytes => BASE64_STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
    }
}

/// The same row in the one spelling that rows are compared in: a target may read back `1.50` or
/// `+00:00`.
pub(crate) fn normal(schema: &TableSchema, row: &Row) -> Row {
    let cell = |column: &weir::schema::Column| {
        let value = row.get(&column.name).unwrap_or(&Value::Null);
        (column.name.clone(), normal_value(column.kind, value))
    };
    schema.columns.iter().map(cell).collect()
}

fn normal_value(kind: ColumnType, value: &Value) -> Value {
    let text = match value {
        Value::Null => return Value::Null,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match kind {
        ColumnType::Decimal if text.contains('.') => {
            text.trim_end_matches('0').trim_end_matches('.').into()
        }
        ColumnType::Decimal => text.into(),
        ColumnType::Timestamp => {
            let time = DateTime::parse_from_rfc3339(&text).unwrap().to_utc();
            time.to_rfc3339_opts(SecondsFormat::Micros, true).into()
        }
        ColumnType::Float => json!(value.as_f64()),
        _ => value.clone(),
    }
}
