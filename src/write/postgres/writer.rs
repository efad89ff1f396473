//! The writer of one table: copies batches into a staging table, and publishes them at commit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::error::Result;
use crate::report::{Notice, NoticeKind, add_notice};
use crate::state::Change;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::{StagingTable, lost_lock};
use crate::write::postgres::publish::commit::Published;
use crate::write::postgres::publish::duplicate_keys::DuplicateReport;
use crate::write::postgres::publish::merge;
use crate::write::postgres::publish::{columns, commit};
use crate::write::postgres::session::lock_wait::{LockWaits, WaitContext, Waited};
use crate::write::postgres::session::pool::{ConnectionPool, PooledClient};
use crate::write::postgres::session::table_lock::TableLock;
use crate::write::postgres::state::location::StateTable;
use crate::write::postgres::state::owner;
use crate::write::postgres::state::store;
use crate::write::target::{CommitInfo, Committed, Watch, Writer};

/// Bytes of memory of one table's batches that are enough for a COPY.
const COPY_BYTES: usize = 4 << 20;
/// Bytes of memory of all tables' batches from which on every table copies what it has.
const MAX_WAITING_BYTES: usize = 32 << 20;

/// Why a writer has its staging table and its lock.
const OPEN: &str = "only commit and discard, which consume the writer, take them";

/// Writes one table. When it is dropped, it releases its lock and leaves the staging table to the next run.
pub(crate) struct PostgresWriter {
    /// The staging table and the lock on the table; `None` once the writer is done.
    open: Option<(Arc<StagingTable>, TableLock)>,
    pool: Arc<ConnectionPool>,
    watch: Watch,
    pending: PendingBatches,
    /// Where the state of the replication is kept.
    location: StateTable,
    /// Number of rows that were copied.
    rows: u64,
    /// Numbers of replaced values by column, not yet reported.
    replaced: Vec<(String, u64)>,
}

/// What a writer shares with other writers, and where its state is kept.
pub(crate) struct WriterContext {
    pub(crate) pool: Arc<ConnectionPool>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) watch: Watch,
    pub(crate) location: StateTable,
}

impl PostgresWriter {
    /// A writer whose staging table has this number of rows already.
    pub(crate) fn new(
        stage: StagingTable,
        lock: TableLock,
        context: WriterContext,
        rows: u64,
    ) -> Self {
        let WriterContext { pool, waiting, watch, location } = context;
        let pending = PendingBatches { batches: Vec::new(), bytes: 0, waiting };
        Self {
            open: Some((Arc::new(stage), lock)),
            pool,
            watch,
            pending,
            location,
            rows,
            replaced: Vec::new(),
        }
    }

    async fn flush(&mut self) -> Result<()> {
        let batches = self.pending.take();
        if batches.is_empty() {
            return Ok(());
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let stage = self.stage();
        let first = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let pooled = self.client().await?;
        let replaced = stage.copy(&pooled, batches, first).await?;
        pooled.give_back();
        self.replaced.extend(replaced);
        self.rows += rows as u64;
        Ok(())
    }

    fn stage(&self) -> Arc<StagingTable> {
        Arc::clone(&self.open.as_ref().expect(OPEN).0)
    }

    /// A connection from the pool.
    ///
    /// # Errors
    /// The lock on the table was lost.
    async fn client(&self) -> Result<PooledClient> {
        let pooled = self.pool.get().await?;
        let (stage, lock) = self.open.as_ref().expect(OPEN);
        if lock.is_held() { Ok(pooled) } else { Err(lost_lock(&stage.target)) }
    }

    /// Publishes the staged rows and saves the state, in one transaction.
    async fn publish(
        &mut self,
        stage: &StagingTable,
        info: &CommitInfo,
        state: &[Change],
    ) -> Result<(Published, Vec<Notice>)> {
        let name = &stage.target;
        let lock = self.open.as_ref().and_then(|(_, lock)| lock.session());
        let waiter = WaitContext {
            observer: lock.ok_or_else(|| lost_lock(name))?,
            longest: self.pool.lock_wait(),
            watch: self.watch.clone(),
            stream: &stage.stream,
            table: name,
        };
        let mut pooled = self.client().await?;
        let adapting =
            columns::add_missing_columns_first(&mut pooled, stage, waiter.clone()).await?;
        let failed = |error| failure::statement(format!("table {name} cannot be written"), &error);
        let transaction = pooled.transaction().await.map_err(failed)?;
        let mut waits = LockWaits::begin(&transaction, waiter).await?;
        let published = commit::publish(&transaction, stage, info, &mut waits).await?;
        let waited = waits.waited();
        drop(waits);
        owner::save(&transaction, stage).await?;
        store::apply(&transaction, &self.location, state).await?;
        transaction.commit().await.map_err(|error| {
            let what = format!("it is unknown whether the new rows of table {name} were committed");
            failure::statement(what, &error)
        })?;
        pooled.give_back();
        let mut notices = Vec::new();
        for Waited { seconds, holders } in adapting.into_iter().chain(waited) {
            let kind = NoticeKind::TableInUse;
            let detail = format!("{name} was used by {holders}");
            add_notice(&mut notices, Notice { kind, count: seconds.max(1), detail });
        }
        Ok((published, notices))
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.pending.push(batch);
        if self.pending.is_enough() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn replaced(&mut self) -> Result<Vec<(String, u64)>> {
        self.flush().await?;
        Ok(std::mem::take(&mut self.replaced))
    }

    fn staged(&self) -> u64 {
        self.rows + self.pending.rows() as u64
    }

    async fn checkpoint(&mut self, state: &[Change]) -> Result<()> {
        self.flush().await?;
        let mut pooled = self.client().await?;
        let failed = |error| failure::statement("the state cannot be saved", &error);
        let transaction = pooled.transaction().await.map_err(failed)?;
        store::make_durable(&transaction).await?;
        if state.is_empty() {
            self.stage().touch(&transaction).await?;
        }
        store::apply(&transaction, &self.location, state).await?;
        transaction.commit().await.map_err(failed)?;
        pooled.give_back();
        Ok(())
    }

    async fn missing(&mut self, info: &CommitInfo, most: usize) -> Result<Option<Vec<String>>> {
        self.flush().await?;
        let stage = self.stage();
        let pooled = self.client().await?;
        let missing = merge::missing(&pooled, &stage, &info.discarded_slices, most).await?;
        pooled.give_back();
        Ok(missing)
    }

    async fn commit(mut self: Box<Self>, info: &CommitInfo, state: &[Change]) -> Result<Committed> {
        self.flush().await?;
        let stage = self.stage();
        let (published, mut notices) = self.publish(&stage, info, state).await?;
        let Published { rows, deleted, duplicates } = published;
        let (_, lock) = self.open.take().expect(OPEN);
        lock.release().await;
        let object = stage.target.to_string();
        let DuplicateReport { repeated, notices: of_keys } = duplicates;
        for notice in of_keys {
            add_notice(&mut notices, notice);
        }
        Ok(Committed { object, rows, deleted, repeated, notices })
    }

    async fn discard(mut self: Box<Self>) -> Result<()> {
        let (stage, lock) = self.open.take().expect(OPEN);
        let pooled = self.pool.get().await?;
        stage.discard(&pooled).await;
        pooled.give_back();
        lock.release().await;
        Ok(())
    }
}

impl Drop for PostgresWriter {
    fn drop(&mut self) {
        if let Some((_, mut lock)) = self.open.take() {
            lock.leave();
        }
    }
}

/// Batches that wait for a COPY; their memory is counted among that of all tables.
struct PendingBatches {
    batches: Vec<RecordBatch>,
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl PendingBatches {
    fn push(&mut self, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size();
        self.batches.push(batch);
        self.bytes += bytes;
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn is_enough(&self) -> bool {
        self.bytes >= COPY_BYTES || self.waiting.load(Ordering::Relaxed) >= MAX_WAITING_BYTES
    }

    fn take(&mut self) -> Vec<RecordBatch> {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        std::mem::take(&mut self.batches)
    }
}

impl Drop for PendingBatches {
    fn drop(&mut self) {
        self.take();
    }
}
