//! Rows that wait for their commit, as segments of Arrow IPC streams that outlive their process.
//!
//! On local disk a segment is a file per process in the object's area, and a small file beside them
//! says how many rows of each count. In an object store a segment is an object of a few mebibytes,
//! named after its rows.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Cursor, ErrorKind, Read, Write},
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use serde::{Deserialize, Serialize};

use super::{area, area::Area, home::unique, local, store};
use crate::error::{Error, Result};
use crate::write::Leftovers;

/// Name of the file that says which rows count.
const INDEX: &str = "index.json";
/// Bytes of memory of batches that make an object in a store.
const ENOUGH: usize = 4 << 20;
/// Bytes that are written to a local segment at once.
const BUFFER: usize = 256 * 1024;

/// Which rows of a local staging count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    run_id: String,
    /// Rows that count, by segment.
    segments: Vec<u64>,
}

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

    /// The run that staged rows in a local folder; `None` where none are.
    pub(super) fn run_of(folder: &FilePath) -> Option<String> {
        LocalStaging::index(folder).map(|index| index.run_id)
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

pub(super) struct LocalStaging {
    folder: PathBuf,
    schema: SchemaRef,
    index: Index,
    /// The segment of this process, once it has rows.
    writer: Option<StreamWriter<BufWriter<File>>>,
    _area: Arc<Area>,
}

impl LocalStaging {
    fn open(
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
    fn index(folder: &FilePath) -> Option<Index> {
        fs::read(folder.join(INDEX)).ok().and_then(|text| serde_json::from_slice(&text).ok())
    }

    /// The index of so many staged rows of a run, or of more; `None` when they are not there.
    fn found(folder: &FilePath, (run_id, rows): (&str, u64)) -> Option<Index> {
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

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
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

    fn sync(&mut self) -> Result<()> {
        if let Some(writer) = &mut self.writer {
            let wrong = |error: &std::io::Error| local::failed("write", &self.folder, error);
            let file = writer.get_mut();
            file.flush().map_err(|error| wrong(&error))?;
            file.get_ref().sync_all().map_err(|error| wrong(&error))?;
        }
        self.save()
    }

    fn segment(&self, number: usize) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some(rows) = self.index.segments.get(number) else { return Ok(None) };
        let path = self.path(number);
        let file = File::open(&path).map_err(|error| local::failed("read", &path, &error))?;
        Ok(Some((Box::new(BufReader::with_capacity(BUFFER, file)), *rows)))
    }

    fn remove(self) -> Result<()> {
        remove(&self.folder)
    }
}

fn path(folder: &FilePath, number: usize) -> PathBuf {
    folder.join(format!("{number:05}.arrows"))
}

/// Removes a local staging. Its index goes first: whoever is killed in between leaves segments that nobody
/// takes for staged rows.
fn remove(folder: &FilePath) -> Result<()> {
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

/// What an object store has of a staging.
struct Segments {
    /// The segments that count, each with its rows; `None` when rows are missing.
    whole: Option<Vec<(Path, u64)>>,
    /// What counts for nothing.
    gone: Vec<Path>,
}

pub(super) struct StoreStaging {
    bucket: Arc<dyn ObjectStore>,
    shown: String,
    /// Where the segments of this run are.
    place: Path,
    schema: SchemaRef,
    /// Segments, each with its rows.
    segments: Vec<(Path, u64)>,
    rows: u64,
    pending: Vec<RecordBatch>,
    bytes: usize,
}

/// Removes from an object store what no run goes on with, as far as it can be removed. Below `place` are folders
/// of replications, objects and runs.
pub(super) async fn tidy(
    (bucket, shown): (&Arc<dyn ObjectStore>, &str),
    place: Path,
    leftovers: &Leftovers,
) -> Result<()> {
    let own = unique(leftovers.replication());
    let mut listing = bucket.list(Some(&place));
    while let Some(entry) = listing.next().await {
        let path = entry.map_err(|error| store::failed("list", shown, &error))?.location;
        let parts: Vec<String> = path
            .prefix_match(&place)
            .into_iter()
            .flatten()
            .map(|part| part.as_ref().to_owned())
            .collect();
        let [replication, _, run, _] = &*parts else { continue };
        let replication = if *replication == own { leftovers.replication() } else { replication };
        if leftovers.include(replication, run) {
            bucket.delete(&path).await.ok();
        }
    }
    Ok(())
}

impl StoreStaging {
    async fn open(
        (bucket, shown): (&Arc<dyn ObjectStore>, &str),
        place: Path,
        schema: &SchemaRef,
        (run_id, rows): (&str, Option<u64>),
    ) -> Result<Option<Self>> {
        let mut staging = Self {
            bucket: Arc::clone(bucket),
            shown: shown.to_owned(),
            place: place.clone().join(super::object::label(run_id)),
            schema: Arc::clone(schema),
            segments: Vec::new(),
            rows: 0,
            pending: Vec::new(),
            bytes: 0,
        };
        let Segments { whole, gone } = Self::found((bucket, shown), &place, (run_id, rows)).await?;
        let Some(whole) = whole else { return Ok(None) };
        for path in gone {
            bucket.delete(&path).await.ok();
        }
        staging.rows = whole.iter().map(|(_, count)| count).sum();
        staging.segments = whole;
        Ok(Some(staging))
    }

    /// The segments below a path, given how many rows of a run are to be there; `None`: none are.
    async fn found(
        (bucket, shown): (&Arc<dyn ObjectStore>, &str),
        place: &Path,
        (run_id, rows): (&str, Option<u64>),
    ) -> Result<Segments> {
        let own = place.clone().join(super::object::label(run_id));
        let listing = bucket.list(Some(place)).collect::<Vec<_>>().await;
        let mut gone = Vec::new();
        let mut found: Vec<(u64, u64, Path)> = Vec::new();
        for entry in listing {
            let path = entry.map_err(|error| store::failed("list", shown, &error))?.location;
            let name = path.filename().unwrap_or_default().trim_end_matches(".arrows");
            let span = name
                .split_once('-')
                .and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
            match span {
                Some((first, count)) if rows.is_some() && path.prefix_matches(&own) => {
                    found.push((first, count, path));
                }
                _ => gone.push(path),
            }
        }
        found.sort();
        let (mut whole, mut all, wanted) = (Vec::new(), 0, rows.unwrap_or_default());
        for (first, count, path) in found {
            // What was put after the last checkpoint is put again.
            if first == all && first + count <= wanted {
                whole.push((path, count));
                all += count;
            } else {
                gone.push(path);
            }
        }
        Ok(Segments { whole: (all >= wanted).then_some(whole), gone })
    }

    async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.bytes += batch.get_array_memory_size();
        self.pending.push(batch);
        if self.bytes >= ENOUGH { self.put().await } else { Ok(()) }
    }

    async fn put(&mut self) -> Result<()> {
        let count: usize = self.pending.iter().map(RecordBatch::num_rows).sum();
        if count == 0 {
            return Ok(());
        }
        let mut writer = StreamWriter::try_new(Vec::new(), &self.schema).map_err(|e| broken(&e))?;
        for batch in self.pending.drain(..) {
            writer.write(&batch).map_err(|error| broken(&error))?;
        }
        let bytes = writer.into_inner().map_err(|error| broken(&error))?;
        let first = self.rows - count as u64;
        let path = self.place.clone().join(format!("{first:012}-{count:08}.arrows"));
        let put = self.bucket.put(&path, PutPayload::from(bytes)).await;
        put.map_err(|error| store::failed("write", &self.shown, &error))?;
        self.segments.push((path, count as u64));
        self.bytes = 0;
        Ok(())
    }

    async fn segment(&self, number: usize) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some((path, rows)) = self.segments.get(number) else { return Ok(None) };
        let wrong = |error| store::failed("read", &self.shown, &error);
        let bytes: Bytes =
            self.bucket.get(path).await.map_err(wrong)?.bytes().await.map_err(wrong)?;
        Ok(Some((Box::new(Cursor::new(bytes)), *rows)))
    }

    async fn remove(self) -> Result<()> {
        for (path, _) in self.segments {
            match self.bucket.delete(&path).await {
                Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                    return Err(store::failed("remove", &self.shown, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
