//! Rows that are staged on local disk.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, SchemaRef};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::broken;
use crate::error::{Error, Result};
use crate::write::files::{
    area::{self, Area},
    local,
};

/// Name of the file that says which rows count.
const INDEX: &str = "index.json";
/// Bytes that are written to a local segment at once.
const BUFFER: usize = 256 * 1024;

/// Which rows of a local staging count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) run_id: String,
    /// Rows that count, by segment.
    pub(super) segments: Vec<u64>,
}

pub(in crate::write::files) struct LocalStaging {
    pub(super) folder: PathBuf,
    pub(super) schema: SchemaRef,
    pub(super) index: Index,
    /// The segment of this process, once it has rows.
    writer: Option<StreamWriter<BufWriter<File>>>,
    _area: Arc<Area>,
}

impl LocalStaging {
    pub(super) fn open(
        area: &Arc<Area>,
        schema: &SchemaRef,
        run_id: &str,
        rows: Option<u64>,
    ) -> Result<Option<Self>> {
        let folder = area.join(area::STAGE);
        let mut index = Index { run_id: run_id.to_owned(), segments: Vec::new() };
        let wrong = |what: &str, error: &std::io::Error| local::failed(what, &folder, error);
        match rows {
            None => {
                remove(&folder)?;
                fs::create_dir_all(&folder).map_err(|error| wrong("create", &error))?;
            }
            Some(rows) => {
                let Some(found) = Self::found(&folder, (run_id, rows)) else { return Ok(None) };
                let mut left = rows;
                for count in found.segments {
                    index.segments.push(count.min(left));
                    left -= count.min(left);
                }
            }
        }
        let (schema, area) = (Arc::clone(schema), Arc::clone(area));
        let staging = Self { folder, schema, index, writer: None, _area: area };
        staging.save()?;
        Ok(Some(staging))
    }

    /// Which rows count in a folder; `None` where nobody knows.
    pub(super) fn index(folder: &Path) -> Option<Index> {
        fs::read(folder.join(INDEX)).ok().and_then(|text| serde_json::from_slice(&text).ok())
    }

    /// Likewise, with when it was saved.
    pub(super) fn saved(folder: &Path) -> Option<(Index, DateTime<Utc>)> {
        let at = fs::metadata(folder.join(INDEX)).and_then(|file| file.modified()).ok()?;
        Some((Self::index(folder)?, at.into()))
    }

    /// The index of so many staged rows of a run, or of more; `None` when they are not there.
    pub(super) fn found(folder: &Path, (run_id, rows): (&str, u64)) -> Option<Index> {
        let index = Self::index(folder).filter(|index| {
            let mut paths = (0..index.segments.len()).map(|number| path(folder, number));
            index.run_id == run_id
                && index.segments.iter().sum::<u64>() >= rows
                && paths.all(|path| path.exists())
        });
        // A run that has staged nothing yet has no index.
        index.or_else(|| (rows == 0 && folder.exists()).then(Index::default))
    }

    fn path(&self, number: usize) -> PathBuf {
        path(&self.folder, number)
    }

    /// Saves the index, all at once.
    fn save(&self) -> Result<()> {
        let new = self.folder.join(format!("{INDEX}.new"));
        let wrong = |error: std::io::Error| local::failed("write", &new, &error);
        let text = serde_json::to_vec(&self.index).unwrap_or_default();
        let mut file = File::create(&new).map_err(wrong)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&new, self.folder.join(INDEX)).map_err(wrong)?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(wrong)
    }

    pub(super) fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.writer.is_none() {
            let path = self.path(self.index.segments.len());
            let file =
                File::create(&path).map_err(|error| local::failed("create", &path, &error))?;
            let writer =
                StreamWriter::try_new(BufWriter::with_capacity(BUFFER, file), &self.schema);
            self.writer = Some(writer.map_err(|error| broken(&error))?);
            self.index.segments.push(0);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Err(error) = writer.write(batch) {
            return Err(self.full(&error));
        }
        if let Some(count) = self.index.segments.last_mut() {
            *count += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// The error of a write: mostly the disk's.
    fn full(&self, error: &ArrowError) -> Error {
        match error {
            ArrowError::IoError(_, error) => local::failed("write", &self.folder, error),
            other => broken(other),
        }
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            let wrong = |error: &std::io::Error| local::failed("write", &self.folder, error);
            let file = writer.get_mut();
            file.flush().map_err(|error| wrong(&error))?;
            file.get_ref().sync_all().map_err(|error| wrong(&error))?;
        }
        self.save()
    }

    pub(super) fn segment(&self, number: usize) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some(rows) = self.index.segments.get(number) else { return Ok(None) };
        let path = self.path(number);
        let file = File::open(&path).map_err(|error| local::failed("read", &path, &error))?;
        Ok(Some((Box::new(BufReader::with_capacity(BUFFER, file)), *rows)))
    }

    pub(super) fn remove(self) -> Result<()> {
        remove(&self.folder)
    }
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}.arrows"))
}

/// Removes a local staging. Its index goes first: whoever is killed in between leaves segments that nobody
/// takes for staged rows.
fn remove(folder: &Path) -> Result<()> {
    for removed in [fs::remove_file(folder.join(INDEX)), fs::remove_dir_all(folder)] {
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(local::failed("remove", folder, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
