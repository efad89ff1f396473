//! Files in an object store: uploads that stay invisible until they are completed at commit.
//!
//! A single object is replaced by one completed upload. A folder of parts cannot be replaced in one
//! step: its new parts are completed first, then the manifest names them, then the old parts are
//! deleted. A reader that must never see a mixture reads the manifest.
//!
//! Objects have no lock, only replications have (`lease.rs`): two replications must not write one object.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Sink, home,
    local::{cannot_append, counted},
    manifest::{self, Manifest},
    object::{Object, label},
};
use crate::error::{Error, Kind, Result};
use crate::write::{Disposition, Table};

/// Bytes of one piece of an upload: the least that S3 takes, and with its 10,000 pieces enough for
/// objects of 48 GiB. Each open writer holds up to one piece.
const PIECE: usize = 5 * 1024 * 1024;
/// Pieces on their way at once, of all writers of the target together.
const IN_FLIGHT: usize = 4;

/// A bucket or container, and a prefix in it.
#[derive(Debug)]
pub(super) struct Store {
    bucket: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
    in_flight: Arc<Semaphore>,
}

impl Store {
    pub(super) fn new(store: Arc<dyn ObjectStore>, prefix: &str, shown: &str) -> Self {
        let shown = shown.trim_end_matches('/').to_owned();
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        Self { bucket: store, prefix: Path::from(prefix), shown, in_flight }
    }

    /// Whether the prefix can be listed.
    pub(super) async fn check(&self) -> Result<()> {
        let mut listing = self.bucket.list(Some(&self.prefix));
        match listing.next().await {
            Some(Err(error)) => Err(failed("list", &self.shown, &error)),
            _ => Ok(()),
        }
    }

    /// A path below the prefix.
    pub(super) fn below(&self, path: &str) -> Path {
        self.prefix.parts().chain(Path::from(path).parts()).collect()
    }

    /// Where the rows of a table are staged.
    pub(super) fn staging(&self, table: &Table, object: &Object) -> Path {
        let own = home::unique(&table.replication);
        self.below(&format!("{}/{own}/{}", home::STAGES, home::unique(&object.path)))
    }

    pub(super) fn bucket(&self) -> &Arc<dyn ObjectStore> {
        &self.bucket
    }

    /// The root as a person should read it.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    fn goal(&self, table: &Table, object: Object) -> Goal {
        Goal {
            store: Arc::clone(&self.bucket),
            shown: format!("{}/{}", self.shown, object.path),
            place: self.below(&object.path),
            object,
            keep: table.disposition == Disposition::Append,
            run: label(&table.run_id),
            attempt: 0,
        }
    }

    /// The files of an object as it is, each with its size in bytes.
    pub(super) async fn old(&self, table: &Table, object: Object) -> Result<Vec<(Path, u64)>> {
        let goal = self.goal(table, object);
        let manifest = goal.old().await?;
        let names = match goal.object.parts {
            Some(_) => manifest.files,
            None => vec![String::new()],
        };
        let mut files = Vec::new();
        for name in names {
            let place = goal.place.clone();
            let path = if name.is_empty() { place } else { place.join(name.as_str()) };
            match goal.store.head(&path).await {
                Ok(meta) => files.push((path, meta.size)),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(goal.failed("look at", &error)),
            }
        }
        Ok(files)
    }

    /// Whether a run has written the object, be it without rows.
    pub(super) async fn has(&self, table: &Table, object: Object) -> Result<bool> {
        if object.parts.is_none() {
            return Ok(!self.old(table, object).await?.is_empty());
        }
        Ok(!self.goal(table, object).old().await?.run_id.is_empty())
    }

    pub(super) async fn open(&self, table: &Table, object: Object) -> Result<StoreSink> {
        let mut goal = self.goal(table, object);
        goal.old().await?;
        let mut random = [0_u8; 4];
        getrandom::fill(&mut random)
            .map_err(|error| Error::target("there is no randomness").because(error.to_string()))?;
        goal.attempt = u32::from_le_bytes(random);
        Ok(StoreSink {
            goal,
            in_flight: Arc::clone(&self.in_flight),
            buffer: Vec::new(),
            upload: None,
            ended: Vec::new(),
            part: 0,
        })
    }
}

/// What a writer is to leave in the store.
#[derive(Debug)]
struct Goal {
    store: Arc<dyn ObjectStore>,
    object: Object,
    /// The object, or the folder of the parts.
    place: Path,
    shown: String,
    /// Whether old parts stay.
    keep: bool,
    run: String,
    /// Part of the names of new parts: a run that publishes once more must not write over those that
    /// count, lest dying in the middle mixes both.
    attempt: u32,
}

impl Goal {
    fn name(&self, part: usize) -> String {
        self.object.part_name(&format!("{}-{:08x}", self.run, self.attempt), part)
    }

    fn path(&self, part: usize) -> Path {
        match self.object.parts {
            Some(_) => self.place.clone().join(self.name(part)),
            None => self.place.clone(),
        }
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        failed(what, &self.shown, error)
    }

    /// The folder's manifest, or an empty one; fails where the new content must not go.
    async fn old(&self) -> Result<Manifest> {
        if self.object.parts.is_none() {
            return self.old_file().await;
        }
        let listing = self.store.list_with_delimiter(Some(&self.place)).await;
        let listing = listing.map_err(|error| self.failed("list", &error))?;
        let objects = listing.objects.iter().map(|meta| &meta.location);
        let names = objects.chain(&listing.common_prefixes).filter_map(|path| path.filename());
        let names: Vec<String> = names.map(ToOwned::to_owned).collect();
        let manifest = if names.iter().any(|name| name == manifest::NAME) {
            let bytes = self.get(&self.place.clone().join(manifest::NAME)).await;
            Manifest::parse(&bytes.map_err(|error| self.failed("read", &error))?, &self.shown)?
        } else {
            Manifest::default()
        };
        manifest.refuse_foreign(&names, &self.shown)?;
        Ok(manifest)
    }

    async fn old_file(&self) -> Result<Manifest> {
        if !self.keep {
            return Ok(Manifest::default());
        }
        match self.store.head(&self.place).await {
            Ok(_) => Err(cannot_append(&self.shown)),
            Err(object_store::Error::NotFound { .. }) => Ok(Manifest::default()),
            Err(error) => Err(self.failed("look at", &error)),
        }
    }

    async fn get(&self, path: &Path) -> object_store::Result<Bytes> {
        self.store.get(path).await?.bytes().await
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|error| self.failed("write", &error))
    }

    async fn put_manifest(&self, files: Vec<String>, leftovers: Vec<String>) -> Result<()> {
        let manifest = Manifest { run_id: self.run.clone(), files, leftovers };
        self.put(&self.place.clone().join(manifest::NAME), manifest.bytes()).await
    }

    /// Deletes parts; `false` when one may still be there, which the next run then deletes.
    async fn delete(&self, names: &[String]) -> bool {
        let unique: BTreeSet<&String> = names.iter().collect();
        let path = |name: &String| Ok(self.place.clone().join(name.as_str()));
        let paths: Vec<_> = unique.into_iter().map(path).collect();
        let mut deleted = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let mut all = true;
        while let Some(result) = deleted.next().await {
            all &= matches!(result, Ok(_) | Err(object_store::Error::NotFound { .. }));
        }
        all
    }
}

/// Writes one table to an object store.
#[derive(Debug)]
pub(super) struct StoreSink {
    goal: Goal,
    in_flight: Arc<Semaphore>,
    /// Bytes of the present part that are not yet on their way; at most [`PIECE`] and a chunk.
    buffer: Vec<u8>,
    /// The upload of the present part, once it is larger than one piece.
    upload: Option<Upload>,
    /// Uploads of ended parts, to be completed at commit.
    ended: Vec<Upload>,
    /// Number of the present part.
    part: usize,
}

impl StoreSink {
    /// Sends the first bytes of the buffer as one piece of an upload.
    async fn send(&mut self, length: usize) -> Result<()> {
        let rest = self.buffer.split_off(length.min(self.buffer.len()));
        let piece = std::mem::replace(&mut self.buffer, rest);
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.begin().await?,
        };
        let sent = upload.send(piece.into(), &self.in_flight).await;
        self.upload = Some(upload);
        sent.map_err(|error| self.goal.failed("write", &error))
    }

    async fn begin(&mut self) -> Result<Upload> {
        let path = self.goal.path(self.part);
        let begun = self.goal.store.put_multipart(&path).await;
        let upload = begun.map_err(|error| self.goal.failed("write", &error))?;
        Ok(Upload { upload: Some(upload), pieces: JoinSet::new() })
    }

    /// Completes all parts: the last as one object when it is small, the others as uploads.
    async fn complete(&mut self) -> Result<()> {
        for upload in &mut self.ended {
            upload.complete().await.map_err(|error| self.goal.failed("write", &error))?;
        }
        if self.upload.is_some() && !self.buffer.is_empty() {
            self.send(usize::MAX).await?;
        }
        if let Some(upload) = &mut self.upload {
            return upload.complete().await.map_err(|error| self.goal.failed("write", &error));
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.goal.put(&self.goal.path(self.part), bytes).await
    }

    async fn publish_folder(&mut self, rows: u64) -> Result<usize> {
        let old = self.goal.old().await?;
        if rows == 0 && self.goal.keep && !old.files.is_empty() {
            return Ok(0);
        }
        let new: Vec<String> = (0..=self.part).map(|part| self.goal.name(part)).collect();
        // Until all parts are there, they are nobody's: a run that dies here leaves names that the
        // next one deletes.
        let pending = old.leftovers.iter().chain(&new).cloned().collect();
        self.goal.put_manifest(old.files.clone(), pending).await?;
        self.complete().await?;
        // Parts of this very run were written by a process that died before it could say so.
        let kept =
            |part: &String| self.goal.keep && !self.goal.object.is_of_run(part, &self.goal.run);
        let (mut files, others): (Vec<String>, Vec<String>) = old.files.into_iter().partition(kept);
        let mut gone = old.leftovers;
        gone.extend(others);
        files.extend(new.iter().cloned());
        self.goal.put_manifest(files.clone(), gone.clone()).await?;
        if !gone.is_empty() && self.goal.delete(&gone).await {
            self.goal.put_manifest(files, Vec::new()).await?;
        }
        Ok(new.len())
    }
}

#[async_trait]
impl Sink for StoreSink {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= PIECE {
            self.send(PIECE).await?;
        }
        Ok(())
    }

    async fn end_part(&mut self) -> Result<()> {
        // However small, an ended part goes to the store: parts must not pile up in memory.
        if !self.buffer.is_empty() || self.upload.is_none() {
            self.send(usize::MAX).await?;
        }
        self.ended.extend(self.upload.take());
        self.part += 1;
        Ok(())
    }

    async fn publish(mut self: Box<Self>, rows: u64) -> Result<String> {
        if self.goal.object.parts.is_none() {
            self.goal.old().await?;
            self.complete().await?;
            return Ok(self.goal.shown.clone());
        }
        let files = self.publish_folder(rows).await?;
        Ok(counted(&self.goal.shown, files))
    }
}

/// One upload in pieces; given up when dropped before it is completed.
#[derive(Debug)]
struct Upload {
    /// `None` once it is completed.
    upload: Option<Box<dyn MultipartUpload>>,
    pieces: JoinSet<object_store::Result<()>>,
}

impl Upload {
    async fn send(&mut self, piece: Bytes, in_flight: &Arc<Semaphore>) -> object_store::Result<()> {
        while let Some(done) = self.pieces.try_join_next() {
            done.map_err(object_store::Error::from)??;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        // The semaphore is never closed.
        let permit = Arc::clone(in_flight).acquire_owned().await.ok();
        let sending = upload.put_part(piece.into());
        self.pieces.spawn(async move {
            let sent = sending.await;
            drop(permit);
            sent
        });
        Ok(())
    }

    async fn complete(&mut self) -> object_store::Result<()> {
        while let Some(done) = self.pieces.join_next().await {
            done.map_err(object_store::Error::from)??;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        upload.complete().await?;
        self.upload = None;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut pieces = std::mem::take(&mut self.pieces);
        // Best effort: what is not given up now, the bucket's lifecycle rules remove.
        runtime.spawn(async move {
            pieces.shutdown().await;
            upload.abort().await.ok();
        });
    }
}

pub(super) fn failed(what: &str, shown: &str, error: &object_store::Error) -> Error {
    use object_store::Error as Cause;
    let text = without_queries(&error.to_string());
    let refused = ["401 Unauthorized", "403 Forbidden"].iter().any(|word| text.contains(word));
    let (kind, hint) = match error {
        Cause::PermissionDenied { .. } | Cause::Unauthenticated { .. } => (Kind::Credentials, KEYS),
        _ if refused => (Kind::Credentials, KEYS),
        Cause::NotFound { .. } => (Kind::Target, "check the name of the bucket or container"),
        _ => {
            (Kind::Target, "check the connection's region and endpoint, and whether it is reached")
        }
    };
    Error::new(kind, format!("cannot {what} `{shown}`")).because(text).with_hint(hint)
}

const KEYS: &str = "check the connection's keys and what they may do in the bucket";

/// A text whose URLs have no query: some stores take their credentials there.
fn without_queries(text: &str) -> String {
    let cut = |word: &str| match word.split_once('?') {
        Some((path, _)) if path.contains("://") => path.to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(cut).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_cut_from_urls_only() {
        let text = without_queries("GET https://a.b/c?sig=hunter2&x in 1 ms: why?");
        assert_eq!(text, "GET https://a.b/c in 1 ms: why?");
    }
}
