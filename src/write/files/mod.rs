//! Rows to Parquet and JSONL files, on local disk or in an object store.
//!
//! An encoder turns batches into bytes, a sink carries the bytes to where they become visible at
//! commit. Neither knows the other.

mod area;
mod budget;
mod cloud;
mod encode;
mod json;
mod local;
mod manifest;
mod object;
mod options;
mod store;

use std::{path::PathBuf, sync::Arc};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use object_store::ObjectStore;

use self::{
    budget::Budget,
    encode::{Encoder, Plan},
    local::Local,
    object::Object,
    store::Store,
};
use crate::error::{Error, Result};
use crate::state;
use crate::write::{Committed, Disposition, Ending, Table, Target, Writer};

pub use self::options::{FilesOptions, Settings};

/// Bytes of memory that a piece of a batch takes; limits are looked at after each piece.
const PIECE: usize = 256 * 1024;
/// Encoded bytes that are handed to the sink at once.
const CHUNK: usize = 256 * 1024;

/// A store of files: a folder on local disk, or a bucket or container and a prefix in it.
///
/// The `object` of a table is a path below the root. Its extension tells the format: `.parquet`,
/// `.jsonl` or `.ndjson`, the latter two also with `.gz` or `.zst`. A `*` in the file name makes it
/// a folder of parts: `pages/*.parquet` becomes `pages/<run id>-00000.parquet` and so on, beside a
/// `_weir.json` that lists the parts.
#[derive(Debug)]
pub struct Files {
    place: Place,
    settings: Settings,
    budget: Arc<Budget>,
}

#[derive(Debug)]
enum Place {
    Local(Local),
    Store(Store),
}

impl Files {
    /// Resolves the root; talks to nobody.
    ///
    /// # Errors
    /// A root of an unknown scheme, a setting that the store does not know, or settings out of
    /// their range.
    pub fn new(options: &FilesOptions) -> Result<Self> {
        options.files.check()?;
        let place = match cloud::scheme(&options.root)? {
            cloud::Scheme::Local(path) => Place::Local(Local::new(path)),
            scheme => Place::Store(cloud::connect(&scheme, &options.root, &options.settings)?),
        };
        Ok(Self { place, settings: options.files, budget: Arc::default() })
    }

    /// Files in a store that is already connected, below `prefix`; `shown` is the root as a person
    /// should read it.
    pub fn in_store(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        shown: &str,
        files: Settings,
    ) -> Self {
        let place = Place::Store(Store::new(store, prefix, shown));
        Self { place, settings: files, budget: Arc::default() }
    }

    /// Files in a folder on local disk.
    pub fn in_folder(folder: impl Into<PathBuf>, files: Settings) -> Self {
        Self {
            place: Place::Local(Local::new(folder.into())),
            settings: files,
            budget: Arc::default(),
        }
    }
}

#[async_trait]
impl Target for Files {
    fn accepts(&self, table: &Table) -> Result<()> {
        let object = Object::parse(&table.object)?;
        refuse_what_cannot_be(table, &object, table.files.unwrap_or(self.settings))
    }

    async fn check(&self) -> Result<()> {
        match &self.place {
            Place::Local(local) => local.check(),
            Place::Store(store) => store.check().await,
        }
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        if staged.is_some() {
            return Ok(None);
        }
        self.accepts(table)?;
        let object = Object::parse(&table.object)?;
        let settings = table.files.unwrap_or(self.settings);
        let plan = Plan::new(&table.schema, object.format, settings, Arc::clone(&self.budget))?;
        let encoder = plan.encoder()?;
        let sink: Box<dyn Sink> = match &self.place {
            Place::Local(local) => Box::new(local.open(table, object).await?),
            Place::Store(store) => Box::new(store.open(table, object).await?),
        };
        let limit = settings.max_file_bytes;
        Ok(Some(Box::new(FilesWriter { plan, encoder, sink, limit, sent: 0, rows: 0 })))
    }

    async fn define(&self, _: &Table) -> Result<String> {
        Err(Error::target("not there yet"))
    }

    fn store(&self, _: &str) -> Result<Arc<dyn state::Store>> {
        Err(Error::target("not there yet"))
    }
}

fn refuse_what_cannot_be(table: &Table, object: &Object, settings: Settings) -> Result<()> {
    settings.check()?;
    if table.disposition == Disposition::Merge {
        return Err(Error::input("mode `incremental` cannot be written to files yet")
            .with_hint("use `full-refresh`, or `snapshot` to keep the rows of every run"));
    }
    if settings.max_file_bytes.is_some() && object.parts.is_none() {
        let message = format!("`{}` is one file, which a size limit cannot split", table.object);
        return Err(Error::input(message).with_hint(
            "put a `*` in the file name, as in `pages/*.parquet`, or leave the size limit out",
        ));
    }
    Ok(())
}

/// Carries encoded bytes to a place where they become visible only at commit.
#[async_trait]
trait Sink: Send {
    /// Adds bytes to the part that is being written.
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()>;

    /// Ends the part that is being written; the next bytes begin another.
    async fn end_part(&mut self) -> Result<()>;

    /// Makes all parts visible, and removes what they replace. `rows` is what they hold. Returns
    /// the path for a person.
    async fn publish(self: Box<Self>, rows: u64) -> Result<String>;
}

struct FilesWriter {
    plan: Plan,
    encoder: Encoder,
    sink: Box<dyn Sink>,
    /// Size at which a part is ended, in bytes.
    limit: Option<u64>,
    /// Bytes of the part that the sink has.
    sent: u64,
    rows: u64,
}

impl FilesWriter {
    async fn piece(&mut self, piece: &RecordBatch) -> Result<()> {
        let size = self.sent + self.encoder.pending() as u64;
        if self.limit.is_some_and(|limit| size >= limit) {
            self.finish_part().await?;
            self.sink.end_part().await?;
            self.sent = 0;
        }
        self.encoder.write(piece)?;
        if self.encoder.ready() >= CHUNK {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let bytes = self.encoder.take();
        self.sent += bytes.len() as u64;
        self.sink.append(bytes).await
    }

    async fn finish_part(&mut self) -> Result<()> {
        let next = self.plan.encoder()?;
        let bytes = std::mem::replace(&mut self.encoder, next).finish()?;
        self.sink.append(bytes).await
    }
}

#[async_trait]
impl Writer for FilesWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        let batch = super::unstaged(&batch)?;
        let rows = batch.num_rows();
        let step = rows_per_piece(&batch);
        for start in (0..rows).step_by(step) {
            self.piece(&batch.slice(start, step.min(rows - start))).await?;
            // Encoding is work for the CPU: let other tasks have their turn.
            tokio::task::yield_now().await;
        }
        self.rows += rows as u64;
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
        _: &Ending,
        _: &[crate::state::Change],
    ) -> Result<Committed> {
        let this = *self;
        let Self { encoder, mut sink, rows, .. } = this;
        sink.append(encoder.finish()?).await?;
        Ok(Committed { object: sink.publish(rows).await?, rows, deleted: 0 })
    }
}

fn rows_per_piece(batch: &RecordBatch) -> usize {
    let row = batch.get_array_memory_size() / batch.num_rows().max(1);
    (PIECE / row.max(1)).clamp(1, 8192)
}
