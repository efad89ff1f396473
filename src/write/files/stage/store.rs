//! Rows that are staged in an object store.

use std::{
    io::{Cursor, Read},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};

use super::broken;
use crate::error::Result;
use crate::write::Leftovers;
use crate::write::files::{home::unique, object::label, store};

/// Bytes of memory of batches that make an object in a store.
const ENOUGH: usize = 4 << 20;

/// What an object store has of a staging.
pub(super) struct Segments {
    /// The segments that count, each with its rows; `None` when rows are missing.
    pub(super) whole: Option<Vec<(Path, u64)>>,
    /// What counts for nothing.
    pub(super) gone: Vec<Path>,
}

pub(in crate::write::files) struct StoreStaging {
    bucket: Arc<dyn ObjectStore>,
    shown: String,
    /// Where the segments of this run are.
    place: Path,
    pub(super) schema: SchemaRef,
    /// Segments, each with its rows.
    segments: Vec<(Path, u64)>,
    pub(super) rows: u64,
    pending: Vec<RecordBatch>,
    bytes: usize,
}

/// Removes from an object store what no run goes on with, as far as it can be removed. Below `place` are folders
/// of replications, objects and runs.
pub(in crate::write::files) async fn tidy(
    (bucket, shown): (&Arc<dyn ObjectStore>, &str),
    place: Path,
    leftovers: &Leftovers,
) -> Result<()> {
    let own = unique(leftovers.replication());
    let mut listing = bucket.list(Some(&place));
    while let Some(entry) = listing.next().await {
        let entry = entry.map_err(|error| store::failed("list", shown, &error))?;
        let path = entry.location;
        let parts: Vec<String> = path
            .prefix_match(&place)
            .into_iter()
            .flatten()
            .map(|part| part.as_ref().to_owned())
            .collect();
        let [replication, _, run, _] = &*parts else { continue };
        let replication = if *replication == own { leftovers.replication() } else { replication };
        if leftovers.include(replication, run, entry.last_modified) {
            bucket.delete(&path).await.ok();
        }
    }
    Ok(())
}

impl StoreStaging {
    pub(super) async fn open(
        (bucket, shown): (&Arc<dyn ObjectStore>, &str),
        place: Path,
        schema: &SchemaRef,
        (run_id, rows): (&str, Option<u64>),
    ) -> Result<Option<Self>> {
        let mut staging = Self {
            bucket: Arc::clone(bucket),
            shown: shown.to_owned(),
            place: place.clone().join(label(run_id)),
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
    pub(super) async fn found(
        (bucket, shown): (&Arc<dyn ObjectStore>, &str),
        place: &Path,
        (run_id, rows): (&str, Option<u64>),
    ) -> Result<Segments> {
        let own = place.clone().join(label(run_id));
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

    pub(super) async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.bytes += batch.get_array_memory_size();
        self.pending.push(batch);
        if self.bytes >= ENOUGH { self.put().await } else { Ok(()) }
    }

    pub(super) async fn put(&mut self) -> Result<()> {
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

    pub(super) async fn segment(
        &self,
        number: usize,
    ) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some((path, rows)) = self.segments.get(number) else { return Ok(None) };
        let wrong = |error| store::failed("read", &self.shown, &error);
        let bytes: Bytes =
            self.bucket.get(path).await.map_err(wrong)?.bytes().await.map_err(wrong)?;
        Ok(Some((Box::new(Cursor::new(bytes)), *rows)))
    }

    pub(super) async fn remove(self) -> Result<()> {
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
