//! Values that Postgres cannot hold as they are.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use weir::{
    schema::{Column, ColumnType, TableSchema},
    write::{Disposition, Table, Target, postgres::Postgres},
};

use crate::support::{
    postgres::Database,
    target_contract::{self, people},
};

/// Arrays as the rows of slice 0.
fn as_staged(table: &Table, mut arrays: Vec<ArrayRef>) -> RecordBatch {
    let count = arrays[0].len();
    arrays.push(Arc::new(Int64Array::from_value(0, count)));
    arrays.push(Arc::new(arrow_array::BooleanArray::new_null(count)));
    RecordBatch::try_new(table.schema.staged(), arrays).unwrap()
}

/// Loads one column of a table, and gives back what a query over it says.
async fn stored(kind: ColumnType, values: ArrayRef, query: &str) -> Vec<String> {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let columns = vec![Column::new("n", ColumnType::Int), Column::new("v", kind)];
    let schema = TableSchema { columns, key: Vec::new() };
    let table = Table { schema, ..target_contract::table("t", Disposition::Replace) };
    let numbers = Int64Array::from_iter_values(0..i64::try_from(values.len()).unwrap());
    let arrays: Vec<ArrayRef> = vec![Arc::new(numbers), values];
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    let batch = as_staged(&table, arrays);
    writer.write(batch).await.unwrap();
    writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
    database.texts(&format!("SELECT {query} FROM t ORDER BY n")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nul_in_text_becomes_the_replacement_character() {
    let values = StringArray::from(vec!["a\0b", "", "\0", "plain"]);
    let found = stored(ColumnType::Text, Arc::new(values), "v").await;
    assert_eq!(found, ["a\u{fffd}b", "", "\u{fffd}", "plain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_jsonb_refuses_is_kept_as_near_as_can_be() {
    let deep = "[".repeat(20_000) + &"]".repeat(20_000);
    let digits = "9".repeat(6000);
    let long = "9".repeat(200_000);
    let values = StringArray::from(vec![
        r#"{"a\u0000": "b\u0000"}"#,
        r#"["\ud800", "\udc00\ud800", "\ud83d\ude00"]"#,
        "[1e400000, -1e-400000, 1e10000, 1.5]",
        deep.as_str(),
        digits.as_str(),
        long.as_str(),
        "null",
    ]);
    let query = "jsonb_typeof(v) || length(v::text) || left(v::text, 40)";
    let found = stored(ColumnType::Json, Arc::new(values), query).await;
    assert_eq!(found[0], "object22{\"a\u{fffd}\": \"b\u{fffd}\"}".replace("22", "12"));
    assert_eq!(
        found[1],
        "array20[\"\u{fffd}\", \"\u{fffd}\u{fffd}\", \"🙂\"]"
            .replace("20", "16")
            .replace("🙂", "😀")
    );
    assert!(
        found[2].starts_with("array") && found[2].contains(r#"["1e400000", "-1e-400000", 1000"#)
    );
    assert!(found[3].starts_with("string40002\"[[["), "{}", found[3]);
    assert!(found[4].starts_with("number6000999"), "{}", found[4]);
    assert!(found[5].starts_with("string200002\"999"), "{}", found[5]);
    assert_eq!(found[6], "null4null");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_out_of_range_become_infinite() {
    // Postgres' years go from 4714 before Christ to 294276, its dates to 5874897.
    let first = -210_866_803_200_000_000;
    let times = TimestampMicrosecondArray::from(vec![
        i64::MIN,
        first - 86_400_000_000 * 400,
        first,
        i64::MAX,
        0,
        -1,
    ])
    .with_timezone("UTC");
    let found = stored(ColumnType::Timestamp, Arc::new(times), "v AT TIME ZONE 'UTC'").await;
    assert_eq!(found[0], "-infinity");
    assert_eq!(found[1], "-infinity");
    assert_eq!(found[2], "4714-11-24 00:00:00 BC");
    assert_eq!(found[3], "294247-01-10 04:00:54.775807");
    assert_eq!(found[4], "1970-01-01 00:00:00");
    assert_eq!(found[5], "1969-12-31 23:59:59.999999");
    let dates =
        Date32Array::from(vec![i32::MIN, i32::MAX, -2_440_588, 2_145_042_905, 2_145_042_906]);
    let found = stored(ColumnType::Date, Arc::new(dates), "v").await;
    assert_eq!(found, ["-infinity", "infinity", "4714-11-24 BC", "5874897-12-31", "infinity"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_that_are_no_numbers_are_kept() {
    let values = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
    let found = stored(ColumnType::Float, Arc::new(values), "v").await;
    assert_eq!(found, ["NaN", "Infinity", "-Infinity", "-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_its_key_is_an_error_that_names_the_column() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = target_contract::table("people", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    let names: ArrayRef = Arc::new(StringArray::from(vec!["Ann"]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let batch = as_staged(&table, vec![ids, names]);
    writer.write(batch).await.unwrap();
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.chain().contains(r#"rows for "public"."people""#), "{error:?}");
    let expected = r#"null value in column "id" of relation "staging" violates"#;
    assert!(error.chain().contains(expected), "{error:?}");
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_other_columns_is_an_error() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = target_contract::table("people", Disposition::Replace);
    let mut other = table.clone();
    other.schema.columns.swap(0, 1);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    let batch = people(&other, &[(1, "Ann")]);
    writer.write(batch).await.unwrap();
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.to_string().contains("column `id` is `int`"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_stored_compressed_as_the_server_best_can() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["weir ".repeat(40_000)]));
    let query = "length(v) || coalesce(pg_column_compression(v), '')";
    assert_eq!(stored(ColumnType::Text, values, query).await, ["200000lz4"]);
}
