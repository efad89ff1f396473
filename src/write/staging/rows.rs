//! Rows that wait for their commit, as segments of Arrow IPC streams that outlive their process.
//!
//! On local disk a segment is a file per process in the staging directory of the object, and a small file
//! beside the segments holds the number of rows of each that count. In an object store a segment is an object
//! of a few mebibytes, named after its rows.

use std::{
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::path::Path;

use crate::error::Result;
use crate::write::formats::arrow_stream::{self, StreamRows};
use crate::write::staging::local::LocalRows;
use crate::write::staging::segment::{Segment, StagedRun};
use crate::write::staging::staging_dir::{STAGE, StagingDir};
use crate::write::staging::store::{self, StoreRows};
use crate::write::storage::bucket::Bucket;

/// The staged rows of one table.
pub(crate) enum StagedRows {
    Local(Box<LocalRows>),
    Store(StoreRows),
}

impl StagedRows {
    /// Opens the staged rows of a run in a staging directory; `None` when [`StagedRun::rows`] of them are not
    /// there.
    pub(crate) fn local(
        dir: &Arc<StagingDir>,
        schema: &SchemaRef,
        run: StagedRun<'_>,
    ) -> Result<Option<Self>> {
        let rows = LocalRows::open(dir, schema, run)?;
        Ok(rows.map(|rows| Self::Local(Box::new(rows))))
    }

    /// Opens the staged rows of a run in an object store, below this path; `None` when [`StagedRun::rows`] of
    /// them are not there.
    pub(crate) async fn store(
        bucket: &Bucket,
        path: Path,
        schema: &SchemaRef,
        run: StagedRun<'_>,
    ) -> Result<Option<Self>> {
        Ok(StoreRows::open(bucket, path, schema, run).await?.map(Self::Store))
    }

    /// Whether [`StagedRun::rows`] staged rows of a run are in a local staging directory.
    pub(crate) fn is_local(dir: &FilePath, run: StagedRun<'_>) -> bool {
        LocalRows::find(&dir.join(STAGE), run).is_some()
    }

    /// Whether [`StagedRun::rows`] staged rows of a run are in an object store, below this path.
    pub(crate) async fn is_in_store(
        bucket: &Bucket,
        path: &Path,
        run: StagedRun<'_>,
    ) -> Result<bool> {
        Ok(store::find(bucket, path, run).await?.counted.is_some())
    }

    /// Number of staged rows.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Local(rows) => rows.count(),
            Self::Store(rows) => rows.count(),
        }
    }

    /// Adds a batch.
    pub(crate) async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Local(rows) => rows.append(&batch),
            Self::Store(rows) => rows.append(batch).await,
        }
    }

    /// Makes all rows so far durable.
    pub(crate) async fn sync(&mut self) -> Result<()> {
        match self {
            Self::Local(rows) => rows.sync(),
            Self::Store(rows) => rows.put().await,
        }
    }

    /// All rows, in their order. They must have been synced.
    pub(crate) fn batches(&self) -> Batches<'_> {
        Batches { rows: self, columns: None, number: 0, segment: None, first: 0 }
    }

    /// All rows, in their order, with some of the columns only. They must have been synced.
    pub(crate) fn columns(&self, names: &[&str]) -> Result<Batches<'_>> {
        let schema = match self {
            Self::Local(rows) => rows.schema(),
            Self::Store(rows) => rows.schema(),
        };
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            columns.push(schema.index_of(name).map_err(|error| arrow_stream::failed(&error))?);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(Batches { columns: Some(columns), ..self.batches() })
    }

    /// The folder for temporary files of sorts: where rows are staged on local disk, that disk has room for
    /// them.
    pub(crate) fn scratch(&self) -> PathBuf {
        match self {
            Self::Local(rows) => rows.folder().to_owned(),
            Self::Store(_) => std::env::temp_dir(),
        }
    }

    async fn segment(&self, number: usize) -> Result<Option<Segment>> {
        match self {
            Self::Local(rows) => rows.segment(number),
            Self::Store(rows) => rows.segment(number).await,
        }
    }

    /// Removes all staged rows.
    pub(crate) async fn remove(self) -> Result<()> {
        match self {
            Self::Local(rows) => rows.remove(),
            Self::Store(rows) => rows.remove().await,
        }
    }
}

/// Reads staged rows batch by batch.
pub(crate) struct Batches<'rows> {
    rows: &'rows StagedRows,
    /// Positions of the columns that are read; all when `None`.
    columns: Option<Vec<usize>>,
    /// Number of segments that were begun.
    number: usize,
    segment: Option<StreamRows>,
    /// Number of the next batch's first row.
    first: u64,
}

impl Batches<'_> {
    /// The next batch, and the number of its first row.
    pub(crate) async fn next(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        // What the caller does with the batch is work for the CPU: give other tasks a turn before it.
        tokio::task::yield_now().await;
        loop {
            if let Some(batch) = self.segment.as_mut().and_then(Iterator::next) {
                let (batch, first) = (batch?, self.first);
                self.first += batch.num_rows() as u64;
                return Ok(Some((batch, first)));
            }
            let Some(Segment { bytes, rows }) = self.rows.segment(self.number).await? else {
                return Ok(None);
            };
            self.segment = Some(StreamRows::new(bytes, rows, self.columns.clone())?);
            self.number += 1;
        }
    }
}
