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
use crate::write::owner::ExistingTable;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::{StagingTable, lost_lock};
use crate::write::postgres::name::{self, TableName, WEIR_SCHEMA};
use crate::write::postgres::options::fields::PostgresOptions;
use crate::write::postgres::publish::statement::ambiguous;
use crate::write::postgres::publish::{columns, replace};
use crate::write::postgres::session::lock_wait::WaitContext;
use crate::write::postgres::session::pool::{ConnectionPool, PooledClient};
use crate::write::postgres::session::table_lock::Locks;
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::postgres::sql::{schemas, weir_schema};
use crate::write::postgres::state::location::{self, StateTable};
use crate::write::postgres::state::owner;
use crate::write::postgres::state::store::{self, PostgresStore};
use crate::write::postgres::writer::{PostgresWriter, WriterContext};
use crate::write::table::{Disposition, Table};
use crate::write::target::{SAMPLE, Target, Watch, Writer};

/// Longest wait for a lock while a table is inspected.
const INSPECTION_LOCK_TIMEOUT: &str = "5s";

/// A Postgres database. Connects at the first use; any number of writers may share it.
///
/// The `object` of a table is `schema.table`, or `table` in the options' schema.
///
/// The target replaces values that Postgres cannot hold by the nearest possible ones, counts them and reports
/// them as a warning in the log: NUL characters in text, and NUL characters and lone surrogates in JSON, become
/// U+FFFD; JSON numbers beyond `numeric` and JSON nested more than 1,000 deep become JSON strings of their text;
/// dates and timestamps out of range become `infinity` or `-infinity`.
pub struct Postgres {
    options: PostgresOptions,
    pool: Arc<ConnectionPool>,
    locks: Arc<Locks>,
    /// Bytes of memory of all batches that wait for a COPY.
    waiting: Arc<AtomicUsize>,
    /// Where waits are reported, and what ends them.
    watch: Mutex<Watch>,
    /// Whether the log has a warning that staging tables are in the schemas of their tables.
    warned: AtomicBool,
}

impl Postgres {
    /// A target; does not connect yet.
    pub fn new(options: PostgresOptions) -> Self {
        let pool = Arc::new(ConnectionPool::new(options.clone()));
        Self {
            options,
            pool,
            locks: Arc::default(),
            waiting: Arc::default(),
            watch: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }
}

impl Postgres {
    fn state_location(&self, replication: &str) -> Result<StateTable> {
        Ok(StateTable::new(&location::state_schema(&self.options)?, replication))
    }

    fn watch(&self) -> Watch {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Schema for the staging table of a table: weir's schema. Where this role may not use that one, the schema of
    /// the table, with a warning.
    async fn staging_schema<'name>(
        &self,
        client: &Client,
        name: &'name TableName,
    ) -> Result<&'name str> {
        if let Some(own) = weir_schema::usable(client).await? {
            return Ok(own);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            let (own, user) = (WEIR_SCHEMA, name::quoted(&self.options.user));
            let message = format!(
                "staging tables are in the schemas of their tables: user {user} may not use a \
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
    /// A connection that inspects a table, and waits for a lock no longer than [`INSPECTION_LOCK_TIMEOUT`].
    async fn begin_inspection(&self, table: &Table) -> Result<(PooledClient, TableName)> {
        self.options.validate()?;
        let name = TableName::parse(&table.object, &self.options.schema)?;
        let pooled = self.pool.get().await?;
        let failed = |error| failure::statement(format!("{name} cannot be inspected"), &error);
        pooled
            .batch_execute(&format!("SET lock_timeout = '{INSPECTION_LOCK_TIMEOUT}'"))
            .await
            .map_err(failed)?;
        Ok((pooled, name))
    }
}

/// Resets the connection of an inspection, and gives it back.
async fn end_inspection(pooled: PooledClient) -> Result<()> {
    let failed = |error| failure::statement("a connection cannot be reset", &error);
    pooled.batch_execute("RESET lock_timeout").await.map_err(failed)?;
    pooled.give_back();
    Ok(())
}

/// Explains the error of an inspection that got no lock on the table.
fn explained<T>(inspected: Result<T>, name: &TableName) -> Result<T> {
    inspected.map_err(|error| {
        if !failure::is_locked_out(&error) {
            return error;
        }
        let what = format!("table {name} is locked by another session, so weir cannot inspect it");
        Error::new(Kind::Busy, what).with_hint(
            "wait for that session, or end it (`SELECT * FROM pg_locks` shows it); then run again",
        )
    })
}

#[async_trait]
impl Target for Postgres {
    fn accepts(&self, table: &Table) -> Result<()> {
        self.options.validate()?;
        StagingTable::plan(table, &self.options.schema).map(|_| ())
    }

    fn sample_object(&self, object: &str) -> Result<String> {
        Ok(TableName::parse(object, &self.options.schema)?.beside(SAMPLE).to_string())
    }

    async fn check(&self) -> Result<()> {
        let pooled = self.pool.get().await?;
        let row = pooled
            .query_one(
                "SELECT current_setting('transaction_read_only') = 'on', \
                     has_database_privilege(current_database(), 'CREATE') \
                     OR EXISTS (SELECT FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' \
                         AND has_schema_privilege(oid, 'CREATE'))",
                &[],
            )
            .await
            .map_err(|error| failure::statement("cannot check the database", &error))?;
        let (only_reads, may_create): (bool, bool) = (row.get(0), row.get(1));
        pooled.give_back();
        let place = self.options.shown();
        if only_reads {
            return Err(Error::target(format!("the server at `{place}` is read-only"))
                .with_hint("it may be a standby: connect to the primary"));
        }
        if !may_create {
            let (user, schema) = (&self.options.user, self.state_location("")?.schema());
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
        let mut stage = StagingTable::plan(table, &self.options.schema)?;
        let lock = self.locks.take(&self.pool, &stage.target).await?;
        let pooled = self.pool.get().await?;
        schemas::ensure_schema(&pooled, &stage.target).await?;
        let existing = catalog::inspect(&*pooled, &stage.target).await?;
        match &existing {
            Some(existing) => check_fit(&pooled, &stage, existing).await?,
            None => schemas::may_create(&pooled, &stage.target).await?,
        }
        stage = stage.in_schema(self.staging_schema(&pooled, &stage.target).await?);
        stage.records = owner::record_table(&pooled, &stage.target).await?;
        stage.becomes_table = existing.is_none() || stage.disposition == Disposition::Replace;
        match staged {
            Some(rows) if !stage.resume(&pooled, rows).await? => {
                pooled.give_back();
                lock.release().await;
                return Ok(None);
            }
            Some(_) => {}
            None => stage.create(&pooled).await?,
        }
        pooled.give_back();
        let context = WriterContext {
            pool: Arc::clone(&self.pool),
            waiting: Arc::clone(&self.waiting),
            watch: self.watch(),
            location: self.state_location(&table.replication)?,
        };
        let rows = staged.unwrap_or_default();
        Ok(Some(Box::new(PostgresWriter::new(stage, lock, context, rows))))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        self.options.validate()?;
        let mut stage = StagingTable::plan(table, &self.options.schema)?;
        // An existing table gains columns, and nothing else.
        (stage.becomes_table, stage.disposition) = (true, Disposition::Append);
        let lock = self.locks.take(&self.pool, &stage.target).await?;
        let mut pooled = self.pool.get().await?;
        schemas::ensure_schema(&pooled, &stage.target).await?;
        stage = stage.in_schema(self.staging_schema(&pooled, &stage.target).await?);
        let failed =
            |error| failure::statement(format!("table {} cannot be defined", stage.target), &error);
        let transaction = pooled.transaction().await.map_err(failed)?;
        if let Some(existing) = catalog::inspect(&transaction, &stage.target).await? {
            transaction.rollback().await.map_err(failed)?;
            existing.check(&stage.target, &stage.schema)?;
            let waiter = WaitContext {
                observer: lock.session().ok_or_else(|| lost_lock(&stage.target))?,
                longest: self.options.lock_wait,
                watch: self.watch(),
                stream: &stage.stream,
                table: &stage.target,
            };
            columns::add_missing_columns_first(&mut pooled, &stage, waiter).await?;
        } else {
            replace::define(&transaction, &stage).await?;
            transaction.commit().await.map_err(failed)?;
        }
        pooled.give_back();
        lock.release().await;
        Ok(stage.target.to_string())
    }

    async fn check_table(&self, table: &Table) -> Result<()> {
        if table.disposition != Disposition::Append {
            return Ok(());
        }
        self.options.validate()?;
        let name = TableName::parse(&table.object, &self.options.schema)?;
        let pooled = self.pool.get().await?;
        let existing = catalog::inspect(&*pooled, &name).await?;
        pooled.give_back();
        existing.map_or(Ok(()), |existing| existing.check_no_duplicates(&name, &table.schema.key))
    }

    async fn missing_part(&self, table: &Table) -> Result<Option<String>> {
        let (pooled, name) = self.begin_inspection(table).await?;
        let existing = explained(catalog::inspect(&*pooled, &name).await, &name)?;
        end_inspection(pooled).await?;
        let Some(existing) = existing else {
            return Ok(Some(format!("table {name} no longer exists")));
        };
        let lost = existing.missing_column(&table.schema);
        Ok(lost.map(|column| format!("column `{column}` of table {name} no longer exists")))
    }

    async fn existing(&self, table: &Table) -> Result<Option<ExistingTable>> {
        let (pooled, name) = self.begin_inspection(table).await?;
        let existing = owner::existing(&pooled, &name, table.disposition).await;
        let existing = explained(existing, &name)?;
        end_inspection(pooled).await?;
        Ok(existing)
    }

    async fn tidy(&self, leftovers: &Leftovers) -> Result<()> {
        let mut pooled = self.pool.get().await?;
        weir_schema::tidy(&mut pooled, leftovers).await?;
        pooled.give_back();
        Ok(())
    }

    fn set_watch(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        let (pooled, name) = self.begin_inspection(table).await?;
        let count = explained(catalog::count(&*pooled, &name).await, &name)?;
        end_inspection(pooled).await?;
        Ok(count)
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn Store>> {
        self.options.validate()?;
        store::check(replication)?;
        let location = self.state_location(replication)?;
        Ok(Arc::new(PostgresStore { pool: Arc::clone(&self.pool), location }))
    }
}

/// Refuses an existing table whose commit would fail, before any row is staged.
async fn check_fit(client: &Client, stage: &StagingTable, existing: &Existing) -> Result<()> {
    if stage.disposition == Disposition::Replace && existing.is_plain(&stage.key) {
        return Ok(());
    }
    existing.check(&stage.target, &stage.schema)?;
    let merges = stage.disposition == Disposition::Merge;
    if !merges || existing.is_unique(&stage.key) || !existing.has_all(&stage.key) {
        return Ok(());
    }
    let (name, key) = (&stage.target, stage.key_columns());
    let duplicates = format!("SELECT FROM {name} GROUP BY {key} HAVING count(*) > 1 LIMIT 1");
    let duplicates = client.query_opt(&duplicates, &[]).await;
    match duplicates
        .map_err(|error| failure::statement(format!("table {name} cannot be read"), &error))?
    {
        Some(_) => Err(ambiguous(stage)),
        None => Ok(()),
    }
}
