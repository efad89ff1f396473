//! At most one run per table: advisory locks on a connection of their own.
//!
//! The locks belong to the session, so they end with the process, however it ends.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Mutex as AsyncMutex;
use tokio_postgres::Client;

use crate::error::{Error, Kind, Result};
use crate::write::postgres::failure;
use crate::write::postgres::name::TableName;
use crate::write::postgres::session::pool::ConnectionPool;

/// The session that holds a lock; `pg_locks` shows the key as two halves.
const HOLDER: &str = "SELECT a.pid, coalesce(nullif(a.application_name, ''), 'unnamed'), \
        coalesce(host(a.client_addr), 'the server itself'), \
        to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') \
    FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted \
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
        AND l.classid::bigint = ($1::bigint >> 32) & 4294967295 \
        AND l.objid::bigint = $1::bigint & 4294967295";

/// The locks of one target.
#[derive(Default)]
pub(crate) struct Locks {
    connection: AsyncMutex<Option<Arc<Client>>>,
    /// The tables that this process has locked: the server lets a session take the same lock twice.
    held: Mutex<HashSet<TableName>>,
}

impl Locks {
    /// Locks a table.
    ///
    /// # Errors
    /// Another run has locked it; the message names the session.
    pub(crate) async fn take(
        self: &Arc<Self>,
        pool: &ConnectionPool,
        name: &TableName,
    ) -> Result<TableLock> {
        if !self.held().insert(name.clone()) {
            return Err(Error::input(format!("two streams of this run write table {name}"))
                .with_hint("give the two streams different objects"));
        }
        // From here on, dropping the lock frees the name again.
        let mut lock = TableLock {
            client: None,
            entry: Some((Arc::clone(self), name.clone())),
            key: name.lock_key(),
        };
        let client = self.client(pool).await?;
        let failed = |error| failure::statement(format!("table {name} cannot be locked"), &error);
        let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&lock.key]).await;
        if !row.map_err(failed)?.get::<_, bool>(0) {
            return Err(taken(&client, name).await);
        }
        lock.client = Some(client);
        Ok(lock)
    }

    async fn client(&self, pool: &ConnectionPool) -> Result<Arc<Client>> {
        let mut connection = self.connection.lock().await;
        if let Some(client) = connection.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let client = pool.connect_to_lock().await?;
        *connection = Some(Arc::clone(&client));
        Ok(client)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashSet<TableName>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn taken(client: &Client, name: &TableName) -> Error {
    let holder = client.query_opt(HOLDER, &[&name.lock_key()]).await.ok().flatten();
    let holder = holder.map_or_else(
        || "a session that has just ended".to_owned(),
        |row| {
            let (pid, application): (i32, &str) = (row.get(0), row.get(1));
            let (client, since): (&str, &str) = (row.get(2), row.get(3));
            format!("process {pid} (`{application}` from {client}, since {since} UTC)")
        },
    );
    Error::new(Kind::Busy, format!("another run is writing table {name}: {holder}")).with_hint(
        "wait until it is done; if it hangs, end it with `SELECT pg_terminate_backend(…)`",
    )
}

/// The lock on one table; released when dropped.
pub(crate) struct TableLock {
    client: Option<Arc<Client>>,
    entry: Option<(Arc<Locks>, TableName)>,
    key: i64,
}

impl TableLock {
    /// Whether the session that holds the lock is alive.
    pub(crate) fn is_held(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// The session that holds the lock, for queries; `None` once the lock is released.
    pub(crate) fn session(&self) -> Option<&Client> {
        self.client.as_deref()
    }

    /// Lets this process take the lock again at once. The server's lock is released later.
    pub(crate) fn leave(&mut self) {
        if let Some((locks, name)) = self.entry.take() {
            locks.held().remove(&name);
        }
    }

    /// Releases the lock and waits for the server.
    pub(crate) async fn release(mut self) {
        self.leave();
        if let Some(client) = self.client.take() {
            // A session that has ended has no lock any more.
            client.execute("SELECT pg_advisory_unlock($1)", &[&self.key]).await.ok();
        }
    }
}

impl Drop for TableLock {
    fn drop(&mut self) {
        self.leave();
        let runtime = tokio::runtime::Handle::try_current().ok();
        if let (Some(client), Some(runtime)) = (self.client.take(), runtime) {
            let key = self.key;
            runtime.spawn(async move {
                client.execute("SELECT pg_advisory_unlock($1)", &[&key]).await.ok();
            });
        }
    }
}
