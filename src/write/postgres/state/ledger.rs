//! The ledger of points in a database: a row per connection, updated only if no other process has changed it.

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use tokio::sync::Mutex;
use tokio_postgres::{Client, Statement};

use crate::error::{Error, Result};
use crate::quota::account::LedgerQuery;
use crate::quota::account::{Account, Balance, LedgerReply, LedgerUpdate};
use crate::quota::ledger::Ledger;
use crate::write::postgres::failure;
use crate::write::postgres::name::TableName;
use crate::write::postgres::name::WEIR_SCHEMA;
use crate::write::postgres::options::fields::PostgresOptions;
use crate::write::postgres::session::pool::ConnectionPool;
use crate::write::postgres::sql::{schemas, weir_schema};
use crate::write::postgres::state::location;

/// Name of the table. Stored in databases: it must not change.
const TABLE: &str = "_weir_ledger";
/// Finds the schema of the table: weir's own, or that of the first writable table with this name in the database.
const FIND: &str = "SELECT nspname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
    WHERE relname = $1 AND relkind = 'r' AND has_schema_privilege(n.oid, 'USAGE') \
    AND has_table_privilege(pg_class.oid, 'SELECT') \
    AND has_table_privilege(pg_class.oid, 'INSERT') \
    AND has_table_privilege(pg_class.oid, 'UPDATE') ORDER BY nspname <> $2, pg_class.oid LIMIT 1";
/// Most attempts to change a row that other processes change at the same time.
const MAX_ATTEMPTS: u32 = 1000;

/// A ledger in weir's own schema, shared by all processes that write into the database. When the role may not use that
/// schema, the ledger is in the schema of the state.
pub struct PostgresLedger {
    options: PostgresOptions,
    pool: ConnectionPool,
    /// A connection of its own, because those of the pool may be busy with rows.
    link: Mutex<Option<Link>>,
}

struct Link {
    client: Client,
    read: Statement,
    add: Statement,
    change: Statement,
    /// Connection and account of the row that was last written; mostly, no other process has changed it since.
    known: Option<(String, String)>,
}

impl PostgresLedger {
    /// A ledger; does not connect yet.
    pub fn new(options: PostgresOptions) -> Self {
        Self { pool: ConnectionPool::new(options.clone()), options, link: Mutex::default() }
    }

    async fn connect(&self) -> Result<Link> {
        let mut client = self.pool.connect().await?;
        let wanted = match weir_schema::usable(&client).await? {
            Some(own) => own.to_owned(),
            None => location::state_schema(&self.options)?,
        };
        let wanted = TableName { schema: wanted, table: TABLE.to_owned() };
        schemas::ensure_schema(&client, &wanted).await?;
        let table = find_or_create(&mut client, wanted.clone()).await.map_err(|error| {
            failure::statement(format!("table {wanted} cannot be used"), &error)
        })?;
        let failed = |error| failure::statement(format!("table {table} cannot be used"), &error);
        let read = format!("SELECT account FROM {table} WHERE connection = $1");
        let add = format!(
            "INSERT INTO {table} (connection, account, changed_at) VALUES ($1, $2, now()) \
             ON CONFLICT DO NOTHING"
        );
        let change = format!(
            "UPDATE {table} SET account = $2, changed_at = now() \
             WHERE connection = $1 AND account = $3"
        );
        let read = client.prepare(&read).await.map_err(failed)?;
        let add = client.prepare(&add).await.map_err(failed)?;
        let change = client.prepare(&change).await.map_err(failed)?;
        Ok(Link { client, read, add, change, known: None })
    }
}

/// The table of the ledger. When it is not in weir's own schema, it is the oldest writable one in the database, so that
/// replications into several schemas share it. Accounts that an earlier version kept in another schema are copied.
async fn find_or_create(
    client: &mut Client,
    wanted: TableName,
) -> Result<TableName, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // Other processes that find none at the same time wait here, and then find this one.
    let everywhere = TableName { schema: String::new(), table: TABLE.to_owned() };
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&everywhere.lock_key()]).await?;
    let found = transaction.query_opt(FIND, &[&TABLE, &WEIR_SCHEMA]).await?;
    let found = found.map(|row| TableName { schema: row.get(0), ..wanted.clone() });
    let table = match found {
        Some(found) if found == wanted || wanted.schema != WEIR_SCHEMA => found,
        old => {
            let create = format!(
                "CREATE TABLE {wanted} (connection text PRIMARY KEY, account text NOT NULL, \
                     changed_at timestamptz NOT NULL)"
            );
            transaction.batch_execute(&create).await?;
            if let Some(old) = old {
                transaction.batch_execute(&format!("INSERT INTO {wanted} TABLE {old}")).await?;
            }
            wanted
        }
    };
    transaction.commit().await?;
    Ok(table)
}

impl Link {
    /// Changes the account; `None` when another process has changed it meanwhile.
    async fn change<T>(
        &mut self,
        connection: &str,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<Option<T>, tokio_postgres::Error> {
        let known = self.known.take().filter(|(name, _)| name == connection);
        let old = match known {
            Some((_, text)) => Some(text),
            None => self
                .client
                .query_opt(&self.read, &[&connection])
                .await?
                .map(|row| row.get::<_, String>(0)),
        };
        // A damaged account counts as a new one: the server still limits what can be spent.
        let account = old.as_deref().map(serde_json::from_str::<Account>);
        let mut account = account.and_then(Result::ok).unwrap_or_default();
        let done = change(&mut account);
        let new = serde_json::to_string(&account).expect("an account is JSON");
        let changed = match &old {
            Some(old) => self.client.execute(&self.change, &[&connection, &new, old]).await?,
            None => self.client.execute(&self.add, &[&connection, &new]).await?,
        };
        if changed == 0 {
            return Ok(None);
        }
        self.known = Some((connection.to_owned(), new));
        Ok(Some(done))
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn exchange(&self, connection: &str, update: &LedgerUpdate) -> Result<LedgerReply> {
        let mut place = self.link.lock().await;
        // A cancelled visit leaves no connection with an open statement behind.
        let mut link = match place.take().filter(|link| !link.client.is_closed()) {
            Some(link) => link,
            None => self.connect().await?,
        };
        let mut may_reconnect = true;
        for _ in 0..MAX_ATTEMPTS {
            match link.change(connection, |account| account.exchange(update)).await {
                Ok(Some(standing)) => {
                    *place = Some(link);
                    return Ok(standing);
                }
                // Another process has changed the account meanwhile.
                Ok(None) => {}
                // The server was restarted, or the table was dropped.
                Err(_) if may_reconnect => {
                    may_reconnect = false;
                    link = self.connect().await?;
                }
                Err(error) => {
                    return Err(failure::statement("the ledger cannot be written", &error));
                }
            }
        }
        Err(Error::target("other processes keep changing the ledger"))
    }

    async fn peek(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let client = self.pool.connect().await?;
        let failed = |error| failure::statement("the ledger cannot be read", &error);
        let Some(row) = client.query_opt(FIND, &[&TABLE, &WEIR_SCHEMA]).await.map_err(failed)?
        else {
            return Ok(None);
        };
        let table = TableName { schema: row.get(0), table: TABLE.to_owned() };
        let read = format!("SELECT account FROM {table} WHERE connection = $1");
        let Some(row) = client.query_opt(&read, &[&connection]).await.map_err(failed)? else {
            return Ok(None);
        };
        let account: Account = serde_json::from_str(row.get(0)).map_err(|error| {
            Error::target(format!("table {table} contains a damaged account")).because(error)
        })?;
        Ok(Some(account.peek(at)))
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let at = LedgerQuery { window: TimeDelta::hours(1), now: Utc::now() };
        if self.peek(connection, at).await?.is_none() {
            return Ok(false);
        }
        let failed = |error| failure::statement("the ledger cannot be changed", &error);
        let mut link = self.connect().await?;
        for _ in 0..MAX_ATTEMPTS {
            if link.change(connection, Account::lift).await.map_err(failed)?.is_some() {
                return Ok(true);
            }
        }
        Err(Error::target("other processes keep changing the ledger"))
    }

    fn place(&self, connection: &str) -> String {
        let database = &self.options.database;
        format!("row `{connection}` of table {TABLE} in database {database}")
    }
}
