//! The writer of one table: batches wait, are copied into staging, and are published at commit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::report::{Notice, NoticeKind, add_notice};
use crate::state::Change;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::{Stage, lost_lock};
use crate::write::postgres::publish::commit::Published;
use crate::write::postgres::publish::duplicate_keys::Told;
use crate::write::postgres::publish::merge;
use crate::write::postgres::publish::{columns, commit};
use crate::write::postgres::session::lock_wait::{Waiter, Waits};
use crate::write::postgres::session::pool::{Lease, Pool};
use crate::write::postgres::session::table_lock::TableLock;
use crate::write::postgres::state::location::Home;
use crate::write::postgres::state::owner;
use crate::write::postgres::state::store;
use crate::write::target::{Committed, Ending, Watch, Writer};

/// Bytes of memory of one table's batches that make a COPY worth its while.
const ENOUGH: usize = 4 << 20;
/// Bytes of memory of all tables' batches from which every table copies what it has.
const PLENTY: usize = 32 << 20;

/// Writes one table. Dropped, it gives its lock up, and leaves its staging table to the next run.
pub(crate) struct PostgresWriter {
    /// Both are there until the writer is done.
    open: Option<(Arc<Stage>, TableLock)>,
    pool: Arc<Pool>,
    watch: Watch,
    pending: Pending,
    /// Where the state is kept.
    home: Home,
    /// Rows copied.
    rows: u64,
    /// Per column the values that were replaced on the way and not told of.
    replaced: Vec<(String, u64)>,
}

/// What a writer shares with others, and where its state is kept.
pub(crate) struct Surroundings {
    pub(crate) pool: Arc<Pool>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) watch: Watch,
    pub(crate) home: Home,
}

impl PostgresWriter {
    /// A writer; its stage has so many rows already.
    pub(crate) fn new(stage: Stage, lock: TableLock, around: Surroundings, rows: u64) -> Self {
        let Surroundings { pool, waiting, watch, home } = around;
        let pending = Pending { batches: Vec::new(), bytes: 0, waiting };
        Self {
            open: Some((Arc::new(stage), lock)),
            pool,
            watch,
            pending,
            home,
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
        let stage = self.stage()?;
        let first = i64::try_from(self.rows).unwrap_or(i64::MAX);
        let lease = self.lease().await?;
        let replaced = stage.copy(&lease, batches, first).await?;
        lease.give_back();
        self.replaced.extend(replaced);
        self.rows += rows as u64;
        Ok(())
    }

    fn stage(&self) -> Result<Arc<Stage>> {
        let stage = self.open.as_ref().map(|(stage, _)| Arc::clone(stage));
        stage.ok_or_else(|| Error::target("the writer is closed"))
    }

    /// A connection, as long as the table is locked.
    async fn lease(&self) -> Result<Lease> {
        let lease = self.pool.lease().await?;
        match &self.open {
            Some((_, lock)) if lock.is_held() => Ok(lease),
            Some((stage, _)) => Err(lost_lock(&stage.name)),
            None => Err(Error::target("the writer is closed")),
        }
    }

    /// Publishes the stage, and saves the state with it.
    async fn publish(
        &mut self,
        stage: &Stage,
        ending: &Ending,
        state: &[Change],
    ) -> Result<(Published, Vec<Notice>)> {
        let name = &stage.name;
        let lock = self.open.as_ref().and_then(|(_, lock)| lock.session());
        let waiter = Waiter {
            observer: lock.ok_or_else(|| lost_lock(name))?,
            longest: self.pool.lock_wait(),
            watch: self.watch.clone(),
            stream: &stage.stream,
            table: name,
        };
        let mut lease = self.lease().await?;
        let adapting = columns::adapt_first(&mut lease, stage, waiter.clone()).await?;
        let failed = |error| failure::statement(format!("table {name} cannot be written"), &error);
        let transaction = lease.transaction().await.map_err(failed)?;
        let mut waits = Waits::begin(&transaction, waiter).await?;
        let published = commit::publish(&transaction, stage, ending, &mut waits).await?;
        let waited = waits.waited();
        drop(waits);
        owner::save(&transaction, stage).await?;
        store::apply(&transaction, &self.home, state).await?;
        transaction.commit().await.map_err(|error| {
            let what = format!("whether the new rows of table {name} were committed is not known");
            failure::statement(what, &error)
        })?;
        lease.give_back();
        let mut notices = Vec::new();
        for (seconds, holders) in adapting.into_iter().chain(waited) {
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
        let mut lease = self.lease().await?;
        let failed = |error| failure::statement("the state cannot be saved", &error);
        let transaction = lease.transaction().await.map_err(failed)?;
        store::let_last(&transaction).await?;
        if state.is_empty() {
            self.stage()?.touch(&transaction).await?;
        }
        store::apply(&transaction, &self.home, state).await?;
        transaction.commit().await.map_err(failed)?;
        lease.give_back();
        Ok(())
    }

    async fn missing(&mut self, ending: &Ending, most: usize) -> Result<Option<Vec<String>>> {
        self.flush().await?;
        let stage = self.stage()?;
        let lease = self.lease().await?;
        let missing = merge::missing(&lease, &stage, &ending.void, most).await?;
        lease.give_back();
        Ok(missing)
    }

    async fn commit(mut self: Box<Self>, ending: &Ending, state: &[Change]) -> Result<Committed> {
        self.flush().await?;
        let stage = self.stage()?;
        let (published, mut notices) = self.publish(&stage, ending, state).await?;
        let Published { rows, deleted, told } = published;
        if let Some((_, lock)) = self.open.take() {
            lock.release().await;
        }
        let object = stage.name.to_string();
        let Told { repeated, notices: of_keys } = told;
        for notice in of_keys {
            add_notice(&mut notices, notice);
        }
        Ok(Committed { object, rows, deleted, repeated, notices })
    }

    async fn discard(mut self: Box<Self>) -> Result<()> {
        let Some((stage, lock)) = self.open.take() else { return Ok(()) };
        let lease = self.pool.lease().await?;
        stage.discard(&lease).await;
        lease.give_back();
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

    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
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
