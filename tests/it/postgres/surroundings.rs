//! Databases as people run them: poolers, time limits on idle sessions, publications, forbidden DDL.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use weir::{
    error::Kind,
    state::{Holder, Lock},
    write::{
        Disposition, Target,
        postgres::{Postgres, PostgresOptions},
    },
};

use super::interruptions::eventually;
use crate::support::{
    postgres::Database,
    target_contract::{SOME, load, names, people, table},
};

/// A pooler in front of a database; it ends with this.
struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    async fn start(database: &Database, mode: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let options = database.options();
        let (server, name) = (&options.servers[0], &database.name);
        let password = options.password.as_ref().unwrap().expose();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("users"), format!("\"{}\" \"{password}\"\n", options.user)).unwrap();
        let settings = format!(
            "[databases]\n{name} = host={} port={} dbname={name}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = plain\nauth_file = {}\npool_mode = {mode}\nlogfile = {}\n",
            server.host,
            server.port,
            path("users"),
            path("log"),
        );
        fs::write(path("pgbouncer.ini"), settings).unwrap();
        // It refuses to run as root.
        let shared = Command::new("chmod").args(["-R", "a+rwX", &path("")]).status().unwrap();
        assert!(shared.success());
        let script = r#"PATH="$PATH:/usr/sbin"; if [ "$(id -u)" = 0 ]; then
            exec setpriv --reuid=postgres --regid=postgres --init-groups pgbouncer -q "$1"
            fi; exec pgbouncer -q "$1""#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "weir", &path("pgbouncer.ini")]).stdin(Stdio::null());
        let process = command.spawn().expect("apt-get install pgbouncer");
        let reached = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        eventually(reached).await;
        Self { process, port, _folder: folder }
    }

    fn options(&self, database: &Database) -> PostgresOptions {
        let mut options = database.options();
        "127.0.0.1".clone_into(&mut options.servers[0].host);
        options.servers[0].port = self.port;
        options
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_sessions_is_told_before_anything_else() {
    let database = Database::local().await;
    for mode in ["transaction", "statement"] {
        let pooler = Pooler::start(&database, mode).await;
        for _ in 0..3 {
            let target = Postgres::new(pooler.options(&database));
            let error = target.check().await.unwrap_err();
            assert_eq!(error.kind(), Kind::Input, "{mode}: {error:?}");
            assert!(error.to_string().contains("shares sessions"), "{mode}: {error:?}");
            assert!(error.hint().unwrap().contains("pool_mode=session"), "{mode}: {error:?}");
            let store = target.store("nightly").unwrap();
            assert!(store.lock(&Holder::here("r")).await.is_err(), "{mode}");
        }
        // Nothing was made, and no lock is left behind.
        let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(database.text(left).await, "0");
        let made = "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_weir%'";
        assert_eq!(database.text(made).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_keeps_sessions_is_worked_through() {
    let database = Database::local().await;
    let pooler = Pooler::start(&database, "session").await;
    let target = Postgres::new(pooler.options(&database));
    target.check().await.unwrap();
    for (disposition, name) in [(Disposition::Replace, "Ann"), (Disposition::Merge, "Bo")] {
        load(&target, &table("people", disposition), &[(1, name)]).await;
    }
    let table = table("people", Disposition::Merge);
    assert_eq!(names(&database.rows("people", &table.schema).await.unwrap()), ["1 Bo"]);
}

/// A database that ends idle sessions leaves those alone that hold a lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_outlasts_the_time_that_sessions_may_be_idle() {
    let database = Database::new().await;
    let limit = format!("ALTER DATABASE {} SET idle_session_timeout = '1500ms'", database.name);
    database.execute(&limit).await;
    let target = Postgres::new(database.options());
    let store = target.store("nightly").unwrap();
    let lock: Box<dyn Lock> = store.lock(&Holder::here("r")).await.unwrap();
    let table = table("people", Disposition::Replace);
    let mut writer = target.open(&table, None).await.unwrap().unwrap();
    writer.write(people(&table, &[(1, "Ann")])).await.unwrap();
    // Three sessions in turn, begun later, that say nothing and are ended for it.
    for _ in 0..3 {
        let idle = database.client().await;
        eventually(async || idle.is_closed()).await;
    }
    assert!(lock.is_held());
    writer.checkpoint(&[]).await.unwrap();
    assert_eq!(writer.commit(&SOME, &[]).await.unwrap().rows, 1);
    store.save(&[]).await.unwrap();
}

/// Where all tables are published, staged rows can be taken back, and tables without a key emptied.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_published_can_be_written() {
    let database = Database::new().await;
    database.execute("CREATE PUBLICATION everything FOR ALL TABLES").await;
    let target = Postgres::new(database.options());
    for disposition in [Disposition::Replace, Disposition::Merge, Disposition::Truncate] {
        let table = table("people", disposition);
        let mut writer = target.open(&table, None).await.unwrap().unwrap();
        writer.write(people(&table, &[(1, "Ann")])).await.unwrap();
        writer.checkpoint(&[]).await.unwrap();
        writer.write(people(&table, &[(2, "Lost")])).await.unwrap();
        drop(writer);
        let mut writer = target.open(&table, Some(1)).await.unwrap().unwrap();
        writer.write(people(&table, &[(3, "Cy"), (3, "Cyd")])).await.unwrap();
        writer.commit(&SOME, &[]).await.unwrap();
        let rows = database.rows("people", &table.schema).await.unwrap();
        assert_eq!(names(&rows), ["1 Ann", "3 Cyd"], "{disposition:?}");
        let identity = "SELECT relreplident::text FROM pg_class WHERE relname = 'people'";
        assert_eq!(database.text(identity).await, "d");
    }
    let mut keyless = table("keyless", Disposition::Truncate);
    keyless.schema.key.clear();
    load(&target, &keyless, &[(1, "Ann")]).await;
    load(&target, &keyless, &[(2, "Bo")]).await;
    assert_eq!(names(&database.rows("keyless", &keyless.schema).await.unwrap()), ["2 Bo"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_the_database_forbids_is_named_with_the_way_out() {
    let database = Database::new().await;
    let target = Postgres::new(database.options());
    load(&target, &table("people", Disposition::Merge), &[(1, "Ann")]).await;
    let forbid = |condition: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ \
             BEGIN {condition} RAISE EXCEPTION 'no changes of the schema by day'; END $$"
        )
    };
    database
        .execute(&format!(
            "{}; CREATE EVENT TRIGGER forbid ON ddl_command_end EXECUTE FUNCTION forbid()",
            forbid("")
        ))
        .await;
    let next = Postgres::new(database.options());
    let error = next.open(&table("people", Disposition::Merge), None).await.err().unwrap();
    assert!(error.chain().contains("`CREATE TABLE \"_weir\".\"staging\""), "{error:?}");
    assert!(error.chain().contains("no changes of the schema by day"), "{error:?}");
    assert!(error.hint().unwrap().contains("schema `_weir`"), "{error:?}");
    // The way that the hint names.
    let own = "IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() \
               WHERE schema_name IS DISTINCT FROM '_weir') THEN RETURN; END IF;";
    database.execute("ALTER EVENT TRIGGER forbid DISABLE").await;
    database.execute(&forbid(own)).await;
    database.execute("ALTER EVENT TRIGGER forbid ENABLE").await;
    for disposition in [Disposition::Merge, Disposition::Truncate] {
        load(&next, &table("people", disposition), &[(2, "Bo")]).await;
    }
    let store = next.store("nightly").unwrap();
    let error = store.lock(&Holder::here("r")).await.err().unwrap();
    assert!(error.chain().contains("`CREATE TABLE IF NOT EXISTS"), "{error:?}");
    let error = next.open(&table("new", Disposition::Replace), None).await.unwrap().unwrap();
    let error = error.commit(&SOME, &[]).await.err().unwrap();
    assert!(error.chain().contains("`ALTER TABLE \"_weir\".\"staging\" SET SCHEMA"), "{error:?}");
}
