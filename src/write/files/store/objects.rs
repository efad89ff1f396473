//! Files in an object store: uploads that stay invisible until they are completed at commit.
//!
//! One completed upload replaces a single object. A folder of parts cannot be replaced in one step: the commit
//! completes the new parts, then names them in the manifest, then deletes the existing parts. A reader that
//! must never see a mixture reads the manifest.
//!
//! Objects have no lock, only replications have: two replications must not write the same object.

use std::sync::Arc;

use object_store::{ObjectStoreExt, path::Path};
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::write::files::object::Object;
use crate::write::files::store::object::StoreObject;
use crate::write::files::store::sink::StoreSink;
use crate::write::staging::names::{STAGES, label, unique};
use crate::write::storage::bucket::Bucket;
use crate::write::table::{Disposition, Table};

/// Pieces in flight at once, of all writers of the target together.
const IN_FLIGHT: usize = 4;

/// The files of a target below a prefix of a bucket.
#[derive(Debug)]
pub(crate) struct StoreFolder {
    bucket: Bucket,
    in_flight: Arc<Semaphore>,
}

/// A file of an object in a store.
#[derive(Debug)]
pub(crate) struct StoredFile {
    /// Its absolute path in the bucket.
    pub(crate) path: Path,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl StoreFolder {
    pub(crate) fn new(bucket: Bucket) -> Self {
        Self { bucket, in_flight: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }

    /// The bucket.
    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Path of the staged rows of a table.
    pub(crate) fn staging(&self, table: &Table, object: &Object) -> Path {
        let (replication, object) = (unique(&table.replication), unique(&object.path));
        self.bucket.below(&format!("{STAGES}/{replication}/{object}"))
    }

    fn object(&self, table: &Table, object: &Object) -> StoreObject {
        StoreObject {
            store: Arc::clone(self.bucket.store()),
            shown: format!("{}/{}", self.bucket.shown(), object.path),
            path: self.bucket.below(&object.path),
            object: object.clone(),
            keep: table.disposition == Disposition::Append,
            run: label(&table.run_id),
            attempt: 0,
        }
    }

    /// Checks that the object's new content can replace what is there.
    pub(crate) async fn check_object(&self, table: &Table, object: &Object) -> Result<()> {
        self.object(table, object).existing().await.map(drop)
    }

    /// The files of the existing object.
    pub(crate) async fn files(&self, table: &Table, object: &Object) -> Result<Vec<StoredFile>> {
        let object = self.object(table, object);
        let manifest = object.existing().await?;
        let paths = match object.object.parts {
            Some(_) => {
                let path = |name: &String| object.path.clone().join(name.as_str());
                manifest.files.iter().map(path).collect()
            }
            None => vec![object.path.clone()],
        };
        let mut files = Vec::new();
        for path in paths {
            match object.store.head(&path).await {
                Ok(meta) => files.push(StoredFile { path, size: meta.size }),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(object.failed("look at", &error)),
            }
        }
        Ok(files)
    }

    /// Whether a run has written the object, even without rows.
    pub(crate) async fn has(&self, table: &Table, object: &Object) -> Result<bool> {
        if object.parts.is_none() {
            return Ok(!self.files(table, object).await?.is_empty());
        }
        Ok(!self.object(table, object).existing().await?.run_id.is_empty())
    }

    /// A sink for the new content of an object.
    pub(crate) async fn sink(&self, table: &Table, object: &Object) -> Result<StoreSink> {
        let mut object = self.object(table, object);
        object.existing().await?;
        let mut random = [0_u8; 4];
        getrandom::fill(&mut random).map_err(|error| {
            Error::target("the system provides no random numbers").because(error.to_string())
        })?;
        object.attempt = u32::from_le_bytes(random);
        Ok(StoreSink::new(object, Arc::clone(&self.in_flight)))
    }
}
