//! An object of a table in an object store: a single object, or a folder of parts.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};

use crate::error::{Error, Result};
use crate::write::files::manifest::{self, Manifest};
use crate::write::files::object::Object;
use crate::write::files::sink::cannot_append;
use crate::write::storage::bucket;

/// An object of a table in the store, and what a commit makes of it.
#[derive(Debug)]
pub(crate) struct StoreObject {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) object: Object,
    /// The object, or the folder of the parts.
    pub(crate) path: Path,
    pub(crate) shown: String,
    /// Whether existing parts stay.
    pub(crate) keep: bool,
    pub(crate) run: String,
    /// Part of the names of new parts. It differs from attempt to attempt: a run that publishes once more must
    /// not overwrite published parts, because a process that dies meanwhile would leave a mixture.
    pub(crate) attempt: u32,
}

impl StoreObject {
    pub(crate) fn part_name(&self, part: usize) -> String {
        self.object.part_name(&format!("{}-{:08x}", self.run, self.attempt), part)
    }

    pub(crate) fn part_path(&self, part: usize) -> Path {
        match self.object.parts {
            Some(_) => self.path.clone().join(self.part_name(part)),
            None => self.path.clone(),
        }
    }

    pub(crate) fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        bucket::failed(what, &self.shown, error)
    }

    /// The manifest of the existing folder, or an empty one.
    ///
    /// # Errors
    /// The new content cannot replace what is at the path.
    pub(crate) async fn existing(&self) -> Result<Manifest> {
        if self.object.parts.is_none() {
            return self.existing_file().await;
        }
        let listing = self.store.list_with_delimiter(Some(&self.path)).await;
        let listing = listing.map_err(|error| self.failed("list", &error))?;
        let objects = listing.objects.iter().map(|meta| &meta.location);
        let names = objects.chain(&listing.common_prefixes).filter_map(|path| path.filename());
        let names: Vec<String> = names.map(ToOwned::to_owned).collect();
        let manifest = if names.iter().any(|name| name == manifest::NAME) {
            let bytes = self.get(&self.path.clone().join(manifest::NAME)).await;
            Manifest::parse(&bytes.map_err(|error| self.failed("read", &error))?, &self.shown)?
        } else {
            Manifest::default()
        };
        manifest.refuse_foreign(&names, &self.shown)?;
        Ok(manifest)
    }

    async fn existing_file(&self) -> Result<Manifest> {
        if !self.keep {
            return Ok(Manifest::default());
        }
        match self.store.head(&self.path).await {
            Ok(_) => Err(cannot_append(&self.shown)),
            Err(object_store::Error::NotFound { .. }) => Ok(Manifest::default()),
            Err(error) => Err(self.failed("look at", &error)),
        }
    }

    async fn get(&self, path: &Path) -> object_store::Result<Bytes> {
        self.store.get(path).await?.bytes().await
    }

    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        let put = self.store.put(path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(|error| self.failed("write", &error))
    }

    pub(crate) async fn put_manifest(
        &self,
        files: Vec<String>,
        leftovers: Vec<String>,
    ) -> Result<()> {
        let manifest = Manifest { run_id: self.run.clone(), files, leftovers };
        self.put(&self.path.clone().join(manifest::NAME), manifest.bytes()).await
    }

    /// Deletes parts; `false` when one of them may still be there. The next run then deletes it.
    pub(crate) async fn delete(&self, names: &[String]) -> bool {
        let unique: BTreeSet<&String> = names.iter().collect();
        let path = |name: &String| Ok(self.path.clone().join(name.as_str()));
        let paths: Vec<_> = unique.into_iter().map(path).collect();
        let mut deleted = self.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let mut all = true;
        while let Some(result) = deleted.next().await {
            all &= matches!(result, Ok(_) | Err(object_store::Error::NotFound { .. }));
        }
        all
    }
}
