//! The ledger of points in a database: a row per connection, changed only as it was read.

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Statement, error::SqlState};

use super::{failure, name::TableName, options::PostgresOptions, pool::Pool};
use crate::error::{Error, Result};
use crate::ledger::{Account, Ledger, Standing, Visit};

/// Name of the table.
const TABLE: &str = "_weir_ledger";
/// Times that a change is tried again because somebody else was faster.
const TRIES: u32 = 1000;

/// The ledger beside the state of replications, for all processes that write into the database.
pub struct PostgresLedger {
    options: PostgresOptions,
    pool: Pool,
    /// A connection of its own, since those of the pool may be busy with rows.
    link: Mutex<Option<Link>>,
}

struct Link {
    client: Client,
    read: Statement,
    add: Statement,
    change: Statement,
    /// The row as it was last seen: mostly, nobody has changed it since.
    known: Option<(String, String)>,
}

impl PostgresLedger {
    /// A ledger in the schema of the state; does not connect yet.
    pub fn new(options: PostgresOptions) -> Self {
        Self { pool: Pool::new(options.clone()), options, link: Mutex::default() }
    }

    async fn connect(&self) -> Result<Link> {
        let schema = super::state_schema(&self.options)?;
        let table = TableName { schema, table: TABLE.to_owned() };
        let client = self.pool.connect().await?;
        super::ensure_schema(&client, &table).await?;
        let failed = |error| failure::statement(format!("table {table} cannot be used"), &error);
        let name = table.to_string();
        let missing = client.query_one("SELECT to_regclass($1) IS NULL", &[&name]).await;
        if missing.map_err(failed)?.get(0) {
            let statement = format!(
                "CREATE TABLE IF NOT EXISTS {table} (connection text PRIMARY KEY, \
                 account text NOT NULL, changed_at timestamptz NOT NULL)"
            );
            match client.batch_execute(&statement).await {
                // Another run has just created it.
                Err(error) if failure::is(&error, &SqlState::UNIQUE_VIOLATION) => {}
                created => created.map_err(failed)?,
            }
        }
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

impl Link {
    async fn visit(
        &mut self,
        connection: &str,
        visit: &Visit,
    ) -> Result<Option<Standing>, tokio_postgres::Error> {
        let known = self.known.take().filter(|(name, _)| name == connection);
        let old = match known {
            Some((_, text)) => Some(text),
            None => self
                .client
                .query_opt(&self.read, &[&connection])
                .await?
                .map(|row| row.get::<_, String>(0)),
        };
        // What cannot be read is as good as nothing: the server's word is still there.
        let account = old.as_deref().map(serde_json::from_str::<Account>);
        let mut account = account.and_then(Result::ok).unwrap_or_default();
        let standing = account.visit(visit);
        let new = serde_json::to_string(&account).unwrap_or_default();
        let changed = match &old {
            Some(old) => self.client.execute(&self.change, &[&connection, &new, old]).await?,
            None => self.client.execute(&self.add, &[&connection, &new]).await?,
        };
        if changed == 0 {
            return Ok(None);
        }
        self.known = Some((connection.to_owned(), new));
        Ok(Some(standing))
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    async fn visit(&self, connection: &str, visit: &Visit) -> Result<Standing> {
        let mut place = self.link.lock().await;
        let link = match place.take().filter(|link| !link.client.is_closed()) {
            Some(link) => link,
            None => self.connect().await?,
        };
        // A visit that is given up in the midst of it leaves no connection behind.
        let mut link = link;
        for _ in 0..TRIES {
            let visited = link.visit(connection, visit).await;
            let visited =
                visited.map_err(|error| failure::statement("the ledger cannot be kept", &error))?;
            if let Some(standing) = visited {
                *place = Some(link);
                return Ok(standing);
            }
        }
        Err(Error::target("the ledger is changed all the time by somebody else"))
    }
}
