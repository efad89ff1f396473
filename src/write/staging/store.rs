//! Rows that are staged in an object store.

use std::{io::Cursor, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{ObjectStoreExt, PutPayload, path::Path};

use crate::error::Result;
use crate::write::formats::arrow_stream;
use crate::write::leftovers::Leftovers;
use crate::write::staging::names::{STAGES, label, unique};
use crate::write::staging::segment::{Segment, StagedRun};
use crate::write::storage::bucket::{self, Bucket};

/// Bytes of memory of the batches that make one object.
const OBJECT_BYTES: usize = 4 << 20;

/// A segment, named after its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredSegment {
    path: Path,
    rows: u64,
}

/// The segments below a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FoundSegments {
    /// The segments that contain the wanted rows; `None` when some of the rows are missing.
    pub(crate) counted: Option<Vec<StoredSegment>>,
    /// Objects that contain none of the wanted rows.
    stale: Vec<Path>,
}

/// The staged rows of one table.
pub(crate) struct StoreRows {
    bucket: Bucket,
    /// Path of the segments of this run.
    path: Path,
    schema: SchemaRef,
    segments: Vec<StoredSegment>,
    /// Number of staged rows, those in memory included.
    count: u64,
    pending: Vec<RecordBatch>,
    pending_bytes: usize,
}

/// Removes from an object store the staged rows that no run resumes. What cannot be removed stays.
pub(crate) async fn tidy(bucket: &Bucket, leftovers: &Leftovers) -> Result<()> {
    // Below it are folders of replications, objects and runs.
    let stages = bucket.below(STAGES);
    let own = unique(leftovers.replication());
    let mut listing = bucket.store().list(Some(&stages));
    while let Some(entry) = listing.next().await {
        let entry = entry.map_err(|error| bucket::failed("list", bucket.shown(), &error))?;
        let path = entry.location;
        let parts = path.prefix_match(&stages).into_iter().flatten();
        let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        let [replication, _, run, _] = &*parts else { continue };
        let replication = if *replication == own { leftovers.replication() } else { replication };
        if leftovers.include(replication, run, entry.last_modified) {
            bucket.store().delete(&path).await.ok();
        }
    }
    Ok(())
}

/// Finds the wanted rows below a path.
pub(crate) async fn find(
    bucket: &Bucket,
    path: &Path,
    run: StagedRun<'_>,
) -> Result<FoundSegments> {
    let listing = bucket.store().list(Some(path)).collect::<Vec<_>>().await;
    let paths: object_store::Result<Vec<Path>> =
        listing.into_iter().map(|entry| entry.map(|entry| entry.location)).collect();
    let paths = paths.map_err(|error| bucket::failed("list", bucket.shown(), &error))?;
    Ok(sorted_out(paths, &path.clone().join(label(run.run_id)), run.rows))
}

/// Separates the segments below `own` that contain the first `wanted` rows from all other objects.
fn sorted_out(paths: Vec<Path>, own: &Path, wanted: Option<u64>) -> FoundSegments {
    let mut stale = Vec::new();
    let mut found: Vec<(u64, u64, Path)> = Vec::new();
    for path in paths {
        let name = path.filename().unwrap_or_default().trim_end_matches(".arrows");
        let span = name
            .split_once('-')
            .and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
        match span {
            Some((first, count)) if wanted.is_some() && path.prefix_matches(own) => {
                found.push((first, count, path));
            }
            _ => stale.push(path),
        }
    }
    found.sort();
    let (mut counted, mut all, wanted) = (Vec::new(), 0, wanted.unwrap_or_default());
    for (first, rows, path) in found {
        // A segment that was put after the last checkpoint will be put again.
        if first == all && first + rows <= wanted {
            counted.push(StoredSegment { path, rows });
            all += rows;
        } else {
            stale.push(path);
        }
    }
    FoundSegments { counted: (all >= wanted).then_some(counted), stale }
}

impl StoreRows {
    /// Opens the staged rows of a run, and removes all others of the table. `None` when the wanted rows are not
    /// there.
    pub(crate) async fn open(
        bucket: &Bucket,
        path: Path,
        schema: &SchemaRef,
        run: StagedRun<'_>,
    ) -> Result<Option<Self>> {
        let FoundSegments { counted, stale } = find(bucket, &path, run).await?;
        let Some(segments) = counted else { return Ok(None) };
        for path in stale {
            bucket.store().delete(&path).await.ok();
        }
        Ok(Some(Self {
            bucket: bucket.clone(),
            path: path.join(label(run.run_id)),
            schema: Arc::clone(schema),
            count: segments.iter().map(|segment| segment.rows).sum(),
            segments,
            pending: Vec::new(),
            pending_bytes: 0,
        }))
    }

    /// Number of staged rows.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The columns of the staged rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a batch.
    pub(crate) async fn append(&mut self, batch: RecordBatch) -> Result<()> {
        self.count += batch.num_rows() as u64;
        self.pending_bytes += batch.get_array_memory_size();
        self.pending.push(batch);
        if self.pending_bytes >= OBJECT_BYTES { self.put().await } else { Ok(()) }
    }

    /// Puts the batches that are in memory into the store, as one segment.
    pub(crate) async fn put(&mut self) -> Result<()> {
        let rows: usize = self.pending.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(());
        }
        let bytes = arrow_stream::encode(&self.schema, self.pending.drain(..))?;
        let first = self.count - rows as u64;
        let path = self.path.clone().join(format!("{first:012}-{rows:08}.arrows"));
        let put = self.bucket.store().put(&path, PutPayload::from(bytes)).await;
        put.map_err(|error| bucket::failed("write", self.bucket.shown(), &error))?;
        self.segments.push(StoredSegment { path, rows: rows as u64 });
        self.pending_bytes = 0;
        Ok(())
    }

    /// A segment; `None` after the last.
    pub(crate) async fn segment(&self, number: usize) -> Result<Option<Segment>> {
        let Some(StoredSegment { path, rows }) = self.segments.get(number) else {
            return Ok(None);
        };
        let wrong = |error| bucket::failed("read", self.bucket.shown(), &error);
        let found = self.bucket.store().get(path).await.map_err(wrong)?;
        let bytes: Bytes = found.bytes().await.map_err(wrong)?;
        Ok(Some(Segment { bytes: Box::new(Cursor::new(bytes)), rows: *rows }))
    }

    /// Removes all staged rows.
    pub(crate) async fn remove(self) -> Result<()> {
        for StoredSegment { path, .. } in self.segments {
            match self.bucket.store().delete(&path).await {
                Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => {
                    return Err(bucket::failed("remove", self.bucket.shown(), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_in_sequence_up_to_the_checkpoint_count() {
        // Each segment is given by its run, its first row and its number of rows.
        type GivenSegments = &'static [(&'static str, u64, u64)];
        let cases: [(GivenSegments, Option<u64>, Option<usize>); 8] = [
            (&[], Some(0), Some(0)),
            (&[], Some(1), None),
            (&[("own", 0, 5), ("own", 5, 3)], Some(8), Some(2)),
            (&[("own", 5, 3), ("own", 0, 5)], Some(8), Some(2)),
            (&[("own", 0, 5), ("own", 5, 3)], Some(5), Some(1)),
            (&[("own", 0, 5), ("own", 6, 2)], Some(8), None),
            (&[("other", 0, 5)], Some(5), None),
            (&[("own", 0, 5)], None, Some(0)),
        ];
        for (given, wanted, counted) in cases {
            let path = |(run, first, rows): &(&str, u64, u64)| {
                Path::from(format!("stage/{run}/{first:012}-{rows:08}.arrows"))
            };
            let paths = given.iter().map(path).collect::<Vec<_>>();
            let found = sorted_out(paths, &Path::from("stage/own"), wanted);
            assert_eq!(found.counted.as_ref().map(Vec::len), counted, "{given:?} {wanted:?}");
            let rest = given.len() - found.counted.map_or(0, |segments| segments.len());
            assert!(counted.is_none() || found.stale.len() == rest, "{given:?} {wanted:?}");
        }
    }
}
