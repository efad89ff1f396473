//! Parquet files that another program has written again.

use std::{fs::File, sync::Arc};

use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float32Array, Int32Array, LargeStringArray, NullArray,
    RecordBatch, StringArray, TimestampMillisecondArray, UInt16Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};
use serde_json::json;
use weir::report::StreamStatus;

use crate::support::fake::{Fake, Reply};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
defaults: { paginate: none }
streams:
  orders:
    doc: An order.
    get: /orders
    key: [id]
    columns: { id: int, state: text, at: timestamp, price: float, tags: json, pieces: int, note: text }
    cursor: { field: at, query: { since: '{{ cursor }}' } }
";

const REPLICATION: &str = "source: A\ntarget: B\ndefaults: { mode: incremental, object: orders.parquet, \
    metadata: { synced_at: false }, deletes: ignore }\nstreams: { orders: }\n";

fn rewritten() -> RecordBatch {
    let state: DictionaryArray<Int32Type> = ["new", "old"].into_iter().collect();
    let times = TimestampMillisecondArray::from(vec![1_767_225_600_000, 1_767_225_601_000]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2]))),
        ("state", Arc::new(state)),
        ("at", Arc::new(times.with_timezone("+00:00"))),
        ("price", Arc::new(Float32Array::from(vec![Some(1.5), None]))),
        ("tags", Arc::new(LargeStringArray::from(vec![Some("[\"a\"]"), None]))),
        ("pieces", Arc::new(UInt16Array::from(vec![3, 4]))),
        ("note", Arc::new(NullArray::new(2))),
        ("added", Arc::new(LargeStringArray::from(vec!["x", "y"]))),
    ];
    let nullable = columns.into_iter().map(|(name, values)| (name, values, true));
    RecordBatch::try_from_iter_with_nullable(nullable).unwrap()
}

#[tokio::test]
async fn a_file_that_another_program_wrote_again_is_merged_into() {
    let record = |id: u64| {
        json!({ "id": id, "state": "new", "at": "2026-01-01T00:00:00Z", "price": 1.5,
            "tags": ["a"], "pieces": 3, "note": null })
    };
    let fake = Fake::new(SPEC, move |_| Reply::json(&json!([record(1), record(2)])));
    fake.run_with(REPLICATION).await;
    let path = fake.folder().join("orders.parquet");
    let batch = rewritten();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("parquet-cpp-arrow version 21.0.0".to_owned());
    let file = File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    fake.answer(move |_| Reply::json(&json!([record(3)])));
    let ran = fake.run_with(REPLICATION).await;
    let stream = ran.stream("orders");
    assert_eq!(stream.status, StreamStatus::Done, "{:?}", stream.error);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    let all = arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap();
    let column = |name: &str| Arc::clone(all.column_by_name(name).unwrap());
    let text = |name: &str| -> Vec<Option<String>> {
        let column = column(name);
        let texts: &StringArray = column.as_string();
        texts.iter().map(|one| one.map(str::to_owned)).collect()
    };
    assert_eq!(column("id").as_primitive::<Int64Type>().values(), &[1, 2, 3]);
    assert_eq!(text("state")[1].as_deref(), Some("old"));
    let at = column("at");
    assert_eq!(at.as_primitive::<TimestampMicrosecondType>().value(1), 1_767_225_601_000_000);
    let price = column("price");
    assert_eq!(price.as_primitive::<Float64Type>().value(0).to_string(), "1.5");
    assert!(price.is_null(1));
    let tags = text("tags");
    assert_eq!((tags[0].as_deref(), tags[2].as_deref()), (Some("[\"a\"]"), Some("[\"a\"]")));
    assert_eq!(column("pieces").as_primitive::<Int64Type>().values(), &[3, 4, 3]);
    assert_eq!(text("added"), [Some("x".to_owned()), Some("y".to_owned()), None]);
}
