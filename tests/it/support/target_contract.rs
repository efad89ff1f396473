//! What every target must do, whatever it is: run by each target's own tests.

#![expect(clippy::future_not_send, reason = "each test awaits the contract where it is")]

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::json;
use weir::{
    schema::{Column, ColumnType, TableSchema},
    write::{Deletes, Disposition, Ending, Seen, Table, Target, Writer},
};

use super::rows::{Row, batch, normal, rows};

/// A target under test.
pub(crate) struct Subject<'a, N, R> {
    pub(crate) target: &'a dyn Target,
    /// Whether it can merge by key.
    pub(crate) merges: bool,
    /// The `object` of a table of this short name.
    pub(crate) object: N,
    /// The rows that a reader of the target sees; `None` when there is no such table.
    pub(crate) read: R,
}

/// Runs the whole contract, each clause on a table of its own.
pub(crate) async fn check<N, R>(subject: Subject<'_, N, R>)
where
    N: Fn(&str) -> String,
    R: AsyncFn(&Table) -> Option<Vec<Row>>,
{
    subject.target.check().await.unwrap();
    subject.rows_are_seen_once_committed().await;
    subject.a_dropped_writer_writes_nothing().await;
    for disposition in [Disposition::Replace, Disposition::Truncate] {
        subject.new_rows_take_the_place_of_old_ones(disposition).await;
        subject.a_commit_without_rows_empties_the_table(disposition).await;
    }
    subject.appended_rows_are_added().await;
    if subject.merges {
        subject.merged_rows_take_the_place_of_their_key().await;
    } else {
        subject.a_merge_is_refused().await;
    }
    subject.every_value_comes_back().await;
    subject.many_batches_arrive_whole().await;
    subject.tables_are_written_side_by_side().await;
}

impl<N, R> Subject<'_, N, R>
where
    N: Fn(&str) -> String,
    R: AsyncFn(&Table) -> Option<Vec<Row>>,
{
    async fn rows_are_seen_once_committed(&self) {
        let table = self.table("seen", Disposition::Replace);
        let mut writer = self.open(&table).await;
        writer.write(people(&table, &[(1, "Ann"), (2, "Bo")])).await.unwrap();
        assert!(self.names(&table).await.is_empty(), "rows are seen before their commit");
        let committed = writer.commit(&SOME, &[]).await.unwrap();
        assert_eq!(committed.rows, 2);
        assert!(!committed.object.is_empty());
        assert_eq!(self.names(&table).await, ["1 Ann", "2 Bo"]);
    }

    async fn a_dropped_writer_writes_nothing(&self) {
        for disposition in [Disposition::Replace, Disposition::Truncate, Disposition::Append] {
            let name = format!("dropped_{disposition:?}").to_lowercase();
            let table = self.table(&name, disposition);
            self.load(&table, &[(1, "Ann")]).await;
            let mut writer = self.open(&table).await;
            for round in 0..20 {
                writer.write(wide(&table, round * 500..(round + 1) * 500)).await.unwrap();
            }
            drop(writer);
            assert_eq!(self.names(&table).await, ["1 Ann"], "{disposition:?}");
            drop(self.open(&table).await);
            assert_eq!(self.names(&table).await, ["1 Ann"], "{disposition:?}");
        }
    }

    async fn new_rows_take_the_place_of_old_ones(&self, disposition: Disposition) {
        let table = self.table(&format!("{disposition:?}").to_lowercase(), disposition);
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        self.load(&table, &[(2, "Bob"), (3, "Cy")]).await;
        assert_eq!(self.names(&table).await, ["2 Bob", "3 Cy"], "{disposition:?}");
    }

    async fn a_commit_without_rows_empties_the_table(&self, disposition: Disposition) {
        let table = self.table(&format!("empty_{disposition:?}").to_lowercase(), disposition);
        self.load(&table, &[(1, "Ann")]).await;
        self.load(&table, &[]).await;
        assert!(self.names(&table).await.is_empty(), "{disposition:?}");
        let new = self.table(&format!("never_{disposition:?}").to_lowercase(), disposition);
        self.load(&new, &[]).await;
        assert!(self.names(&new).await.is_empty(), "{disposition:?}");
    }

    async fn appended_rows_are_added(&self) {
        let table = self.table("appended", Disposition::Append);
        self.load(&table, &[(1, "Ann")]).await;
        self.load(&table, &[]).await;
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        assert_eq!(self.names(&table).await, ["1 Ann", "1 Ann", "2 Bo"]);
    }

    async fn merged_rows_take_the_place_of_their_key(&self) {
        let table = self.table("merged", Disposition::Merge);
        self.load(&table, &[(1, "Ann"), (2, "Bo")]).await;
        self.load(&table, &[(2, "Ben"), (3, "Cy"), (2, "Bob")]).await;
        self.load(&table, &[]).await;
        assert_eq!(self.names(&table).await, ["1 Ann", "2 Bob", "3 Cy"]);
        let mut keyless = self.table("keyless", Disposition::Merge);
        keyless.schema.key.clear();
        assert!(self.target.open(&keyless, None).await.is_err(), "a merge needs a key");
    }

    async fn a_merge_is_refused(&self) {
        let table = self.table("merged", Disposition::Merge);
        assert!(
            self.target.open(&table, None).await.is_err(),
            "a merge that cannot be must be refused"
        );
    }

    async fn every_value_comes_back(&self) {
        let columns =
            ColumnType::ALL.iter().map(|kind| Column::new(format!("a_{}", kind.name()), *kind));
        let mut table = self.table("values", Disposition::Replace);
        table.schema.columns.extend(columns);
        let mut expected = values();
        expected.sort_by_key(|row| row["id"].as_i64());
        let mut writer = self.open(&table).await;
        writer.write(batch(&table.schema, &expected)).await.unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
        let mut found = self.rows(&table).await;
        found.sort_by_key(|row| row["id"].as_i64());
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(*found, normal(&table.schema, expected));
        }
    }

    async fn many_batches_arrive_whole(&self) {
        let table = self.table("many", Disposition::Replace);
        let mut writer = self.open(&table).await;
        let mut next = 0;
        for size in [1, 7000, 0, 13_000, 500, 4000, 1] {
            let people: Vec<Row> = (next..next + size)
                .map(|id| rows(json!([{ "id": id, "name": "x".repeat(300) }])).remove(0))
                .collect();
            writer.write(batch(&table.schema, &people)).await.unwrap();
            next += size;
        }
        assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, u64::try_from(next).unwrap());
        let found = self.rows(&table).await;
        let mut ids: Vec<i64> = found.iter().map(|row| row["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..next));
    }

    async fn tables_are_written_side_by_side(&self) {
        let names: Vec<String> = (0..12).map(|number| format!("side_{number}")).collect();
        let tables: Vec<Table> =
            names.iter().map(|name| self.table(name, Disposition::Replace)).collect();
        let mut writers = Vec::new();
        for table in &tables {
            writers.push(self.open(table).await);
        }
        let rounds = tables.iter().zip(writers).map(async |(table, mut writer)| {
            for first in [0, 200, 400] {
                writer.write(wide(table, first..first + 200)).await.unwrap();
            }
            assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, 600);
        });
        futures_util::future::join_all(rounds).await;
    }

    fn table(&self, name: &str, disposition: Disposition) -> Table {
        table((self.object)(name), disposition)
    }

    async fn open(&self, table: &Table) -> Box<dyn Writer> {
        let opened = self.target.open(&of_new_run(table), None).await;
        opened.unwrap_or_else(|error| panic!("{}: {error:?}", table.object)).unwrap()
    }

    async fn load(&self, table: &Table, people: &[(i64, &str)]) {
        load(self.target, table, people).await;
    }

    async fn rows(&self, table: &Table) -> Vec<Row> {
        let rows = (self.read)(table).await.unwrap_or_default();
        rows.iter().map(|row| normal(&table.schema, row)).collect()
    }

    /// `id name` of every row, sorted.
    async fn names(&self, table: &Table) -> Vec<String> {
        names(&self.rows(table).await)
    }
}

/// A table of people: a key `id`, and a `name`.
pub(crate) fn table(object: impl Into<String>, disposition: Disposition) -> Table {
    let columns = vec![Column::new("id", ColumnType::Int), Column::new("name", ColumnType::Text)];
    Table {
        replication: "people".to_owned(),
        replaces: None,
        deletes: Deletes::Ignore,
        place: Vec::new(),
        stream: "people".to_owned(),
        object: object.into(),
        schema: TableSchema { columns, key: vec!["id".to_owned()] },
        disposition,
        run_id: "20260101000000000ffffffff".to_owned(),
        files: None,
    }
}

/// What a run that saw only some rows says.
pub(crate) const SOME: Ending = Ending { seen: Seen::Some, at: chrono::DateTime::UNIX_EPOCH };

/// The same table, written by a run of its own.
fn of_new_run(table: &Table) -> Table {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let number = RUNS.fetch_add(1, Ordering::Relaxed);
    Table { run_id: format!("20260101000000000{number:08x}"), ..table.clone() }
}

/// A batch of people.
pub(crate) fn people(table: &Table, people: &[(i64, &str)]) -> arrow_array::RecordBatch {
    let row = |(id, name): &(i64, &str)| rows(json!([{ "id": id, "name": name }])).remove(0);
    batch(&table.schema, &people.iter().map(row).collect::<Vec<_>>())
}

/// Writes people and commits; how many rows were committed.
pub(crate) async fn load(target: &dyn Target, table: &Table, rows: &[(i64, &str)]) -> u64 {
    let mut writer = target.open(&of_new_run(table), None).await.unwrap().unwrap();
    if !rows.is_empty() {
        writer.write(people(table, rows)).await.unwrap();
    }
    writer.commit(&SOME, &[]).await.unwrap().rows
}

/// `id name` of every row, sorted.
pub(crate) fn names(rows: &[Row]) -> Vec<String> {
    let name = |row: &Row| format!("{} {}", row["id"], row["name"].as_str().unwrap_or("null"));
    let mut names: Vec<String> = rows.iter().map(name).collect();
    names.sort();
    names
}

/// Rows of a kilobyte each, with these ids.
pub(crate) fn wide(table: &Table, ids: Range<i64>) -> arrow_array::RecordBatch {
    let name = "wide ".repeat(200);
    people(table, &ids.map(|id| (id, name.as_str())).collect::<Vec<_>>())
}

/// Rows with ordinary, extreme and absent values of every type.
fn values() -> Vec<Row> {
    rows(json!([
        {
            "id": 1, "name": "", "a_text": "line\nquote\" back\\ tab\t é 漢 🙂", "a_int": 42,
            "a_float": 1.5, "a_decimal": "1.5", "a_bool": true, "a_date": "2024-02-29",
            "a_timestamp": "2024-02-29T12:34:56.789012Z", "a_json": { "a": [1, null, "x"] },
            "a_bytes": "AAEC/w==",
        },
        {
            "id": i64::MAX, "a_text": "\\N", "a_int": i64::MIN, "a_float": -1.0e-300,
            "a_decimal": "99999999999999999999999999999.999999999", "a_bool": false,
            "a_date": "1969-12-31", "a_timestamp": "1969-12-31T23:59:59.999999Z",
            "a_json": "text", "a_bytes": "",
        },
        {
            "id": i64::MIN, "a_text": "null", "a_int": i64::MAX, "a_float": 1.0e300,
            "a_decimal": "-0.000000001", "a_date": "0001-01-01",
            "a_timestamp": "0001-01-01T00:00:00.000000Z", "a_json": [], "a_bytes": "AA==",
        },
        {
            "id": 2, "a_decimal": "10000", "a_int": 0, "a_float": 0.0, "a_date": "9999-12-31",
            "a_timestamp": "9999-12-31T23:59:59.999999Z", "a_json": { "deep": { "er": false } },
        },
        { "id": 3 },
    ]))
}
