//! The state of replications: a table that is written in the same transactions as the rows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use tokio_postgres::{Client, GenericClient, Transaction, error::SqlState};

use crate::error::{Error, Kind, Result};
use crate::state::{Change, Entries, Holder, Lock, Store};
use crate::write::postgres::failure;
use crate::write::postgres::name;
use crate::write::postgres::session::pool::ConnectionPool;
use crate::write::postgres::sql::schemas;
use crate::write::postgres::state::location::StateTable;

/// Name of the view that shows how fresh each stream is.
const STREAMS: &str = "_weir_streams";
/// Comment of the view, which identifies its version.
const ABOUT_STREAMS: &str = "weir: when each stream was last read, and what came of it (1)";
/// Key of the holder of the lock, which is not part of the state.
const HOLDER: &str = "_holder";
/// Value of an entry that is not JSON.
const ALTERED: &str = "altered by hand";
/// Number of waits for a lock that a session may still hold after its client has ended.
const LOCK_RETRIES: u32 = 20;
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Makes an open transaction durable: its commit waits for the disk, and so does everything that was committed before
/// without waiting. The transaction must change something, or its commit does not wait.
pub(crate) async fn make_durable(transaction: &Transaction<'_>) -> Result<()> {
    let set = transaction.batch_execute("SET LOCAL synchronous_commit TO DEFAULT").await;
    set.map_err(|error| failure::statement("the state cannot be saved", &error))
}

/// Saves changes in an open transaction.
pub(crate) async fn apply<C: GenericClient + Sync>(
    client: &C,
    location: &StateTable,
    changes: &[Change],
) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    // A key may occur twice: the last change counts.
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
    let (table, replication) = (&location.table, &location.replication);
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
    pub(crate) pool: Arc<ConnectionPool>,
    pub(crate) location: StateTable,
}

struct PostgresLock {
    /// The session that holds the lock.
    client: Arc<Client>,
}

impl Lock for PostgresLock {
    fn is_held(&self) -> bool {
        !self.client.is_closed()
    }
}

impl PostgresStore {
    async fn create(&self, client: &Client) -> Result<()> {
        schemas::ensure_schema(client, &self.location.table).await?;
        let name = self.location.table.to_string();
        let found = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&name]).await;
        let failed =
            |error| failure::statement(format!("table {name} cannot be looked up"), &error);
        if found.map_err(failed)?.get(0) {
            return Ok(());
        }
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {} (replication text NOT NULL, key text NOT NULL, \
             value text NOT NULL, saved_at timestamptz NOT NULL, PRIMARY KEY (replication, key))",
            self.location.table
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

    /// Creates the view of the streams, unless this version of it exists. Logs a warning when the database refuses.
    async fn create_view(&self, client: &Client) -> Result<()> {
        let (table, view) = (&self.location.table, self.location.table.sibling(STREAMS));
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
            let error = failure::definition("it cannot be created", &statement, &error);
            tracing::warn!("there is no view {view}: {}", error.chain());
        }
        Ok(())
    }

    async fn read(&self, client: &Client) -> Result<BTreeMap<String, String>> {
        let statement =
            format!("SELECT key, value FROM {} WHERE replication = $1", self.location.table);
        match client.query(&statement, &[&self.location.replication]).await {
            Ok(rows) => Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect()),
            Err(error) if failure::is(&error, &SqlState::UNDEFINED_TABLE) => Ok(BTreeMap::new()),
            Err(error) => Err(failure::statement("the state cannot be read", &error)),
        }
    }

    async fn holder(&self, client: &Client) -> String {
        let entries = self.read(client).await.unwrap_or_default();
        let holder = entries.get(HOLDER).and_then(|text| serde_json::from_str::<Holder>(text).ok());
        holder.map_or_else(|| "an unknown process".to_owned(), |holder| holder.to_string())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        let client = self.pool.connect_to_lock().await?;
        self.create(&client).await?;
        let failed = |error| failure::statement("the replication cannot be locked", &error);
        for attempt in 0.. {
            let row = client
                .query_one("SELECT pg_try_advisory_lock($1)", &[&self.location.lock_key()])
                .await;
            if row.map_err(failed)?.get(0) {
                break;
            }
            if attempt == LOCK_RETRIES {
                let (name, holder) = (&self.location.replication, self.holder(&client).await);
                let what = format!("another run of `{name}` is in progress: {holder}");
                return Err(Error::new(Kind::Busy, what).with_hint(
                    "wait until it has ended, for example with `weir sync run --wait 90s`, or stop it",
                ));
            }
            tokio::time::sleep(LOCK_RETRY_PAUSE).await;
        }
        self.create_view(&client).await?;
        let value = serde_json::to_value(holder).expect("a holder of texts and numbers is JSON");
        apply(&*client, &self.location, &[Change::set(HOLDER, value)]).await?;
        Ok(Box::new(PostgresLock { client }))
    }

    async fn load(&self) -> Result<Entries> {
        let pooled = self.pool.get().await?;
        let entries = self.read(&pooled).await?;
        pooled.give_back();
        let mut read = Entries::new();
        for (key, text) in entries.into_iter().filter(|(key, _)| key != HOLDER) {
            // An entry that a user has altered is no state: the reader refuses it or discards it.
            let value = serde_json::from_str(&text);
            read.insert(key, value.unwrap_or_else(|_| Value::from(ALTERED)));
        }
        Ok(read)
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        let mut pooled = self.pool.get().await?;
        let failed = |error| failure::statement("the state cannot be saved", &error);
        let transaction = pooled.transaction().await.map_err(failed)?;
        make_durable(&transaction).await?;
        apply(&transaction, &self.location, changes).await?;
        transaction.commit().await.map_err(failed)?;
        pooled.give_back();
        Ok(())
    }
}

/// Refuses a replication whose name the state cannot have.
pub(crate) fn check(replication: &str) -> Result<()> {
    name::check("replication", replication)
}
