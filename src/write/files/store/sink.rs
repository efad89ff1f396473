//! The new content of an object in a store: uploads that stay invisible until the commit completes them.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::ObjectStoreExt;
use tokio::sync::Semaphore;

use crate::error::Result;
use crate::write::files::sink::{Sink, counted};
use crate::write::files::store::object::StoreObject;
use crate::write::files::store::upload::Upload;

/// Bytes of one piece of an upload: the minimum of S3, whose limit of 10,000 pieces then allows objects of
/// 48 GiB. Each open writer holds up to one piece.
const PIECE: usize = 5 * 1024 * 1024;

/// Writes one table to an object store.
#[derive(Debug)]
pub(crate) struct StoreSink {
    object: StoreObject,
    in_flight: Arc<Semaphore>,
    /// Bytes of the current part that are not yet being sent; at most [`PIECE`] and a chunk.
    buffer: Vec<u8>,
    /// The upload of the current part, once the part is larger than one piece.
    upload: Option<Upload>,
    /// Uploads of ended parts, which the commit completes.
    ended: Vec<Upload>,
    /// Number of the current part, from 0.
    part: usize,
}

impl StoreSink {
    /// A sink for an object; at most as many pieces as the semaphore has permits are in flight at once.
    pub(crate) fn new(object: StoreObject, in_flight: Arc<Semaphore>) -> Self {
        Self { object, in_flight, buffer: Vec::new(), upload: None, ended: Vec::new(), part: 0 }
    }

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
        sent.map_err(|error| self.object.failed("write", &error))
    }

    async fn begin(&mut self) -> Result<Upload> {
        let path = self.object.part_path(self.part);
        let begun = self.object.store.put_multipart(&path).await;
        let upload = begun.map_err(|error| self.object.failed("write", &error))?;
        Ok(Upload::new(upload))
    }

    /// Completes all parts: the last one as one object when it is small, the others as uploads.
    async fn complete(&mut self) -> Result<()> {
        for upload in &mut self.ended {
            upload.complete().await.map_err(|error| self.object.failed("write", &error))?;
        }
        if self.upload.is_some() && !self.buffer.is_empty() {
            self.send(usize::MAX).await?;
        }
        if let Some(upload) = &mut self.upload {
            return upload.complete().await.map_err(|error| self.object.failed("write", &error));
        }
        let bytes = std::mem::take(&mut self.buffer);
        self.object.put(&self.object.part_path(self.part), bytes).await
    }

    async fn publish_folder(&mut self, rows: u64) -> Result<usize> {
        let existing = self.object.existing().await?;
        if rows == 0 && self.object.keep && !existing.files.is_empty() {
            return Ok(0);
        }
        let new: Vec<String> = (0..=self.part).map(|part| self.object.part_name(part)).collect();
        // Until all parts are there, the manifest lists them as leftovers: when this process dies, the next
        // run deletes them.
        let pending = existing.leftovers.iter().chain(&new).cloned().collect();
        self.object.put_manifest(existing.files.clone(), pending).await?;
        self.complete().await?;
        // A process of this run that died before it saved its state has written parts of this run.
        let kept = |part: &String| {
            self.object.keep && !self.object.object.is_of_run(part, &self.object.run)
        };
        let (mut files, others): (Vec<String>, Vec<String>) =
            existing.files.into_iter().partition(kept);
        let mut gone = existing.leftovers;
        gone.extend(others);
        files.extend(new.iter().cloned());
        self.object.put_manifest(files.clone(), gone.clone()).await?;
        if !gone.is_empty() && self.object.delete(&gone).await {
            self.object.put_manifest(files, Vec::new()).await?;
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
        // Even a small part goes to the store when it ends: parts must not pile up in memory.
        if !self.buffer.is_empty() || self.upload.is_none() {
            self.send(usize::MAX).await?;
        }
        self.ended.extend(self.upload.take());
        self.part += 1;
        Ok(())
    }

    async fn publish(mut self: Box<Self>, rows: u64) -> Result<String> {
        if self.object.object.parts.is_none() {
            self.object.existing().await?;
            self.complete().await?;
            return Ok(self.object.shown.clone());
        }
        let files = self.publish_folder(rows).await?;
        Ok(counted(&self.object.shown, files))
    }
}
