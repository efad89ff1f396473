//! Every target keeps the contract of the seam; Postgres shows it with its own tests.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use indexmap::IndexMap;
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, value::RawValue};
use weir::{
    schema::ColumnType,
    write::{
        Table,
        files::{Files, Settings},
        memory::Memory,
    },
};

use crate::support::{
    rows::{Row, rows_of},
    target_contract::{Subject, check},
};

#[tokio::test]
async fn the_in_memory_target_keeps_the_contract() {
    let memory = Memory::new();
    check(Subject {
        target: &memory,
        object: |name: &str| name.to_owned(),
        read: async |table: &Table| Some(rows_of(&table.schema, &memory.batches(&table.object)?)),
    })
    .await;
    assert!(memory.objects().contains(&"merged".to_owned()));
}

#[tokio::test]
async fn the_files_target_keeps_the_contract() {
    for format in ["parquet", "jsonl"] {
        let folder = tempfile::tempdir().unwrap();
        let target = Files::in_folder(folder.path(), Settings::default());
        check(Subject {
            target: &target,
            object: |name: &str| format!("{name}/*.{format}"),
            read: async |table: &Table| {
                let parts = parts(&folder.path().join(&table.object))?;
                Some(parts.iter().flat_map(|part| rows_in(table, part)).collect())
            },
        })
        .await;
    }
}

#[tokio::test]
async fn the_files_target_keeps_the_contract_in_a_store() {
    let store = Arc::new(InMemory::new());
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let target = Files::in_store(bucket, "pre/fix", "s3://b/pre/fix", Settings::default());
    check(Subject {
        target: &target,
        object: |name: &str| format!("{name}/*.jsonl"),
        read: async |table: &Table| {
            let folder = format!("pre/fix/{}", table.object.trim_end_matches("/*.jsonl"));
            let found = store.list_with_delimiter(Some(&folder.into())).await.unwrap().objects;
            let mut parts = found.iter().map(|meta| &meta.location).peekable();
            parts.peek()?;
            let mut rows = Vec::new();
            for part in parts.filter(|part| !part.filename().unwrap().starts_with('_')) {
                let bytes = store.get(part).await.unwrap().bytes().await.unwrap();
                rows.extend(rows_of_lines(table, str::from_utf8(&bytes).unwrap()));
            }
            Some(rows)
        },
    })
    .await;
}

/// The files that a reader would read: those with the object's extension that are not hidden.
fn parts(object: &Path) -> Option<Vec<PathBuf>> {
    let entries = fs::read_dir(object.parent()?).ok()?;
    let paths = entries.map(|entry| entry.unwrap().path());
    let seen = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.starts_with(['.', '_']) && path.extension() == object.extension()
    };
    Some(paths.filter(seen).collect())
}

fn rows_in(table: &Table, part: &Path) -> Vec<Row> {
    if part.extension().is_some_and(|extension| extension == "jsonl") {
        let text = fs::read_to_string(part).unwrap();
        return rows_of_lines(table, &text);
    }
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part).unwrap()).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    rows_of(&table.schema, &batches)
}

fn rows_of_lines(table: &Table, text: &str) -> Vec<Row> {
    text.lines().map(|line| row_of_line(table, line)).collect()
}

/// Decimals are taken as they are written: as floats they would lose digits.
fn row_of_line(table: &Table, line: &str) -> Row {
    let cells: IndexMap<String, &RawValue> = serde_json::from_str(line).unwrap();
    let cell = |(name, raw): (String, &RawValue)| {
        let kind = table.schema.position(&name).map(|at| table.schema.columns[at].kind);
        let value: Value = match kind {
            Some(ColumnType::Decimal) if raw.get() != "null" => raw.get().into(),
            _ => serde_json::from_str(raw.get()).unwrap(),
        };
        (name, value)
    };
    cells.into_iter().map(cell).collect()
}
