//! The writer of one table: batches wait, are copied into staging, and are published at commit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;

use super::{
    failure,
    lock::TableLock,
    pool::Pool,
    publish,
    stage::{Stage, lost_lock},
};
use crate::error::{Error, Result};
use crate::write::{Committed, Writer};

/// Bytes of memory of one table's batches that make a COPY worth its while.
const ENOUGH: usize = 4 << 20;
/// Bytes of memory of all tables' batches from which every table copies what it has.
const PLENTY: usize = 32 << 20;

/// Writes one table. Dropped, it removes its staging table and its lock, and leaves the rest as is.
pub(super) struct PostgresWriter {
    /// Both are there until the writer is done.
    open: Option<(Arc<Stage>, TableLock)>,
    pool: Arc<Pool>,
    pending: Pending,
    /// Rows copied, and values replaced on the way.
    rows: u64,
    replaced: u64,
}

impl PostgresWriter {
    pub(super) fn new(
        stage: Stage,
        lock: TableLock,
        pool: Arc<Pool>,
        waiting: Arc<AtomicUsize>,
    ) -> Self {
        let pending = Pending { batches: Vec::new(), bytes: 0, waiting };
        Self { open: Some((Arc::new(stage), lock)), pool, pending, rows: 0, replaced: 0 }
    }

    async fn flush(&mut self) -> Result<()> {
        let batches = self.pending.take();
        if batches.is_empty() {
            return Ok(());
        }
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let stage = self.stage()?;
        let first = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let lease = self.pool.lease().await?;
        self.replaced += stage.copy(&lease, batches, first).await?;
        lease.give_back();
        self.rows += rows as u64;
        Ok(())
    }

    fn stage(&self) -> Result<Arc<Stage>> {
        let stage = self.open.as_ref().map(|(stage, _)| Arc::clone(stage));
        stage.ok_or_else(|| Error::target("the writer is closed"))
    }

    /// Publishes the stage; how many rows gave way to later ones with their key.
    async fn publish(&mut self, stage: &Stage) -> Result<u64> {
        let name = &stage.name;
        let mut lease = self.pool.lease().await?;
        if !self.open.as_ref().is_some_and(|(_, lock)| lock.is_held()) {
            return Err(lost_lock(name));
        }
        let failed = |error| failure::statement(format!("table {name} cannot be written"), &error);
        let transaction = lease.transaction().await.map_err(failed)?;
        let gone = publish::publish(&transaction, stage).await?;
        transaction.commit().await.map_err(|error| {
            let what = format!("whether the new rows of table {name} were committed is not known");
            failure::statement(what, &error)
        })?;
        lease.give_back();
        Ok(gone)
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = crate::write::unstaged(&batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.pending.push(batch);
        if self.pending.is_enough() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn forget(&mut self, _: i64) -> Result<()> {
        Ok(())
    }

    fn staged(&self) -> u64 {
        self.rows
    }

    async fn checkpoint(&mut self, _: &[crate::state::Change]) -> Result<()> {
        Ok(())
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn commit(
        mut self: Box<Self>,
        _: &crate::write::Ending,
        _: &[crate::state::Change],
    ) -> Result<Committed> {
        self.flush().await?;
        let stage = self.stage()?;
        let gone = self.publish(&stage).await?;
        if let Some((_, lock)) = self.open.take() {
            lock.release().await;
        }
        let (object, replaced) = (stage.name.to_string(), self.replaced);
        if replaced > 0 {
            tracing::warn!(
                table = object,
                replaced,
                "values that Postgres cannot hold were replaced"
            );
        }
        Ok(Committed { object, rows: self.rows.saturating_sub(gone), deleted: 0 })
    }
}

impl Drop for PostgresWriter {
    fn drop(&mut self) {
        let Some((stage, mut lock)) = self.open.take() else { return };
        lock.leave();
        // Without a runtime the process is ending: the server frees the lock, the next run the rest.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let pool = Arc::clone(&self.pool);
        runtime.spawn(async move {
            if let Ok(lease) = pool.lease().await {
                stage.discard(&lease).await;
                lease.give_back();
            }
            lock.release().await;
        });
    }
}

/// Batches that wait for their COPY, counted among those of all tables.
struct Pending {
    batches: Vec<RecordBatch>,
    bytes: usize,
    waiting: Arc<AtomicUsize>,
}

impl Pending {
    fn push(&mut self, batch: RecordBatch) {
        let bytes = batch.get_array_memory_size();
        self.batches.push(batch);
        self.bytes += bytes;
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.bytes >= ENOUGH || self.waiting.load(Ordering::Relaxed) >= PLENTY
    }

    fn take(&mut self) -> Vec<RecordBatch> {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
        std::mem::take(&mut self.batches)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.take();
    }
}
