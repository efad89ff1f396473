//! The files target: Parquet and JSONL, on disk and in stores.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, cast::AsArray, types::Int64Type,
};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use weir::schema::{Column, ColumnType, TableSchema};
use weir::secret::Secret;
use weir::state::{Change, Holder};
use weir::sync::report::RunStatus;
use weir::write::files::{Files, FilesOptions, Settings};
use weir::write::{Committed, Disposition, Leftovers, Table, Target};
use weir_sim::Options;

use crate::support::{
    rig::{ALL, Rig},
    s3,
    target_contract::SOME,
};

fn table(object: &str, disposition: Disposition) -> Table {
    let columns = vec![Column::new("id", ColumnType::Int), Column::new("body", ColumnType::Text)];
    Table {
        replication: "people".to_owned(),
        replaces: None,
        deletes: weir::write::Deletes::Ignore,
        place: Vec::new(),
        version: None,
        strict: false,
        source: Some("wiki at https://wiki.test".to_owned()),
        stream: "pages".to_owned(),
        object: object.to_owned(),
        schema: TableSchema { columns, key: vec!["id".to_owned()] },
        disposition,
        run_id: "run-1".to_owned(),
        files: None,
    }
}

fn batch(table: &Table, ids: std::ops::Range<i64>, size: usize) -> RecordBatch {
    // Text that compresses badly, so that sizes mean something.
    let body = |id: i64| {
        let mut state = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let letter = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'!' + (state % 90) as u8)
        };
        (0..size).map(letter).collect::<String>()
    };
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.clone()));
    let body: ArrayRef = Arc::new(StringArray::from_iter_values(ids.map(body)));
    as_staged(&table.schema, vec![id, body])
}

/// Arrays as the rows of slice 0.
fn as_staged(schema: &TableSchema, mut arrays: Vec<ArrayRef>) -> RecordBatch {
    let count = arrays[0].len();
    arrays.push(Arc::new(Int64Array::from_value(0, count)));
    arrays.push(Arc::new(BooleanArray::new_null(count)));
    RecordBatch::try_new(schema.staged(), arrays).unwrap()
}

async fn load(target: &Files, table: &Table, ids: std::ops::Range<i64>) -> Committed {
    let mut writer = target.open(table, None).await.unwrap().unwrap();
    if !ids.is_empty() {
        writer.write(batch(table, ids, 20)).await.unwrap();
    }
    writer.commit(&SOME, &[]).await.unwrap()
}

fn parquet_ids(bytes: Vec<u8>) -> Vec<i64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let batches = reader.build().unwrap().map(Result::unwrap);
    batches.flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn lines(path: &Path, bytes: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    match path.extension().unwrap().to_str().unwrap() {
        "gz" => drop(flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap()),
        "zst" => text = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap(),
        _ => text = String::from_utf8(bytes.to_vec()).unwrap(),
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(path: &Path, bytes: Vec<u8>) -> Vec<i64> {
    if path.extension().is_some_and(|ext| ext == "parquet") {
        return parquet_ids(bytes);
    }
    lines(path, &bytes).iter().map(|line| line["id"].as_i64().unwrap()).collect()
}

/// The ids of all data files below a folder.
fn ids_below(folder: &Path) -> Vec<i64> {
    let mut found = Vec::new();
    for path in files_below(folder) {
        if !path.ends_with("_weir.json") {
            found.extend(ids(&path, fs::read(&path).unwrap()));
        }
    }
    found.sort_unstable();
    found
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with(".weir") {
                found.extend(files_below(&path));
            }
        } else {
            found.insert(path);
        }
    }
    found
}

/// What is in a folder; of weir's own folder, what is staged.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let staged = folder.join(".weir/stage").exists().then(|| "staged".to_owned());
    let mut names: Vec<String> = names.filter(|name| name != ".weir").chain(staged).collect();
    names.sort();
    names
}

fn files_in(root: &Path) -> Files {
    Files::in_folder(root, Settings::default())
}

const OBJECTS: [&str; 6] = [
    "wiki/pages.parquet",
    "wiki/pages.jsonl",
    "wiki/pages.ndjson.gz",
    "wiki/pages.jsonl.zst",
    "wiki/pages/*.parquet",
    "wiki/pages/p-*.jsonl",
];

#[tokio::test]
async fn new_rows_replace_old_ones_and_nothing_else_is_left() {
    for object in OBJECTS {
        for disposition in [Disposition::Replace, Disposition::Truncate] {
            let root = tempfile::tempdir().unwrap();
            let target = files_in(&root.path().join("out"));
            target.check().await.unwrap();
            let table = table(object, disposition);
            load(&target, &table, 0..10).await;
            let committed = load(&target, &table, 5..8).await;
            assert_eq!(committed.rows, 3);
            let folder = root.path().join("out/wiki");
            let expected =
                match object.strip_suffix("p-*.jsonl").or(object.strip_suffix("*.parquet")) {
                    Some(folder) => format!("{folder} (1 file)"),
                    None => object.to_owned(),
                };
            assert!(committed.object.ends_with(&expected), "{}", committed.object);
            assert_eq!(ids_below(&folder), [5, 6, 7], "{object}");
            assert_eq!(entries(&root.path().join("out")), ["wiki"], "{object}");
            assert_eq!(entries(&folder).len(), 1, "{object}");
        }
    }
}

#[tokio::test]
async fn a_key_is_there_once_however_many_rows_there_are() {
    // More rows than are sorted in memory.
    const ROWS: i64 = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let target = Files::in_folder(folder.path(), Settings::default());
    let rows = |ids: std::ops::Range<i64>| {
        let id: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.clone()));
        let body: ArrayRef = Arc::new(StringArray::from_iter_values(ids.map(|_| "same")));
        as_staged(&table("", Disposition::Replace).schema, vec![id, body])
    };
    for name in ["many.jsonl", "many.parquet"] {
        for disposition in [Disposition::Replace, Disposition::Merge] {
            let table = table(name, disposition);
            let mut writer = target.open(&table, None).await.unwrap().unwrap();
            for start in (0..ROWS).step_by(50_000) {
                writer.write(rows(start..start + 50_000)).await.unwrap();
            }
            writer.write(rows(0..20)).await.unwrap();
            let committed = writer.commit(&SOME, &[]).await.unwrap();
            let count = u64::try_from(ROWS).unwrap();
            assert_eq!((committed.rows, committed.repeated), (count, 20), "{name}");
            assert!(committed.notices.is_empty());
            let path = folder.path().join(name);
            let mut found = ids(&path, fs::read(&path).unwrap());
            found.sort_unstable();
            assert!(found.into_iter().eq(0..ROWS), "{name}, {disposition:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_answer_empties_the_object_and_parquet_keeps_the_columns() {
    for object in OBJECTS {
        let root = tempfile::tempdir().unwrap();
        let target = files_in(root.path());
        let table = table(object, Disposition::Replace);
        load(&target, &table, 0..10).await;
        assert_eq!(load(&target, &table, 0..0).await.rows, 0);
        assert_eq!(ids_below(&root.path().join("wiki")), [0_i64; 0], "{object}");
        let mut data = files_below(root.path());
        data.retain(|path| path.extension().is_some_and(|ext| ext == "parquet"));
        assert_eq!(data.len(), usize::from(object.ends_with("parquet")));
        for path in data {
            let file = fs::File::open(path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
            assert_eq!(reader.schema().field(1).name(), "body");
            assert!(!reader.schema().field(0).is_nullable());
        }
    }
}

#[tokio::test]
async fn until_commit_and_after_a_drop_the_old_rows_stand() {
    for object in OBJECTS {
        let root = tempfile::tempdir().unwrap();
        let target = files_in(root.path());
        let table = table(object, Disposition::Replace);
        load(&target, &table, 0..3).await;
        let before = files_below(&root.path().join("wiki"));
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(batch(&table, 10..5000, 400)).await.unwrap();
        assert_eq!(ids_below(&root.path().join("wiki")), [0, 1, 2], "{object}");
        drop(writer);
        assert_eq!(files_below(&root.path().join("wiki")), before, "{object}");
        target.open(&table, None).await.unwrap().unwrap().discard().await.unwrap();
        assert_eq!(entries(root.path()), ["wiki"], "{object}");
    }
}

#[tokio::test]
async fn an_append_adds_parts_and_refuses_one_file() {
    for object in ["pages/*.parquet", "pages/*.jsonl.gz"] {
        let root = tempfile::tempdir().unwrap();
        let target = files_in(root.path());
        let mut table = table(object, Disposition::Append);
        for (run, ids) in [("run-1", 0..3), ("run-2", 3..5), ("run-2", 3..5), ("run-3", 5..6)] {
            // A commit that is repeated adds nothing.
            run.clone_into(&mut table.run_id);
            load(&target, &table, ids).await;
        }
        "run-4".clone_into(&mut table.run_id);
        load(&target, &table, 0..0).await;
        assert_eq!(ids_below(root.path()), [0, 1, 2, 3, 4, 5], "{object}");
        let manifest = fs::read(root.path().join("pages/_weir.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["files"].as_array().unwrap().len(), 3);
        table.disposition = Disposition::Replace;
        load(&target, &table, 9..10).await;
        assert_eq!(ids_below(root.path()), [9], "{object}");
    }
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    let table = table("pages.jsonl", Disposition::Append);
    load(&target, &table, 0..3).await;
    let error = target.open(&table, None).await.err().unwrap();
    assert!(error.hint().unwrap().contains("{run_timestamp}"), "{error:?}");
}

#[tokio::test]
async fn files_of_others_are_never_removed() {
    for disposition in [Disposition::Replace, Disposition::Append] {
        let root = tempfile::tempdir().unwrap();
        let target = files_in(root.path());
        let table = table("pages/*.jsonl", disposition);
        load(&target, &table, 0..3).await;
        let writer = target.open(&table, None).await.unwrap().unwrap();
        fs::write(root.path().join("pages/mine.jsonl"), "precious").unwrap();
        for error in [
            writer.commit(&SOME, &[]).await.unwrap_err(),
            target.open(&table, None).await.err().unwrap(),
        ] {
            assert!(error.chain().contains("`mine.jsonl`"), "{error:?}");
        }
        assert_eq!(fs::read_to_string(root.path().join("pages/mine.jsonl")).unwrap(), "precious");
        fs::remove_file(root.path().join("pages/mine.jsonl")).unwrap();
        assert_eq!(ids_below(root.path()), [0, 1, 2]);
    }
}

#[tokio::test]
async fn parts_and_row_groups_keep_to_their_sizes() {
    const LIMIT: u64 = 1 << 20;
    for object in ["pages/*.jsonl", "pages/*.parquet", "pages/*.jsonl.zst"] {
        let root = tempfile::tempdir().unwrap();
        let files = Settings { max_file_bytes: Some(LIMIT), ..Settings::default() };
        let target = Files::in_folder(root.path(), files);
        let table = table(object, Disposition::Replace);
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        for start in [0, 1000, 2000] {
            writer.write(batch(&table, start..start + 1000, 1400)).await.unwrap();
        }
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert_eq!(ids_below(root.path()), (0..3000).collect::<Vec<_>>(), "{object}");
        let mut sizes: Vec<u64> =
            files_below(root.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
        sizes.retain(|&size| size > 1000);
        assert!(sizes.len() >= 3, "{object}: {sizes:?}");
        assert!(sizes.iter().all(|&size| size < LIMIT + (400 << 10)), "{object}: {sizes:?}");
        assert!(committed.object.ends_with(&format!("({} files)", sizes.len())), "{object}");
    }
    let cases = [(100, 16 << 20, 10..=10), (1_000_000, 128 << 10, 5..=12)];
    for (row_group_rows, row_group_bytes, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        let files = Settings { row_group_rows, row_group_bytes, ..Settings::default() };
        let target = Files::in_folder(root.path(), files);
        let table = table("pages.parquet", Disposition::Replace);
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        for start in (0..1000).step_by(50) {
            writer.write(batch(&table, start..start + 50, 1400)).await.unwrap();
        }
        writer.commit(&SOME, &[]).await.unwrap();
        let file = fs::File::open(root.path().join("pages.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let groups = reader.metadata().num_row_groups();
        assert!(expected.contains(&groups), "{groups} row groups");
    }
}

fn all_types() -> (TableSchema, Vec<ArrayRef>) {
    let columns = ColumnType::ALL.map(|kind| Column::new(kind.name(), kind)).to_vec();
    let decimal = Decimal128Array::from(vec![Some(-12_345_678_901_234_567_890), None]);
    let time = TimestampMicrosecondArray::from(vec![Some(1_768_210_211_204_000), None]);
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("a \"quoted\"\nline ✓"), None])),
        Arc::new(Int64Array::from(vec![Some(i64::MAX), None])),
        Arc::new(Float64Array::from(vec![Some(0.1), None])),
        Arc::new(decimal.with_precision_and_scale(38, 9).unwrap()),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Date32Array::from(vec![Some(20465), None])),
        Arc::new(time.with_timezone("UTC")),
        Arc::new(StringArray::from(vec![Some("{\"a\":[1,null]}"), None])),
        Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), None])),
    ];
    (TableSchema { columns, key: Vec::new() }, arrays)
}

#[tokio::test]
async fn every_type_comes_back_as_it_went() {
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    let (schema, arrays) = all_types();
    let batch = as_staged(&schema, arrays);
    for object in ["all.parquet", "all.jsonl"] {
        let table = Table { schema: schema.clone(), ..table(object, Disposition::Replace) };
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(batch.clone()).await.unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
    }
    let file = fs::File::open(root.path().join("all.parquet")).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let own: Vec<usize> = (0..schema.columns.len()).collect();
    assert_eq!(reader.next().unwrap().unwrap(), batch.project(&own).unwrap());

    let path = root.path().join("all.jsonl");
    let text = fs::read(&path).unwrap();
    // As text: a JSON reader would round the number.
    assert!(String::from_utf8_lossy(&text).contains("\"decimal\":-12345678901.23456789,"));
    let mut lines = lines(&path, &text);
    lines[0]["decimal"] = Value::Null;
    let first = json!({
        "text": "a \"quoted\"\nline ✓", "int": i64::MAX, "float": 0.1, "decimal": null, "bool": true,
        "date": "2026-01-12", "timestamp": "2026-01-12T09:30:11.204Z",
        "json": { "a": [1, null] }, "bytes": "AP8=",
    });
    assert_eq!(lines[0], first);
    assert!(lines[1].as_object().unwrap().values().all(Value::is_null));
    assert_eq!(lines[1].as_object().unwrap().len(), ColumnType::ALL.len());
}

#[tokio::test]
async fn a_second_run_of_the_same_object_is_refused_while_the_first_lives() {
    let root = tempfile::tempdir().unwrap();
    let (one, other) = (files_in(root.path()), files_in(root.path()));
    let table = table("pages/*.jsonl", Disposition::Replace);
    let writer = one.open(&table, None).await.unwrap().unwrap();
    let error = other.open(&table, None).await.err().unwrap();
    assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
    assert!(error.chain().contains("since 2"), "{error:?}");
    writer.commit(&SOME, &[]).await.unwrap();
    load(&other, &table, 0..1).await;
}

#[tokio::test]
async fn what_cannot_be_written_says_why_and_leaves_the_old() {
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    let small = Settings { max_file_bytes: Some(1), ..Settings::default() };
    let cases: Vec<(&str, Disposition, Option<Settings>, &str)> = vec![
        ("pages.parquet", Disposition::Replace, Some(small), "put a `*`"),
        ("pages.csv", Disposition::Replace, None, "`.parquet`"),
        ("folder.jsonl", Disposition::Replace, None, "another `object`"),
        ("file/*.jsonl", Disposition::Replace, None, "another `object`"),
    ];
    fs::create_dir(root.path().join("folder.jsonl")).unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    for (object, disposition, files, hint) in cases {
        let table = Table { files, ..table(object, disposition) };
        let error = target.open(&table, None).await.err().unwrap();
        assert!(error.hint().is_some_and(|text| text.contains(hint)), "{object}: {error:?}");
        assert_eq!(entries(root.path()), ["file", "folder.jsonl"]);
    }
    let target = files_in(&root.path().join("file"));
    assert!(target.check().await.is_err());
    let error = target.open(&table("pages.jsonl", Disposition::Replace), None).await.err().unwrap();
    assert!(error.hint().unwrap().contains("not a file"), "{error:?}");
}

#[tokio::test]
async fn a_null_key_fails_parquet_with_a_hint() {
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    let table = table("pages.parquet", Disposition::Replace);
    let arrays: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![None])), Arc::new(StringArray::from(vec![Some("x")]))];
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(as_staged(&table.schema, arrays)).await.unwrap();
    let error = writer.commit(&SOME, &[]).await.unwrap_err();
    assert!(error.hint().unwrap().contains("`key`"), "{error:?}");
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn a_child_that_writes_without_end() {
    let Some(root) = std::env::var_os("WEIR_TEST_WRITE_INTO") else { return };
    let target = files_in(Path::new(&root));
    let mut writers = Vec::new();
    for object in OBJECTS {
        let table = table(&distinct(object), Disposition::Replace);
        writers.push((target.open(&table, None).await.unwrap().unwrap(), table));
    }
    for start in 0.. {
        for (writer, table) in &mut writers {
            writer.write(batch(table, start * 100..(start + 1) * 100, 1000)).await.unwrap();
        }
        if start == 20 {
            fs::write(Path::new(&root).join("writing"), "").unwrap();
        }
    }
}

/// The two folders of [`OBJECTS`] are one; this parts them.
fn distinct(object: &str) -> String {
    object.replace("pages/p-*", "lines/p-*")
}

#[tokio::test]
async fn a_killed_run_leaves_the_old_files_and_the_next_one_cleans_up() {
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    for object in OBJECTS {
        load(&target, &table(&distinct(object), Disposition::Replace), 0..3).await;
    }
    let before = files_below(root.path());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "files::a_child_that_writes_without_end"])
        .env("WEIR_TEST_WRITE_INTO", root.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !root.path().join("writing").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the child ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // While it lives, its work is neither swept nor disturbed.
    let busy = target.open(&table(OBJECTS[0], Disposition::Replace), None).await.err().unwrap();
    assert!(busy.chain().contains(&format!("process {}", child.id())), "{busy:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(root.path().join("writing")).unwrap();

    assert!(entries(root.path()).len() > 1, "the kill came too late");
    assert_eq!(ids_below(&root.path().join("wiki")).len(), 3 * OBJECTS.len());
    for object in OBJECTS {
        let table = table(&distinct(object), Disposition::Replace);
        target.open(&table, None).await.unwrap().unwrap().discard().await.unwrap();
    }
    assert_eq!(files_below(root.path()), before);
    assert_eq!(entries(root.path()), ["wiki"]);
}

/// What is left of a staging whose removal was cut short is no staging.
#[tokio::test]
async fn a_staging_that_lacks_a_segment_is_not_gone_on_with() {
    let root = tempfile::tempdir().unwrap();
    let target = files_in(root.path());
    let table = table("pages.jsonl", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    for start in 0..2 {
        writer.write(batch(&table, start..start + 1, 20)).await.unwrap();
        writer.checkpoint(&[]).await.unwrap();
        drop(writer);
        let staged = u64::try_from(start).unwrap() + 1;
        writer = target.open(&table, Some(staged)).await.unwrap().unwrap();
    }
    drop(writer);
    let staged = files_below(&root.path().join(".weir/stage"));
    let segments = staged.iter().filter(|path| path.extension().is_some_and(|ext| ext == "arrows"));
    let segments: Vec<_> = segments.collect();
    assert_eq!(segments.len(), 2);
    fs::remove_file(segments[0]).unwrap();
    assert!(target.open(&table, Some(2)).await.unwrap().is_none());
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(batch(&table, 5..6, 20)).await.unwrap();
    writer.commit(&SOME, &[]).await.unwrap();
    assert_eq!(ids_below(root.path()), [5]);
}

// ---- object stores ----

async fn keys(store: &InMemory) -> Vec<String> {
    use futures_util::TryStreamExt;
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    let keys = metas.into_iter().map(|meta| meta.location.to_string());
    let hidden = |key: &str| key.contains(".weir/stage/") || key.contains(".weir/tables/");
    keys.filter(|key| !hidden(key)).collect()
}

async fn ids_in(store: &InMemory) -> Vec<i64> {
    let mut found = Vec::new();
    for key in keys(store).await {
        if !key.ends_with("_weir.json") && !key.starts_with(".weir") {
            let bytes = store.get(&Key::from(key.as_str())).await.unwrap().bytes().await.unwrap();
            found.extend(ids(Path::new(&key), bytes.to_vec()));
        }
    }
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_store_keeps_the_same_promises() {
    for object in OBJECTS {
        let store = Arc::new(InMemory::new());
        let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        let target = Files::in_store(bucket, "pre/fix", "s3://b/pre/fix", Settings::default());
        target.check().await.unwrap();
        let mut table = table(object, Disposition::Replace);
        assert!(target.missing_part(&table).await.unwrap().is_some(), "{object}");
        load(&target, &table, 0..0).await;
        assert_eq!(target.missing_part(&table).await.unwrap(), None, "{object}");
        load(&target, &table, 0..10).await;
        let before = keys(&store).await;
        assert!(before.iter().all(|key| key.starts_with("pre/fix/wiki/")), "{before:?}");

        // More than one piece of an upload.
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        for start in 0..8 {
            writer.write(batch(&table, start * 1000..(start + 1) * 1000, 1500)).await.unwrap();
        }
        assert_eq!(ids_in(&store).await, (0..10).collect::<Vec<_>>(), "{object}");
        drop(writer);
        assert_eq!(keys(&store).await, before);

        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        for start in 0..8 {
            writer.write(batch(&table, start * 1000..(start + 1) * 1000, 1500)).await.unwrap();
        }
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert!(committed.object.starts_with("s3://b/pre/fix/wiki/pages"), "{committed:?}");
        assert_eq!(ids_in(&store).await, (0..8000).collect::<Vec<_>>(), "{object}");

        load(&target, &table, 0..0).await;
        assert_eq!(ids_in(&store).await, [0_i64; 0], "{object}");
        table.disposition = Disposition::Append;
        "run-2".clone_into(&mut table.run_id);
        if object.contains('*') {
            load(&target, &table, 0..2).await;
            "run-3".clone_into(&mut table.run_id);
            load(&target, &table, 2..3).await;
            assert_eq!(ids_in(&store).await, [0, 1, 2], "{object}");
        } else {
            assert!(target.open(&table, None).await.is_err());
        }
    }
}

/// The state is with the files: the run, its streams and their checkpoints all save in one object.
#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_state_in_a_store() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let rig = Rig::new(Options { latency: Duration::from_millis(700), ..Options::default() });
    let target = Files::in_store(store, "", "s3://b", Settings::default());
    let report = rig.run_into(target, &format!("{ALL}checkpoint: {{ every: 1s }}\n")).await;
    assert_eq!(report.status, RunStatus::Done, "{report:?}");
}

/// A run that died between its parts and its state publishes once more: the parts that count are not
/// touched until those in their place are whole.
#[tokio::test]
async fn a_store_that_is_published_to_again_gets_other_parts() {
    let store = Arc::new(InMemory::new());
    let target = || {
        let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        Files::in_store(bucket, "", "s3://b", Settings::default())
    };
    let files = async || {
        let bytes = store.get(&Key::from("pages/_weir.json")).await.unwrap().bytes().await.unwrap();
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(manifest["leftovers"], Value::Null);
        serde_json::from_value::<Vec<String>>(manifest["files"].clone()).unwrap()
    };
    for disposition in [Disposition::Replace, Disposition::Append, Disposition::Merge] {
        let table =
            Table { run_id: format!("{disposition:?}"), ..table("pages/*.jsonl", disposition) };
        let first = target();
        let mut writer = first.open(&table, None).await.unwrap().unwrap();
        writer.write(batch(&table, 7..9, 20)).await.unwrap();
        writer.checkpoint(&[Change::set("a", json!(1))]).await.unwrap();
        // The state cannot be saved, as if the process had died.
        let is_state = |key: &String| key.ends_with("/state.json");
        let state = keys(&store).await.into_iter().find(is_state).unwrap();
        store.put(&Key::from(state), "{}".into()).await.unwrap();
        writer.commit(&SOME, &[Change::set("a", json!(2))]).await.unwrap_err();
        let before = files().await;
        let again = target();
        let writer = again.open(&table, Some(2)).await.unwrap().unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
        let after = files().await;
        let mut new = after.iter().filter(|part| part.starts_with(&table.run_id)).peekable();
        assert!(new.peek().is_some());
        assert!(new.all(|part| !before.contains(part)), "{before:?} {after:?}");
        assert_eq!(ids_in(&store).await, [7, 8], "{disposition:?}");
        let is_part = |key: &String| Path::new(key).extension().is_some_and(|ext| ext == "jsonl");
        let parts = keys(&store).await.into_iter().filter(is_part);
        assert_eq!(parts.count(), after.len());
        load(&again, &Table { disposition: Disposition::Replace, ..table.clone() }, 0..0).await;
    }
}

/// Another run takes the lock, as after a pause longer than a lease lasts.
#[tokio::test(start_paused = true)]
async fn who_has_lost_the_lock_in_a_store_neither_publishes_nor_takes_it_from_another() {
    let store = Arc::new(InMemory::new());
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let target = Files::in_store(bucket, "", "s3://b", Settings::default());
    let table = table("pages.jsonl", Disposition::Replace);
    load(&target, &table, 0..3).await;
    let state = target.store(&table.replication).unwrap();
    let lock = state.lock(&Holder::here("slow")).await.unwrap();
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(batch(&table, 5..6, 20)).await.unwrap();
    let lease = keys(&store).await.into_iter().find(|key| key.ends_with("/lock.json")).unwrap();
    let lease = Key::from(lease);
    let holder = Holder::here("quick");
    let theirs = json!({ "holder": holder, "until": "2999-01-01T00:00:00Z" }).to_string();
    store.put(&lease, theirs.clone().into()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(!lock.is_held());
    let error = writer.commit(&SOME, &[]).await.unwrap_err();
    assert!(error.chain().contains("the lock on `people` was lost"), "{error:?}");
    let pages = store.get(&Key::from("pages.jsonl")).await.unwrap().bytes().await.unwrap();
    assert_eq!(ids(Path::new("pages.jsonl"), pages.to_vec()), [0, 1, 2]);
    lock.release().await;
    let left = store.get(&lease).await.unwrap().bytes().await.unwrap();
    assert_eq!(left, theirs);
}

/// Between two renewals nobody looks whether the lease is still one's own: its release does.
#[tokio::test(start_paused = true)]
async fn a_lock_in_a_store_that_another_has_taken_is_not_given_up_for_him() {
    let store = Arc::new(InMemory::new());
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let state = Files::in_store(bucket, "", "s3://b", Settings::default()).store("r").unwrap();
    let lock = state.lock(&Holder::here("slow")).await.unwrap();
    let lease = Key::from(keys(&store).await.remove(0));
    store.put(&lease, "theirs".into()).await.unwrap();
    lock.release().await;
    assert!(!lock.is_held());
    assert_eq!(store.get(&lease).await.unwrap().bytes().await.unwrap(), "theirs");
}

#[tokio::test]
async fn a_store_splits_parts_and_refuses_what_is_not_its_own() {
    let store = Arc::new(InMemory::new());
    let files = Settings { max_file_bytes: Some(1 << 20), ..Settings::default() };
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let target = Files::in_store(bucket, "", "s3://b", files);
    let table = table("pages/*.jsonl", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(batch(&table, 0..3000, 1400)).await.unwrap();
    assert!(keys(&store).await.is_empty());
    let committed = writer.commit(&SOME, &[]).await.unwrap();
    assert_eq!(ids_in(&store).await, (0..3000).collect::<Vec<_>>());
    assert_eq!(committed.object, format!("s3://b/pages/ ({} files)", keys(&store).await.len() - 1));

    // What a run that died while it published has left behind.
    let manifest = json!({ "run_id": "x", "files": [], "leftovers": ["x-00000.jsonl"] });
    let put = |name: &str, text: String| {
        let (store, key) = (Arc::clone(&store), Key::from(format!("pages/{name}")));
        async move { drop(store.put(&key, text.into()).await.unwrap()) }
    };
    put("mine.jsonl", "precious".to_owned()).await;
    let error = target.open(&table, None).await.err().unwrap();
    assert!(error.chain().contains("`mine.jsonl`"), "{error:?}");
    store.delete(&Key::from("pages/mine.jsonl")).await.unwrap();
    load(&target, &table, 0..1).await;
    for key in keys(&store).await {
        store.delete(&Key::from(key)).await.unwrap();
    }
    put("x-00000.jsonl", "{\"id\":99}\n".to_owned()).await;
    put("_weir.json", manifest.to_string()).await;
    load(&target, &table, 0..1).await;
    assert_eq!(ids_in(&store).await, [0]);
}

fn s3_options(endpoint: &str, key: &str) -> FilesOptions {
    let settings = [
        ("aws_access_key_id", key),
        ("aws_secret_access_key", "hunter2"),
        ("aws_region", "eu-central-1"),
        ("endpoint", endpoint),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let root = "s3://b/pre".to_owned();
    FilesOptions { root, settings: settings.into_iter().collect(), files: Settings::default() }
}

#[tokio::test]
async fn s3_takes_signed_uploads_and_forgets_those_given_up() {
    let bucket = Arc::new(Mutex::new(s3::Bucket::default()));
    let endpoint = s3::serve(Arc::clone(&bucket)).await;
    let target = Files::new(&s3_options(&endpoint, "AKIDTEST")).unwrap();
    target.check().await.unwrap();
    for object in ["a b/pages.jsonl", "parts/*.jsonl"] {
        let table = table(object, Disposition::Replace);
        load(&target, &table, 0..3).await;
        load(&target, &table, 3..5).await;
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(batch(&table, 0..8000, 1500)).await.unwrap();
        let found = ids_in_bucket(&bucket.lock().unwrap(), object);
        assert_eq!(found, [3, 4], "{object}");
        writer.commit(&SOME, &[]).await.unwrap();
        let found = ids_in_bucket(&bucket.lock().unwrap(), object);
        assert_eq!(found, (0..8000).collect::<Vec<_>>(), "{object}");

        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(batch(&table, 0..8000, 1500)).await.unwrap();
        drop(writer);
        assert_eq!(ids_in_bucket(&bucket.lock().unwrap(), object).len(), 8000, "{object}");
        while !bucket.lock().unwrap().uploads.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    assert_eq!(bucket.lock().unwrap().unsigned, 0);
}

#[tokio::test]
async fn s3_that_refuses_leaves_the_old_object_and_shows_no_secret() {
    let bucket = Arc::new(Mutex::new(s3::Bucket::default()));
    let endpoint = s3::serve(Arc::clone(&bucket)).await;
    let target = Files::new(&s3_options(&endpoint, "AKIDTEST")).unwrap();
    let table = table("pages.jsonl", Disposition::Replace);
    load(&target, &table, 0..3).await;
    for rows in [10, 8000] {
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        bucket.lock().unwrap().refusals = 1;
        let written = writer.write(batch(&table, 0..rows, 1500)).await;
        let error = match written {
            Ok(()) => writer.commit(&SOME, &[]).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), weir::error::Kind::Credentials, "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert_eq!(ids_in_bucket(&bucket.lock().unwrap(), "pages.jsonl"), [0, 1, 2]);
    }
    let wrong = Files::new(&s3_options(&endpoint, "AKIDWRONG")).unwrap();
    let error = wrong.check().await.unwrap_err();
    assert_eq!(error.kind(), weir::error::Kind::Credentials, "{error:?}");
}

fn ids_in_bucket(bucket: &s3::Bucket, object: &str) -> Vec<i64> {
    let folder = format!("pre/{}", object.split('*').next().unwrap());
    let own = |key: &&String| key.starts_with(&folder) && !key.ends_with("_weir.json");
    let found = bucket.objects.keys().filter(own);
    found.flat_map(|key| ids(Path::new(key), bucket.objects[key].to_vec())).collect()
}

#[test]
fn options_show_no_secret() {
    let secret = Secret::new("hunter2");
    let options = FilesOptions {
        root: "s3://b/p".to_owned(),
        settings: [
            ("aws_access_key_id".to_owned(), Secret::new("AKIA")),
            ("aws_secret_access_key".to_owned(), secret),
            ("aws_region".to_owned(), Secret::new("eu-central-1")),
        ]
        .into_iter()
        .collect(),
        files: Settings::default(),
    };
    assert!(!format!("{options:?}").contains("hunter2"));
    assert!(!format!("{:?}", Files::new(&options).unwrap()).contains("hunter2"));
}

/// Rows that are staged stay for the run that goes on with them, and for any other replication's for two weeks.
#[tokio::test]
async fn staged_rows_that_no_run_goes_on_with_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = Files::in_store(Arc::clone(&bucket), "", "s3://b", Settings::default());
    let now = chrono::Utc::now();
    let late = now + chrono::TimeDelta::days(15);
    for target in [files_in(root.path()), store] {
        let table =
            Table { run_id: "run-a".to_owned(), ..table("pages.jsonl", Disposition::Replace) };
        let stage = async || {
            let mut writer = target.open(&table, None).await.unwrap().unwrap();
            writer.write(batch(&table, 0..3, 20)).await.unwrap();
            writer.checkpoint(&[]).await.unwrap();
            writer
        };
        for (replication, kept, at, stays) in [
            ("people", Some("run-a"), late, true),
            ("other", None, now, true),
            ("other", None, late, false),
            ("people", Some("run-b"), now, false),
            ("people", None, now, false),
        ] {
            drop(stage().await);
            target.tidy(&Leftovers::of(replication, kept, at)).await.unwrap();
            let there = target.is_staged(&table, 3).await.unwrap();
            assert_eq!(there, stays, "{replication} {kept:?}");
        }
    }
    // What a living process has on this machine is locked.
    let target = files_in(root.path());
    let table = table("pages.jsonl", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(batch(&table, 0..3, 20)).await.unwrap();
    target.tidy(&Leftovers::of("people", None, late)).await.unwrap();
    writer.commit(&SOME, &[]).await.unwrap();
    assert_eq!(ids_below(root.path()), [0, 1, 2]);
}
