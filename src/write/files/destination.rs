//! An object while it is written: its existing files, and the sink for its new content.

use std::{path::PathBuf, sync::Arc};

use object_store::ObjectStoreExt;

use crate::error::{Error, Result};
use crate::write::files::local::folder::LocalFolder;
use crate::write::files::object::Object;
use crate::write::files::sink::Sink;
use crate::write::files::store::objects::{StoreFolder, StoredFile};
use crate::write::formats::existing::ExistingFile;
use crate::write::staging::staging_dir::StagingDir;
use crate::write::storage::bucket;
use crate::write::table::Table;

/// Largest file of an object store that weir merges into, in bytes: it is read into memory.
const MAX_STORED_FILE: u64 = 256 << 20;

/// Where an object is written.
pub(crate) enum Destination {
    /// On local disk.
    Local {
        /// The target's root.
        folder: Arc<LocalFolder>,
        /// Holds the lock on the object.
        dir: Arc<StagingDir>,
    },
    /// In an object store.
    Store(Arc<StoreFolder>),
}

/// An existing file of an object, before it is opened.
pub(crate) enum FoundFile {
    Local(PathBuf),
    Stored { folder: Arc<StoreFolder>, file: StoredFile },
}

impl FoundFile {
    /// Opens the file; one in a store is read into memory.
    ///
    /// # Errors
    /// The file cannot be read, or is too large.
    pub(crate) async fn load(&self) -> Result<ExistingFile> {
        let (folder, file) = match self {
            Self::Local(path) => return Ok(ExistingFile::Local(path.clone())),
            Self::Stored { folder, file } => (folder, file),
        };
        let StoredFile { path, size } = file;
        let name = format!("{}/{path}", folder.bucket().shown());
        if *size > MAX_STORED_FILE {
            let what = format!("`{name}` has {size} bytes, too many to merge into");
            return Err(Error::target(what).with_hint(
                "write parts (`pages/*.parquet`) of at most 200 MiB: `files: { max_file_mib: 200 }`",
            ));
        }
        let wrong = |error| bucket::failed("read", &name, &error);
        let found = folder.bucket().store().get(path).await.map_err(wrong)?;
        let bytes = found.bytes().await.map_err(wrong)?;
        Ok(ExistingFile::Bytes { name, bytes })
    }
}

impl Destination {
    /// The existing files of an object.
    pub(crate) async fn existing_files(
        &self,
        table: &Table,
        object: &Object,
    ) -> Result<Vec<FoundFile>> {
        match self {
            Self::Local { folder, dir } => {
                let path = folder.path(object);
                if object.parts.is_none() {
                    let found = path.exists().then_some(FoundFile::Local(path));
                    return Ok(found.into_iter().collect());
                }
                let manifest = folder.manifest(dir, table, object)?;
                Ok(manifest.files.iter().map(|part| FoundFile::Local(path.join(part))).collect())
            }
            Self::Store(folder) => {
                let files = folder.files(table, object).await?.into_iter();
                let found = |file| FoundFile::Stored { folder: Arc::clone(folder), file };
                Ok(files.map(found).collect())
            }
        }
    }

    /// A sink for the new content of an object.
    pub(crate) async fn sink(&self, table: &Table, object: &Object) -> Result<Box<dyn Sink>> {
        Ok(match self {
            Self::Local { folder, dir } => Box::new(folder.sink(dir, table, object)?),
            Self::Store(folder) => Box::new(folder.sink(table, object).await?),
        })
    }
}
