//! Uploads in pieces.

use std::sync::Arc;

use bytes::Bytes;
use object_store::MultipartUpload;
use tokio::{sync::Semaphore, task::JoinSet};

/// One upload in pieces; aborted when it is dropped before it is complete.
#[derive(Debug)]
pub(crate) struct Upload {
    /// `None` once it is completed.
    upload: Option<Box<dyn MultipartUpload>>,
    pieces: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self { upload: Some(upload), pieces: JoinSet::new() }
    }

    /// Starts sending a piece as soon as the semaphore has a permit.
    pub(crate) async fn send(
        &mut self,
        piece: Bytes,
        in_flight: &Arc<Semaphore>,
    ) -> object_store::Result<()> {
        while let Some(done) = self.pieces.try_join_next() {
            done.map_err(object_store::Error::from)??;
        }
        let upload = self.upload.as_mut().expect("a completed upload gets no more pieces");
        let permit = Arc::clone(in_flight).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let sending = upload.put_part(piece.into());
        self.pieces.spawn(async move {
            let sent = sending.await;
            drop(permit);
            sent
        });
        Ok(())
    }

    /// Waits for all pieces, then completes the upload; does nothing when it is complete.
    pub(crate) async fn complete(&mut self) -> object_store::Result<()> {
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
        // Best effort: the bucket's lifecycle rules remove uploads that stay incomplete.
        runtime.spawn(async move {
            pieces.shutdown().await;
            upload.abort().await.ok();
        });
    }
}
