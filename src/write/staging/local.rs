//! Rows that are staged on local disk.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};

use crate::error::{Error, Result};
use crate::write::formats::arrow_stream;
use crate::write::staging::index::{self, Index};
use crate::write::staging::segment::{Segment, StagedRun};
use crate::write::staging::staging_dir::{STAGE, StagingDir};
use crate::write::storage::disk;

/// Bytes that are written to a segment, or read from it, at once.
const BUFFER: usize = 256 * 1024;

/// The staged rows of one table, in a folder of its staging directory.
pub(crate) struct LocalRows {
    folder: PathBuf,
    schema: SchemaRef,
    index: Index,
    /// The segment of this process, once it has rows.
    writer: Option<StreamWriter<BufWriter<File>>>,
    /// Keeps the staging directory locked.
    _dir: Arc<StagingDir>,
}

impl LocalRows {
    /// Opens the staged rows of a run, or removes what is staged when the run starts over. `None` when the
    /// wanted rows are not there.
    pub(crate) fn open(
        dir: &Arc<StagingDir>,
        schema: &SchemaRef,
        run: StagedRun<'_>,
    ) -> Result<Option<Self>> {
        let folder = dir.join(STAGE);
        let mut index = Index { run_id: run.run_id.to_owned(), segments: Vec::new() };
        if let Some(rows) = run.rows {
            let Some(found) = Self::find(&folder, run) else { return Ok(None) };
            let mut left = rows;
            for count in found.segments {
                index.segments.push(count.min(left));
                left -= count.min(left);
            }
        } else {
            index::remove(&folder)?;
            let made = fs::create_dir_all(&folder);
            made.map_err(|error| disk::failed("create", &folder, &error))?;
        }
        index.save(&folder)?;
        let (schema, dir) = (Arc::clone(schema), Arc::clone(dir));
        Ok(Some(Self { folder, schema, index, writer: None, _dir: dir }))
    }

    /// The index of a folder that contains at least the wanted rows; `None` when some of them are missing.
    pub(crate) fn find(folder: &Path, run: StagedRun<'_>) -> Option<Index> {
        let rows = run.rows.unwrap_or_default();
        let index = Index::read(folder).filter(|index| {
            let mut paths = (0..index.segments.len()).map(|number| index::segment(folder, number));
            index.run_id == run.run_id
                && index.segments.iter().sum::<u64>() >= rows
                && paths.all(|path| path.exists())
        });
        // A run that has staged nothing yet has no index.
        index.or_else(|| (rows == 0 && folder.exists()).then(Index::default))
    }

    /// Number of staged rows.
    pub(crate) fn count(&self) -> u64 {
        self.index.segments.iter().sum()
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The columns of the staged rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a batch to the segment of this process.
    pub(crate) fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.writer.is_none() {
            self.writer = Some(self.begin_segment()?);
        }
        let writer = self.writer.as_mut().expect("a segment was begun");
        if let Err(error) = writer.write(batch) {
            return Err(self.write_failed(&error));
        }
        let count = self.index.segments.last_mut().expect("a writer has a segment");
        *count += batch.num_rows() as u64;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<StreamWriter<BufWriter<File>>> {
        let path = index::segment(&self.folder, self.index.segments.len());
        let file = File::create(&path).map_err(|error| disk::failed("create", &path, &error))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let writer = StreamWriter::try_new(file, &self.schema);
        let writer = writer.map_err(|error| arrow_stream::failed(&error))?;
        self.index.segments.push(0);
        Ok(writer)
    }

    /// The error of a write; most are errors of the disk.
    fn write_failed(&self, error: &ArrowError) -> Error {
        match error {
            ArrowError::IoError(_, error) => disk::failed("write", &self.folder, error),
            other => arrow_stream::failed(other),
        }
    }

    /// Makes all rows so far durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            let wrong = |error: std::io::Error| disk::failed("write", &self.folder, &error);
            let file = writer.get_mut();
            file.flush().map_err(wrong)?;
            file.get_ref().sync_all().map_err(wrong)?;
        }
        self.index.save(&self.folder)
    }

    /// A segment; `None` after the last.
    pub(crate) fn segment(&self, number: usize) -> Result<Option<Segment>> {
        let Some(&rows) = self.index.segments.get(number) else { return Ok(None) };
        let path = index::segment(&self.folder, number);
        let file = File::open(&path).map_err(|error| disk::failed("read", &path, &error))?;
        Ok(Some(Segment { bytes: Box::new(BufReader::with_capacity(BUFFER, file)), rows }))
    }

    /// Removes all staged rows.
    pub(crate) fn remove(self) -> Result<()> {
        index::remove(&self.folder)
    }
}
