//! The target: a database, its pool of connections, and what it does for each table.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio_postgres::Client;

use crate::error::{Error, Kind, Result};
use crate::report::Event;
use crate::state::Store;
use crate::write::leftovers::Leftovers;
use crate::write::owner::Standing;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::{Stage, lost_lock};
use crate::write::postgres::name::{self, TableName, WEIR_SCHEMA};
use crate::write::postgres::options::fields::PostgresOptions;
use crate::write::postgres::publish::statement::ambiguous;
use crate::write::postgres::publish::{columns, replace};
use crate::write::postgres::session::lock_wait::Waiter;
use crate::write::postgres::session::pool::{Lease, Pool};
use crate::write::postgres::session::table_lock::Locks;
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::postgres::sql::{schemas, weir_schema};
use crate::write::postgres::state::location::{self, Home};
use crate::write::postgres::state::owner;
use crate::write::postgres::state::store::{self, PostgresStore};
use crate::write::postgres::writer::{PostgresWriter, Surroundings};
use crate::write::table::{Disposition, Table};
use crate::write::target::{SAMPLE, Target, Watch, Writer};

/// Longest wait for a lock by which a table is looked at.
const LOOK: &str = "5s";

/// A Postgres database. Connects when first used; may be shared by any number of writers.
///
/// The `object` of a table is `schema.table`, or `table` in the options' schema.
///
/// What Postgres cannot hold is replaced by the nearest that it can, counted and reported as a
/// warning of the log: NUL characters in text, NUL characters and lone surrogates in JSON become
/// U+FFFD; JSON numbers beyond `numeric` and JSON nested more than 1,000 deep become JSON strings of
/// their text; dates and timestamps out of range become `infinity` or `-infinity`.
pub struct Postgres {
    options: PostgresOptions,
    pool: Arc<Pool>,
    locks: Arc<Locks>,
    /// Bytes of memory of all batches that wait for their COPY.
    waiting: Arc<AtomicUsize>,
    /// Who is told what is waited for.
    watch: Mutex<Watch>,
    /// Whether it was said that staging tables stand in the schemas of their tables.
    told: AtomicBool,
}

impl Postgres {
    /// A target; does not connect yet.
    pub fn new(options: PostgresOptions) -> Self {
        let pool = Arc::new(Pool::new(options.clone()));
        Self {
            options,
            pool,
            locks: Arc::default(),
            waiting: Arc::default(),
            watch: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }
}

impl Postgres {
    fn home(&self, replication: &str) -> Result<Home> {
        Ok(Home::new(&location::state_schema(&self.options)?, replication))
    }

    fn watch(&self) -> Watch {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Schema for the staging of a table: weir's own, or that of the table, with a note, where this role
    /// may not use weir's own.
    async fn staging_schema<'name>(
        &self,
        client: &Client,
        name: &'name TableName,
    ) -> Result<&'name str> {
        if let Some(own) = weir_schema::usable(client).await? {
            return Ok(own);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            let (own, user) = (WEIR_SCHEMA, name::quoted(&self.options.user));
            let message = format!(
                "staging tables stand in the schemas of their tables: user {user} may not use a \
                 schema `{own}` (as the database's owner: CREATE SCHEMA IF NOT EXISTS {own}; GRANT \
                 USAGE, CREATE ON SCHEMA {own} TO {user})"
            );
            self.watch().reporter.report(&Event::Warning { stream: None, message });
        }
        Ok(&name.schema)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Postgres").field(&self.options).finish()
    }
}

impl Postgres {
    /// A connection for a look at a table, which waits for no lock longer than [`LOOK`].
    async fn look(&self, table: &Table) -> Result<(Lease, TableName)> {
        self.options.validate()?;
        let name = TableName::parse(&table.object, &self.options.schema)?;
        let lease = self.pool.lease().await?;
        let failed = |error| failure::statement(format!("{name} cannot be looked at"), &error);
        lease.batch_execute(&format!("SET lock_timeout = '{LOOK}'")).await.map_err(failed)?;
        Ok((lease, name))
    }
}

/// Gives the connection of a look back as it was.
async fn looked(lease: Lease) -> Result<()> {
    let failed = |error| failure::statement("a connection cannot be reset", &error);
    lease.batch_execute("RESET lock_timeout").await.map_err(failed)?;
    lease.give_back();
    Ok(())
}

/// Says of a look that got no lock what stands in its way.
fn unlocked<T>(looked: Result<T>, name: &TableName) -> Result<T> {
    looked.map_err(|error| {
        if !failure::is_locked_out(&error) {
            return error;
        }
        let what = format!("table {name} is locked by another session, so weir cannot look at it");
        Error::new(Kind::Busy, what).with_hint(
            "wait for that session, or end it (`SELECT * FROM pg_locks` shows it); then run again",
        )
    })
}

#[async_trait]
impl Target for Postgres {
    fn accepts(&self, table: &Table) -> Result<()> {
        self.options.validate()?;
        Stage::plan(table, &self.options.schema).map(|_| ())
    }

    fn beside(&self, object: &str) -> Result<String> {
        Ok(TableName::parse(object, &self.options.schema)?.beside(SAMPLE).to_string())
    }

    async fn check(&self) -> Result<()> {
        let lease = self.pool.lease().await?;
        let row = lease
            .query_one(
                "SELECT current_setting('transaction_read_only') = 'on', \
                     has_database_privilege(current_database(), 'CREATE') \
                     OR EXISTS (SELECT FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' \
                         AND has_schema_privilege(oid, 'CREATE'))",
                &[],
            )
            .await
            .map_err(|error| failure::statement("the database cannot be checked", &error))?;
        let (only_reads, may_create): (bool, bool) = (row.get(0), row.get(1));
        lease.give_back();
        let place = self.options.place();
        if only_reads {
            return Err(Error::target(format!("the server at `{place}` only reads"))
                .with_hint("it may be a standby: connect to the primary"));
        }
        if !may_create {
            let (user, schema) = (&self.options.user, self.home("")?.schema());
            return Err(Error::target(format!(
                "user `{user}` may not create tables in any schema"
            ))
            .with_hint(format!(
                "as the database's owner: CREATE SCHEMA IF NOT EXISTS {schema}; \
                 GRANT USAGE, CREATE ON SCHEMA {schema} TO {}",
                name::quoted(user)
            )));
        }
        Ok(())
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        self.options.validate()?;
        let mut stage = Stage::plan(table, &self.options.schema)?;
        let lock = self.locks.take(&self.pool, &stage.name).await?;
        let lease = self.pool.lease().await?;
        schemas::ensure_schema(&lease, &stage.name).await?;
        let existing = catalog::inspect(&*lease, &stage.name).await?;
        match &existing {
            Some(existing) => check_fit(&lease, &stage, existing).await?,
            None => schemas::may_create(&lease, &stage.name).await?,
        }
        stage = stage.in_schema(self.staging_schema(&lease, &stage.name).await?);
        stage.records = owner::place(&lease, &stage.name).await?;
        stage.lasting = existing.is_none() || stage.disposition == Disposition::Replace;
        match staged {
            Some(rows) if !stage.go_on(&lease, rows).await? => {
                lease.give_back();
                lock.release().await;
                return Ok(None);
            }
            Some(_) => {}
            None => stage.create(&lease).await?,
        }
        lease.give_back();
        let around = Surroundings {
            pool: Arc::clone(&self.pool),
            waiting: Arc::clone(&self.waiting),
            watch: self.watch(),
            home: self.home(&table.replication)?,
        };
        let rows = staged.unwrap_or_default();
        Ok(Some(Box::new(PostgresWriter::new(stage, lock, around, rows))))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        self.options.validate()?;
        let mut stage = Stage::plan(table, &self.options.schema)?;
        // A table that is there gains columns, and nothing else.
        (stage.lasting, stage.disposition) = (true, Disposition::Append);
        let lock = self.locks.take(&self.pool, &stage.name).await?;
        let mut lease = self.pool.lease().await?;
        schemas::ensure_schema(&lease, &stage.name).await?;
        stage = stage.in_schema(self.staging_schema(&lease, &stage.name).await?);
        let failed =
            |error| failure::statement(format!("table {} cannot be defined", stage.name), &error);
        let transaction = lease.transaction().await.map_err(failed)?;
        if let Some(existing) = catalog::inspect(&transaction, &stage.name).await? {
            transaction.rollback().await.map_err(failed)?;
            existing.check(&stage.name, &stage.schema)?;
            let waiter = Waiter {
                observer: lock.session().ok_or_else(|| lost_lock(&stage.name))?,
                longest: self.options.lock_wait,
                watch: self.watch(),
                stream: &stage.stream,
                table: &stage.name,
            };
            columns::adapt_first(&mut lease, &stage, waiter).await?;
        } else {
            replace::define(&transaction, &stage).await?;
            transaction.commit().await.map_err(failed)?;
        }
        lease.give_back();
        lock.release().await;
        Ok(stage.name.to_string())
    }

    async fn check_table(&self, table: &Table) -> Result<()> {
        if table.disposition != Disposition::Append {
            return Ok(());
        }
        self.options.validate()?;
        let name = TableName::parse(&table.object, &self.options.schema)?;
        let lease = self.pool.lease().await?;
        let existing = catalog::inspect(&*lease, &name).await?;
        lease.give_back();
        existing.map_or(Ok(()), |existing| existing.check_repeats(&name, &table.schema.key))
    }

    async fn lacks(&self, table: &Table) -> Result<Option<String>> {
        let (lease, name) = self.look(table).await?;
        let existing = unlocked(catalog::inspect(&*lease, &name).await, &name)?;
        looked(lease).await?;
        let Some(existing) = existing else { return Ok(Some(format!("table {name} is gone"))) };
        let lost = existing.lost(&table.schema);
        Ok(lost.map(|column| format!("column `{column}` of table {name} is gone")))
    }

    async fn standing(&self, table: &Table) -> Result<Option<Standing>> {
        let (lease, name) = self.look(table).await?;
        let standing = owner::standing(&lease, &name, table.disposition).await;
        let standing = unlocked(standing, &name)?;
        looked(lease).await?;
        Ok(standing)
    }

    async fn tidy(&self, leftovers: &Leftovers) -> Result<()> {
        let mut lease = self.pool.lease().await?;
        weir_schema::tidy(&mut lease, leftovers).await?;
        lease.give_back();
        Ok(())
    }

    fn attend(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        let (lease, name) = self.look(table).await?;
        let count = unlocked(catalog::count(&*lease, &name).await, &name)?;
        looked(lease).await?;
        Ok(count)
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn Store>> {
        self.options.validate()?;
        store::check(replication)?;
        let home = self.home(replication)?;
        Ok(Arc::new(PostgresStore { pool: Arc::clone(&self.pool), home }))
    }
}

/// Says before any row moves what would be wrong at commit.
async fn check_fit(client: &Client, stage: &Stage, existing: &Existing) -> Result<()> {
    if stage.disposition == Disposition::Replace && existing.is_plain(&stage.key) {
        return Ok(());
    }
    existing.check(&stage.name, &stage.schema)?;
    let merges = stage.disposition == Disposition::Merge;
    if !merges || existing.is_unique(&stage.key) || !existing.has_all(&stage.key) {
        return Ok(());
    }
    let (name, key) = (&stage.name, stage.key_columns());
    let twins = format!("SELECT FROM {name} GROUP BY {key} HAVING count(*) > 1 LIMIT 1");
    let twins = client.query_opt(&twins, &[]).await;
    match twins
        .map_err(|error| failure::statement(format!("table {name} cannot be read"), &error))?
    {
        Some(_) => Err(ambiguous(stage)),
        None => Ok(()),
    }
}
