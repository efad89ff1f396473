//! Runs that are cut off, and runs that meet.

use std::time::Duration;

use weir::{
    state::{Change, Holder},
    write::{
        Disposition, Target,
        postgres::{Postgres, PostgresOptions},
    },
};

use crate::support::{
    postgres::{Database, OwnServer},
    target_contract::{load, names, people, table, wide},
};

/// Waits until something holds; fails after ten seconds.
pub(super) async fn eventually(holds: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come about");
}

pub(super) const STAGES: &str = "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class \
    WHERE relname LIKE '\\_weir\\_stage%' AND relkind = 'r'";
const LOCKS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

async fn found(database: &Database) -> Vec<String> {
    let table = table("people", Disposition::Replace);
    names(&database.rows("people", &table.schema).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_writer_leaves_its_staging_and_no_lock() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = table("people", Disposition::Replace);
    load(&target, &table, &[(1, "Ann")]).await;
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    for _ in 0..10 {
        writer.write(wide(&table, 0..1000)).await.unwrap();
    }
    assert_eq!(database.texts(STAGES).await.len(), 1);
    drop(writer);
    eventually(async || database.texts(LOCKS).await.is_empty()).await;
    assert_eq!(database.texts(STAGES).await.len(), 1);
    assert_eq!(found(&database).await, ["1 Ann"]);
    target.open(&table, None).await.unwrap().unwrap().discard().await.unwrap();
    assert!(database.texts(STAGES).await.is_empty());
}

/// A server that is killed and started again has what was staged at the last checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_the_crash_of_its_server() {
    let server = OwnServer::start();
    let target = Postgres::new(PostgresOptions::from_url(&server.url()).unwrap());
    let table = table("people", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(1, "Ann"), (2, "Bo")])).await.unwrap();
    writer.checkpoint(&[]).await.unwrap();
    let staged = writer.staged();
    writer.write(wide(&table, 10..3000)).await.unwrap();
    server.crash();
    writer.write(people(&table, &[(9, "Lost")])).await.unwrap();
    let error = writer.checkpoint(&[]).await.unwrap_err();
    assert_eq!(error.kind(), weir::error::Kind::Target, "{error:?}");
    drop(writer);
    let next = Postgres::new(PostgresOptions::from_url(&server.url()).unwrap());
    let mut writer = next.open(&table, Some(staged)).await.unwrap().unwrap();
    writer.write(people(&table, &[(3, "Cy")])).await.unwrap();
    let committed = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
    assert_eq!(committed.rows, 3);
}

/// What is saved lasts, although the sessions that stage rows do not wait for the disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_outlives_the_crash_of_its_server() {
    let server = OwnServer::start();
    let target = || Postgres::new(PostgresOptions::from_url(&server.url()).unwrap());
    let store = target().store("nightly").unwrap();
    let lock = store.lock(&Holder::here("r")).await.unwrap();
    store.save(&[Change::set("run", 1.into())]).await.unwrap();
    server.crash();
    drop(lock);
    assert_eq!(target().store("nightly").unwrap().load().await.unwrap()["run"], 1);
}

/// A staging that lacks rows of the last checkpoint is lost: the rest must not pass for all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_staging_that_lacks_rows_is_not_gone_on_with() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = table("people", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(1, "Ann"), (2, "Bo")])).await.unwrap();
    writer.checkpoint(&[]).await.unwrap();
    drop(writer);
    assert!(target.open(&table, Some(2)).await.unwrap().is_some());
    let stage = database.text(STAGES).await;
    database.execute(&format!("DELETE FROM {stage} WHERE name = 'Bo'")).await;
    assert!(target.open(&table, Some(2)).await.unwrap().is_none());
    assert!(target.open(&table, Some(1)).await.unwrap().is_some());
}

/// The death of a process looks to the server like the end of its sessions.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_left_the_next_one_removes() {
    let database = Database::new().await;
    let table = table("people", Disposition::Replace);
    load(&Postgres::new(database.options()), &table, &[(1, "Ann")]).await;
    let url = database.url();
    // A runtime of its own that ends with the writer open, as the process would.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let target = Postgres::new(PostgresOptions::from_url(&url).unwrap());
        let table = table_of_people();
        let writer = runtime.block_on(async {
            let mut writer = target.open(&table, None).await.unwrap().unwrap();
            for _ in 0..5 {
                writer.write(wide(&table, 0..1000)).await.unwrap();
            }
            writer
        });
        runtime.shutdown_background();
        drop(writer);
    })
    .join()
    .unwrap();
    assert_eq!(database.texts(STAGES).await.len(), 1, "nothing was left to remove");
    assert_eq!(found(&database).await, ["1 Ann"]);
    eventually(async || database.texts(LOCKS).await.is_empty()).await;
    let next = Postgres::new(database.options());
    let writer = next.open(&table, None).await.unwrap().unwrap();
    assert_eq!(database.texts(STAGES).await.len(), 1, "only its own");
    writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
    assert!(database.texts(STAGES).await.is_empty());
    assert!(found(&database).await.is_empty());
}

fn table_of_people() -> weir::write::Table {
    table("people", Disposition::Replace)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_fails_its_writer_and_nothing_else() {
    let database = Database::new().await;
    let options = PostgresOptions { connections: 1, ..database.options() };
    let target = Postgres::new(options);
    let table = table("people", Disposition::Replace);
    load(&target, &table, &[(1, "Ann")]).await;
    // A trigger-free way to hold a COPY: someone else has locked the staging table.
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    let stage = database.text(STAGES).await;
    let blocker = database.client().await;
    blocker.batch_execute(&format!("BEGIN; LOCK TABLE {stage}")).await.unwrap();
    let batch = wide(&table, 0..5000);
    let writing = tokio::spawn(async move {
        let written = writer.write(batch).await;
        (writer, written)
    });
    let copying = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE query LIKE 'COPY%' AND wait_event_type = 'Lock'";
    eventually(async || !database.texts(copying).await.is_empty()).await;
    let (writer, written) = writing.await.unwrap();
    let error = written.unwrap_err();
    assert!(error.to_string().contains(r#"rows for "public"."people""#), "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
    drop(blocker);
    drop(writer);
    assert_eq!(found(&database).await, ["1 Ann"]);
    load(&target, &table, &[(2, "Bo")]).await;
    assert_eq!(found(&database).await, ["2 Bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_died_is_replaced() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = table("people", Disposition::Append);
    load(&target, &table, &[(1, "Ann")]).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'weir' AND datname = current_database()";
    assert!(!database.texts(end).await.is_empty());
    eventually(async || database.texts(end).await.is_empty()).await;
    // The ends of the connections are on their way to the driver.
    tokio::time::sleep(Duration::from_millis(100)).await;
    load(&target, &table, &[(2, "Bo")]).await;
    assert_eq!(found(&database).await, ["1 Ann", "2 Bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_learns_who_writes_the_table() {
    let database = Database::new().await;
    let first = Postgres::new(PostgresOptions {
        application_name: "nightly".to_owned(),
        ..database.options()
    });
    let second = Postgres::new(database.options());
    let table = table("people", Disposition::Append);
    let writer = first.open(&table, None).await.unwrap().unwrap();
    let pid = database.text(LOCKS).await;
    let error = second.open(&table, None).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(r#"another run is writing table "public"."people""#), "{text}");
    assert!(text.contains(&format!("process {pid} (`nightly`")) && text.contains("UTC"), "{text}");
    let twice = first.open(&table, None).await.err().unwrap();
    assert!(twice.to_string().contains("two streams of this run write table"), "{twice:?}");
    writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
    load(&second, &table, &[(1, "Ann")]).await;
    load(&first, &table, &[(2, "Bo")]).await;
    assert_eq!(found(&database).await, ["1 Ann", "2 Bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lost_its_lock_does_not_commit() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    let table = table("people", Disposition::Replace);
    load(&target, &table, &[(1, "Ann")]).await;
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(2, "Bo")])).await.unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM ({LOCKS}) AS locks");
    assert_eq!(database.texts(&end).await.len(), 1);
    eventually(async || database.texts(LOCKS).await.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap_err();
    assert!(error.to_string().contains("the lock on table"), "{error:?}");
    assert_eq!(found(&database).await, ["1 Ann"]);
    load(&target, &table, &[(3, "Cy")]).await;
    assert_eq!(found(&database).await, ["3 Cy"]);
}

/// Whoever reads while the table is replaced sees all of the old rows or all of the new.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_old_rows_or_the_new() {
    for disposition in [Disposition::Replace, Disposition::Truncate] {
        let database = Database::new().await;
        let target = Postgres::new(database.options());
        let table = table("people", disposition);
        load(&target, &table, &[(1, "Ann"), (2, "Bo")]).await;
        let reader = database.client().await;
        let reading = async {
            let mut seen = 0;
            for _ in 0..400 {
                let row = reader.query_one("SELECT count(*) FROM people", &[]).await.unwrap();
                assert_eq!(row.get::<_, i64>(0), 2, "{disposition:?}");
                seen += 1;
            }
            seen
        };
        let writing = async {
            for _ in 0..10 {
                load(&target, &table, &[(3, "Cy"), (4, "Di")]).await;
            }
        };
        assert_eq!(tokio::join!(reading, writing).0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_few_connections() {
    let database = Database::new().await;
    let target = Postgres::new(PostgresOptions { connections: 2, ..database.options() });
    let tables: Vec<_> =
        (0..10).map(|number| table(format!("t{number}"), Disposition::Replace)).collect();
    let loads = tables.iter().map(async |table| {
        let mut writer = target.open(table, None).await.unwrap().unwrap();
        for _ in 0..6 {
            writer.write(wide(table, 0..1000)).await.unwrap();
        }
        writer.commit(&crate::support::target_contract::SOME, &[]).await.unwrap();
    });
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir' \
                    AND datname = current_database()";
    let watching = async {
        let mut most = 0;
        for _ in 0..20 {
            most = most.max(database.text(sessions).await.parse::<u32>().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most
    };
    let (_, most) = tokio::join!(futures_util::future::join_all(loads), watching);
    assert!((1..=3).contains(&most), "two that load and one for locks, not {most}");
}
