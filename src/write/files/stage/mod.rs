//! Rows that wait for their commit, as segments of Arrow IPC streams that outlive their process.
//!
//! On local disk a segment is a file per process in the object's area, and a small file beside them
//! says how many rows of each count. In an object store a segment is an object of a few mebibytes,
//! named after its rows.

mod local;
mod store;

use std::{
    io::Read,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, SchemaRef};
use chrono::{DateTime, Utc};
use object_store::{ObjectStore, path::Path};

use self::{
    local::LocalStaging,
    store::{Segments, StoreStaging},
};
use super::{area, area::Area};
use crate::error::{Error, Result};

pub(super) use self::store::tidy;

/// Rows of one table, staged.
pub(super) enum Staging {
    Local(Box<LocalStaging>),
    Store(StoreStaging),
}

impl Staging {
    /// Goes on with so many rows of a run, or begins anew; `None` when they are not there.
    pub(super) fn local(
        area: &Arc<Area>,
        schema: &SchemaRef,
        run_id: &str,
        rows: Option<u64>,
    ) -> Result<Option<Self>> {
        LocalStaging::open(area, schema, run_id, rows)
            .map(|staging| staging.map(|one| Self::Local(Box::new(one))))
    }

    /// Likewise in an object store, below this path.
    pub(super) async fn store(
        store: (&Arc<dyn ObjectStore>, &str),
        place: Path,
        schema: &SchemaRef,
        (run_id, rows): (&str, Option<u64>),
    ) -> Result<Option<Self>> {
        let staging = StoreStaging::open(store, place, schema, (run_id, rows)).await?;
        Ok(staging.map(Self::Store))
    }

    /// Whether so many staged rows of a run are in a local area.
    pub(super) fn is_local(area: &FilePath, run_id: &str, rows: u64) -> bool {
        LocalStaging::found(&area.join(area::STAGE), (run_id, rows)).is_some()
    }

    /// The run that staged rows in a local folder, and when it last did; `None` where none are.
    pub(super) fn run_of(folder: &FilePath) -> Option<(String, DateTime<Utc>)> {
        let (index, at) = LocalStaging::saved(folder)?;
        Some((index.run_id, at))
    }

    /// Whether so many staged rows of a run are in an object store, below this path.
    pub(super) async fn is_in_store(
        store: (&Arc<dyn ObjectStore>, &str),
        place: &Path,
        run: (&str, u64),
    ) -> Result<bool> {
        let Segments { whole, .. } =
            StoreStaging::found(store, place, (run.0, Some(run.1))).await?;
        Ok(whole.is_some())
    }

    /// Rows that are staged.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Local(staging) => staging.index.segments.iter().sum(),
            Self::Store(staging) => staging.rows,
        }
    }

    pub(super) async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        match self {
            Self::Local(staging) => staging.append(&batch),
            Self::Store(staging) => staging.append(batch).await,
        }
    }

    /// Makes all rows so far last.
    pub(super) async fn sync(&mut self) -> Result<()> {
        match self {
            Self::Local(staging) => staging.sync(),
            Self::Store(staging) => staging.put().await,
        }
    }

    /// All rows, in their order. They must have been made to last.
    pub(super) fn batches(&self) -> Batches<'_> {
        Batches { staging: self, columns: None, number: 0, segment: None, first: 0 }
    }

    /// Likewise, with some of the columns only.
    pub(super) fn columns(&self, names: &[&str]) -> Result<Batches<'_>> {
        let schema = match self {
            Self::Local(staging) => &staging.schema,
            Self::Store(staging) => &staging.schema,
        };
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            columns.push(schema.index_of(name).map_err(|error| broken(&error))?);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(Batches { columns: Some(columns), ..self.batches() })
    }

    /// The folder for what is sorted on the way: it is on the disk that has room for the rows, where
    /// that is local.
    pub(super) fn scratch(&self) -> PathBuf {
        match self {
            Self::Local(staging) => staging.folder.clone(),
            Self::Store(_) => std::env::temp_dir(),
        }
    }

    /// The batches of a segment; `None` after the last.
    async fn segment(&self, number: usize) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        match self {
            Self::Local(staging) => staging.segment(number),
            Self::Store(staging) => staging.segment(number).await,
        }
    }

    /// Removes everything.
    pub(super) async fn remove(self) -> Result<()> {
        match self {
            Self::Local(staging) => staging.remove(),
            Self::Store(staging) => staging.remove().await,
        }
    }
}

/// The batches of a staging.
pub(super) struct Batches<'staging> {
    staging: &'staging Staging,
    /// Positions of the columns that are read; `None`: all of them.
    columns: Option<Vec<usize>>,
    /// Segments that were begun.
    number: usize,
    segment: Option<Segment>,
    /// Rows so far.
    first: u64,
}

impl Batches<'_> {
    /// The next batch, and the number of its first row.
    pub(super) async fn next(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        // What follows is work for the CPU: let other tasks have their turn.
        tokio::task::yield_now().await;
        loop {
            if let Some(batch) = self.segment.as_mut().and_then(Iterator::next) {
                let (batch, first) = (batch?, self.first);
                self.first += batch.num_rows() as u64;
                return Ok(Some((batch, first)));
            }
            let Some((bytes, rows)) = self.staging.segment(self.number).await? else {
                return Ok(None);
            };
            self.segment = Some(Segment::new(bytes, rows, self.columns.clone())?);
            self.number += 1;
        }
    }
}

/// The batches of one segment.
struct Segment {
    reader: StreamReader<Box<dyn Read + Send>>,
    left: u64,
}

impl Segment {
    fn new(bytes: Box<dyn Read + Send>, rows: u64, columns: Option<Vec<usize>>) -> Result<Self> {
        let reader = StreamReader::try_new(bytes, columns).map_err(|error| broken(&error))?;
        Ok(Self { reader, left: rows })
    }
}

impl Iterator for Segment {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = match self.reader.next() {
            Some(batch) => batch.map_err(|error| broken(&error)),
            None => {
                Err(Error::target("staged rows are missing").with_hint("start over with `--fresh`"))
            }
        };
        Some(batch.map(|batch| {
            let rows = (batch.num_rows() as u64).min(self.left);
            self.left -= rows;
            batch.slice(0, usize::try_from(rows).unwrap_or(usize::MAX))
        }))
    }
}

fn broken(error: &ArrowError) -> Error {
    Error::target("staged rows cannot be read or written")
        .because(error.to_string())
        .with_hint("start over with `--fresh`")
}
