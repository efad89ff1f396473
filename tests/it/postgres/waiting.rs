//! Tables that other sessions use while rows are to be published: who waits for whom, and for how long.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use weir::error::Kind;
use weir::plan::PlanOptions;
use weir::report::{NoticeKind, Recorded, StreamStatus};
use weir::schema::{Column, ColumnType};
use weir::sync::run_options::RunOptions;
use weir::write::postgres::{Postgres, PostgresOptions};
use weir::write::{Disposition, Table, Target, Watch};

use super::interruptions::eventually;
use crate::support::{
    fake::{Fake, How, REPLICATION, Reply},
    postgres::Database,
    target_contract::{SOME, load, names, people, table},
};

/// Somebody who has read the table in `psql` and left the transaction open; the session's number.
async fn idle_reader(database: &Database) -> (Client, i32) {
    let reader = database.client().await;
    reader
        .batch_execute("SET application_name = 'psql'; BEGIN; SELECT count(*) FROM people")
        .await
        .unwrap();
    let row = reader.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
    (reader, row.get(0))
}

/// A target whose waits are told to somebody.
fn watched(options: PostgresOptions) -> (Arc<Postgres>, Arc<Recorded>, CancellationToken) {
    let (told, cancel) = (Arc::new(Recorded::default()), CancellationToken::new());
    let target = Arc::new(Postgres::new(options));
    target.set_watch(Watch {
        reporter: std::sync::Arc::<weir::report::Recorded>::clone(&told),
        cancel: cancel.clone(),
    });
    (target, told, cancel)
}

fn says(told: &Recorded, what: &str) -> bool {
    format!("{:?}", told.events()).contains(what)
}

async fn found(database: &Database) -> Vec<String> {
    let table = table("people", Disposition::Replace);
    names(&database.rows("people", &table.schema).await.unwrap())
}

fn narrow() -> Table {
    table("people", Disposition::Replace)
}

/// A merge of rows that have one column more than the table.
fn wider() -> Table {
    let mut wider = table("people", Disposition::Merge);
    let kind = ColumnType::Text;
    wider.schema.columns.push(Column { name: "extra".to_owned(), kind, doc: None });
    wider
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stays_is_named_and_others_read_on() {
    for table in [table("people", Disposition::Replace), wider()] {
        let database = Database::new().await;
        let (target, told, _) = watched(database.options());
        load(&*target, &narrow(), &[(1, "Ann")]).await;
        let (reader, pid) = idle_reader(&database).await;
        let writer = target.open(&table, None).await.unwrap().unwrap();
        let committing = tokio::spawn(async move { writer.commit(&SOME, &[]).await });
        let line = format!("waiting for pid {pid} (psql, idle in transaction since ");
        eventually(async || says(&told, &line)).await;
        // Whoever comes later gets its turn, again and again, while the commit waits.
        let other = database.client().await;
        other.batch_execute("SET statement_timeout = '8s'").await.unwrap();
        for _ in 0..5 {
            other.query_one("SELECT count(*) FROM people", &[]).await.unwrap();
        }
        assert!(!committing.is_finished());
        reader.batch_execute("COMMIT").await.unwrap();
        let committed = committing.await.unwrap().unwrap();
        let notice = &committed.notices[0];
        assert_eq!(notice.kind, NoticeKind::TableInUse);
        assert!(notice.detail.contains(&format!("pid {pid} (psql")), "{notice:?}");
    }
}

/// What needs no strong lock waits for no reader.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_merged_filled_in_and_added_while_somebody_reads() {
    for disposition in [Disposition::Merge, Disposition::Truncate, Disposition::Append] {
        let database = Database::new().await;
        let (target, told, _) = watched(database.options());
        load(&*target, &table("people", Disposition::Replace), &[(1, "Ann")]).await;
        let (reader, _) = idle_reader(&database).await;
        load(&*target, &table("people", disposition), &[(2, "Bo")]).await;
        let expected: &[&str] =
            if disposition == Disposition::Truncate { &["2 Bo"] } else { &["1 Ann", "2 Bo"] };
        assert_eq!(found(&database).await, expected, "{disposition:?}");
        assert!(told.events().is_empty(), "{:?}", told.events());
        drop(reader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_after_the_time_that_was_set_and_what_was_read_stays() {
    let database = Database::new().await;
    let options = PostgresOptions { lock_wait: Duration::from_secs(1), ..database.options() };
    let (target, ..) = watched(options);
    let table = table("people", Disposition::Replace);
    load(&*target, &table, &[(1, "Ann")]).await;
    let (reader, pid) = idle_reader(&database).await;
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(2, "Bo")])).await.unwrap();
    writer.checkpoint(&[]).await.unwrap();
    let error = writer.commit(&SOME, &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Target, "{error:?}");
    assert!(error.chain().contains(&format!("pid {pid} (psql, idle in")), "{error:?}");
    assert!(error.hint().unwrap().contains("lock_wait"), "{error:?}");
    assert_eq!(found(&database).await, ["1 Ann"]);
    drop(reader);
    let writer = target.open(&table, Some(1)).await.unwrap().unwrap();
    assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, 1);
    assert_eq!(found(&database).await, ["2 Bo"]);
}

/// A run that is stopped while it waits for a reader ends at once, though the reader stays; all that it
/// read is saved, so that the next run asks for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_waits_no_longer_and_the_next_one_asks_for_nothing() {
    let database = Database::new().await;
    let spec = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  people: { doc: One., get: /people, key: [id], columns: { id: int, name: text } }
";
    let fake = Fake::new(spec, |_| Reply::json(&json!([{ "id": 1, "name": "Ann" }])));
    let fake = fake.into_postgres(database.options());
    fake.run().await;
    let (reader, _) = idle_reader(&database).await;
    fake.answer(|_| Reply::json(&json!([{ "id": 2, "name": "Bo" }])));
    let options = PlanOptions::default();
    let how = How { replication: REPLICATION, options: &options, beginning: RunOptions::now() };
    let cancel = CancellationToken::new();
    let waiting = "SELECT pid FROM pg_stat_activity \
                   WHERE query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock' \
                       AND datname = current_database()";
    let stopping = async {
        eventually(async || !database.texts(waiting).await.is_empty()).await;
        cancel.cancel();
    };
    let (ran, ()) = tokio::join!(fake.try_run_until(how, cancel.clone()), stopping);
    let ran = ran.unwrap();
    assert_eq!(ran.stream("people").status, StreamStatus::Interrupted);
    assert!(ran.report.resumable);
    assert_eq!(found(&database).await, ["1 Ann"]);
    drop(reader);
    let ran = fake.run().await;
    assert_eq!((ran.stream("people").status, ran.asked.len()), (StreamStatus::Done, 0));
    assert_eq!(found(&database).await, ["2 Bo"]);
}

/// Somebody holds the strongest lock on the table, or on the saved state.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_locked_table_ends_soon_and_says_what_is_in_its_way() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = table("people", Disposition::Merge);
    load(&target, &table, &[(1, "Ann")]).await;
    let other = database.client().await;
    other.batch_execute("BEGIN; LOCK TABLE people IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for looked in [target.existing(&table).await.err(), target.count(&table).await.err()] {
        let error = looked.unwrap();
        assert_eq!(error.kind(), Kind::Busy);
        assert!(error.to_string().contains("is locked by another session"), "{error:?}");
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(target.count(&table).await.unwrap(), Some(1));
}
