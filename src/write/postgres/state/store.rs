//! The state of replications: a table beside those it is about, saved in the same transactions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio_postgres::{Client, GenericClient, Transaction, error::SqlState};

use crate::error::{Error, Kind, Result};
use crate::state::{Change, Entries, Holder, Lock, Store};
use crate::write::postgres::failure;
use crate::write::postgres::name;
use crate::write::postgres::session::pool::Pool;
use crate::write::postgres::sql::schemas;
use crate::write::postgres::state::location::Home;

/// Name of the view that says how fresh each stream is.
const STREAMS: &str = "_weir_streams";
/// Its comment, which tells versions of it apart.
const ABOUT_STREAMS: &str = "weir: when each stream was last read, and what came of it (1)";
/// Key under which the holder of the lock stands; no part of the state.
const HOLDER: &str = "_holder";
/// Stands for an entry that is no JSON.
const ALTERED: &str = "altered by hand";
/// Waits for a lock that a session which has just ended may still have.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(100);

/// Lets an open transaction outlive the server: its commit waits for the disk, and with it for all that
/// was committed before without waiting. It must change something, or it waits for nothing.
pub(crate) async fn let_last(transaction: &Transaction<'_>) -> Result<()> {
    let lasts = transaction.batch_execute("SET LOCAL synchronous_commit TO DEFAULT").await;
    lasts.map_err(|error| failure::statement("the state cannot be saved", &error))
}

/// Saves changes in an open transaction.
pub(crate) async fn apply<C: GenericClient + Sync>(
    client: &C,
    home: &Home,
    changes: &[Change],
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    // A key may be named twice: the last one counts.
    let last: BTreeMap<&str, &Option<Value>> =
        changes.iter().map(|change| (change.key.as_str(), &change.value)).collect();
    let (mut keys, mut values, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
    for (key, value) in last {
        match value {
            Some(value) => {
                keys.push(key);
                values.push(value.to_string());
            }
            None => forgotten.push(key),
        }
    }
    let failed = |error| failure::statement("the state cannot be saved", &error);
    let (table, replication) = (&home.table, &home.replication);
    if !forgotten.is_empty() {
        let statement = format!("DELETE FROM {table} WHERE replication = $1 AND key = ANY($2)");
        client.execute(&statement, &[replication, &forgotten]).await.map_err(failed)?;
    }
    if !keys.is_empty() {
        let statement = format!(
            "INSERT INTO {table} AS old (replication, key, value, saved_at) \
             SELECT $1, key, value, now() FROM unnest($2::text[], $3::text[]) AS new (key, value) \
             ON CONFLICT (replication, key) DO UPDATE SET (value, saved_at) = \
             ROW(EXCLUDED.value, EXCLUDED.saved_at)"
        );
        client.execute(&statement, &[replication, &keys, &values]).await.map_err(failed)?;
    }
    Ok(())
}

/// The state of one replication.
pub(crate) struct PostgresStore {
    pub(crate) pool: Arc<Pool>,
    pub(crate) home: Home,
}

struct PostgresLock {
    /// The lock is the session's.
    client: Arc<Client>,
}

impl Lock for PostgresLock {
    fn is_held(&self) -> bool {
        !self.client.is_closed()
    }
}

impl PostgresStore {
    async fn create(&self, client: &Client) -> Result<()> {
        schemas::ensure_schema(client, &self.home.table).await?;
        let name = self.home.table.to_string();
        let found = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await;
        let failed =
            |error| failure::statement(format!("table {name} cannot be looked up"), &error);
        if found.map_err(failed)?.get(0) {
            return Ok(());
        }
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {} (replication text NOT NULL, key text NOT NULL, \
             value text NOT NULL, saved_at timestamptz NOT NULL, PRIMARY KEY (replication, key))",
            self.home.table
        );
        match client.batch_execute(&statement).await {
            // Another run has just created it.
            Err(error) if failure::is(&error, &SqlState::UNIQUE_VIOLATION) => {}
            created => created.map_err(|error| {
                failure::definition(format!("table {name} cannot be created"), &statement, &error)
            })?,
        }
        Ok(())
    }

    /// Makes the view of the streams, unless this version of it is there. A database that does not let it be
    /// made goes without.
    async fn show_streams(&self, client: &Client) -> Result<()> {
        let (table, view) = (&self.home.table, self.home.table.sibling(STREAMS));
        let failed = |error| failure::statement(format!("view {view} cannot be looked up"), &error);
        let about = "SELECT obj_description(to_regclass($1), 'pg_class') IS NOT DISTINCT FROM $2";
        let known = client.query_one(about, &[&view.to_string(), &ABOUT_STREAMS]).await;
        if known.map_err(failed)?.get(0) {
            return Ok(());
        }
        let about = name::literal(ABOUT_STREAMS);
        let statement = format!(
            "DROP VIEW IF EXISTS {view}; CREATE VIEW {view} AS SELECT replication, \
                 substr(key, length('stream/') + 1) AS stream, \
                 state #>> '{{succeeded,report,object}}' AS object, \
                 (state #>> '{{succeeded,at}}')::timestamptz AS last_success, \
                 (state ->> 'complete_at')::timestamptz AS complete_reading, \
                 (state #>> '{{succeeded,report,rows}}')::bigint AS rows, \
                 coalesce(json_array_length(state -> 'failed'), 0) AS refused, \
                 state #>> '{{succeeded,run_id}}' AS run_id \
             FROM (SELECT replication, key, value::json AS state FROM {table} \
                 WHERE key LIKE 'stream/%') AS streams; COMMENT ON VIEW {view} IS {about}"
        );
        if let Err(error) = client.batch_execute(&statement).await {
            let error = failure::definition("it is not made", &statement, &error);
            tracing::warn!("there is no view {view}: {}", error.chain());
        }
        Ok(())
    }

    async fn read(&self, client: &Client) -> Result<BTreeMap<String, String>> {
        let statement =
            format!("SELECT key, value FROM {} WHERE replication = $1", self.home.table);
        match client.query(&statement, &[&self.home.replication]).await {
            Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect()),
            Err(error) if failure::is(&error, &SqlState::UNDEFINED_TABLE) => Ok(BTreeMap::new()),
            Err(error) => Err(failure::statement("the state cannot be read", &error)),
        }
    }

    async fn holder(&self, client: &Client) -> String {
        let entries = self.read(client).await.unwrap_or_default();
        let holder = entries.get(HOLDER).and_then(|text| serde_json::from_str::<Holder>(text).ok());
        holder.map_or_else(|| "somebody unknown".to_owned(), |holder| holder.to_string())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        let client = self.pool.connect_to_lock().await?;
        self.create(&client).await?;
        let failed = |error| failure::statement("the replication cannot be locked", &error);
        for attempt in 0.. {
            let row =
                client.query_one("SELECT pg_try_advisory_lock($1)", &[&self.home.lock_key()]).await;
            if row.map_err(failed)?.get(0) {
                break;
            }
            if attempt == WAITS {
                let (name, holder) = (&self.home.replication, self.holder(&client).await);
                let what = format!("another run of `{name}` is going on: {holder}");
                return Err(Error::new(Kind::Busy, what).with_hint(
                    "wait until it is done (`weir sync run --wait 90s` does), or end it",
                ));
            }
            tokio::time::sleep(WAIT).await;
        }
        self.show_streams(&client).await?;
        let value = serde_json::to_value(holder).unwrap_or_default();
        apply(&*client, &self.home, &[Change::set(HOLDER, value)]).await?;
        Ok(Box::new(PostgresLock { client }))
    }

    async fn load(&self) -> Result<Entries> {
        let lease = self.pool.lease().await?;
        let entries = self.read(&lease).await?;
        lease.give_back();
        let mut read = Entries::new();
        for (key, text) in entries.into_iter().filter(|(key, _)| key != HOLDER) {
            // What somebody has altered by hand is no state: whoever reads it refuses or forgets it.
            let value = serde_json::from_str(&text);
            read.insert(key, value.unwrap_or_else(|_| Value::from(ALTERED)));
        }
        Ok(read)
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        let mut lease = self.pool.lease().await?;
        let failed = |error| failure::statement("the state cannot be saved", &error);
        let transaction = lease.transaction().await.map_err(failed)?;
        let_last(&transaction).await?;
        apply(&transaction, &self.home, changes).await?;
        transaction.commit().await.map_err(failed)?;
        lease.give_back();
        Ok(())
    }
}

/// Checks that the state of a replication can be kept under its name.
pub(crate) fn check(replication: &str) -> Result<()> {
    name::check("replication", replication)
}
