//! The target: a root on local disk or in an object store, and what it does for each table.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use object_store::ObjectStore;

use crate::error::{Error, Result};
use crate::state;
use crate::write::files::destination::Destination;
use crate::write::files::local::folder::LocalFolder;
use crate::write::files::location::Location;
use crate::write::files::object::{self, Object};
use crate::write::files::options::FilesOptions;
use crate::write::files::owner;
use crate::write::files::sink::cannot_append;
use crate::write::files::state::location::StateLocation;
use crate::write::files::store::objects::StoreFolder;
use crate::write::files::writer::FilesWriter;
use crate::write::formats::memory_limit::MemoryLimit;
use crate::write::formats::settings::Settings;
use crate::write::leftovers::Leftovers;
use crate::write::owner::ExistingTable;
use crate::write::staging::rows::StagedRows;
use crate::write::staging::segment::StagedRun;
use crate::write::staging::{staging_dir, store};
use crate::write::storage::bucket::Bucket;
use crate::write::storage::cloud;
use crate::write::table::{Disposition, Table};
use crate::write::target::{CommitInfo, Deletable, Target, Watch, Writer};

/// A target of files: a folder on local disk, or a prefix in a bucket or container.
///
/// The `object` of a table is a path below the root. Its extension names the format: `.parquet`, `.jsonl` or
/// `.ndjson`, the latter two also with `.gz` or `.zst`. A `*` in the file name makes it a folder of parts:
/// `pages/*.parquet` becomes `pages/<run id>-00000.parquet` and so on (in an object store
/// `pages/<run id>-<attempt>-00000.parquet`), with a manifest `_weir.json` that lists the parts.
#[derive(Debug)]
pub struct Files {
    location: Location,
    settings: Settings,
    memory: Arc<MemoryLimit>,
    /// The state locations that were used, by replication: all writers of a replication share one.
    states: Mutex<HashMap<String, StateLocation>>,
}

impl Files {
    /// Checks on local disk that a folder can be made at the root: makes one and removes it. Does nothing for an
    /// object store.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn try_out(&self) -> Result<()> {
        match &self.location {
            Location::Local(folder) => folder.try_out(),
            Location::Store(_) => Ok(()),
        }
    }

    /// A target at the root of these options. Sends no request.
    ///
    /// # Errors
    /// The root has an unknown scheme, the object store does not know a setting, or a setting is out of its
    /// range.
    pub fn new(options: &FilesOptions) -> Result<Self> {
        options.files.check()?;
        Ok(match cloud::scheme(&options.root)? {
            cloud::Scheme::Local(path) => Self::in_folder(path, options.files),
            scheme => {
                let bucket = cloud::connect(&scheme, &options.root, &options.settings)?;
                Self::in_bucket(bucket, options.files)
            }
        })
    }

    /// Files in an object store that is already connected, below `prefix`. `shown` is how messages name the
    /// root.
    pub fn in_store(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        shown: &str,
        files: Settings,
    ) -> Self {
        Self::in_bucket(Bucket::new(store, prefix, shown), files)
    }

    fn in_bucket(bucket: Bucket, files: Settings) -> Self {
        Self::at(Location::Store(Arc::new(StoreFolder::new(bucket))), files)
    }

    /// Files in a folder on local disk.
    pub fn in_folder(folder: impl Into<PathBuf>, files: Settings) -> Self {
        Self::at(Location::Local(Arc::new(LocalFolder::new(folder.into()))), files)
    }

    fn at(location: Location, settings: Settings) -> Self {
        Self { location, settings, memory: Arc::default(), states: Mutex::default() }
    }

    fn state(&self, replication: &str) -> StateLocation {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || match &self.location {
            Location::Local(folder) => StateLocation::in_folder(folder.root(), replication),
            Location::Store(folder) => StateLocation::in_bucket(folder.bucket(), replication),
        };
        states.entry(replication.to_owned()).or_insert_with(new).clone()
    }
}

impl Files {
    async fn has(&self, table: &Table, object: &Object) -> Result<bool> {
        match &self.location {
            Location::Local(folder) => Ok(folder.has(object)),
            Location::Store(folder) => folder.has(table, object).await,
        }
    }
}

#[async_trait]
impl Target for Files {
    fn accepts(&self, table: &Table) -> Result<()> {
        let object = Object::parse(&table.object)?;
        check_table(table, &object, table.files.unwrap_or(self.settings))
    }

    fn sample_object(&self, object: &str) -> Result<String> {
        Object::parse(object)?;
        Ok(object::beside(object))
    }

    async fn check(&self) -> Result<()> {
        match &self.location {
            Location::Local(folder) => folder.check(),
            Location::Store(folder) => folder.bucket().check().await,
        }
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        self.accepts(table)?;
        let object = Object::parse(&table.object)?;
        let schema = table.schema.staged();
        let run = StagedRun { run_id: &table.run_id, rows: staged };
        let (staged, destination) = match &self.location {
            Location::Local(folder) => {
                let dir = folder.claim(table, &object).await?;
                folder.check_object(&dir, table, &object)?;
                let staged = StagedRows::local(&dir, &schema, run)?;
                (staged, Destination::Local { folder: Arc::clone(folder), dir })
            }
            Location::Store(folder) => {
                folder.check_object(table, &object).await?;
                let path = folder.staging(table, &object);
                let staged = StagedRows::store(folder.bucket(), path, &schema, run).await?;
                (staged, Destination::Store(Arc::clone(folder)))
            }
        };
        let Some(staged) = staged else { return Ok(None) };
        let writer = FilesWriter {
            table: table.clone(),
            object,
            settings: table.files.unwrap_or(self.settings),
            memory: Arc::clone(&self.memory),
            location: self.location.clone(),
            destination,
            state: self.state(&table.replication),
            staged,
        };
        writer.check_existing().await?;
        Ok(Some(Box::new(writer)))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        let object = Object::parse(&table.object)?;
        if self.has(table, &object).await? {
            return Ok(table.object.clone());
        }
        let table = Table { disposition: Disposition::Replace, ..table.clone() };
        let writer = self.open(&table, None).await?;
        let writer = writer.expect("a writer that starts over needs no staged rows");
        let nothing = CommitInfo {
            deletable: Deletable::ReadParents,
            at: chrono::DateTime::UNIX_EPOCH,
            discarded_slices: Vec::new(),
        };
        Ok(writer.commit(&nothing, &[]).await?.object)
    }

    async fn check_table(&self, table: &Table) -> Result<()> {
        let object = Object::parse(&table.object)?;
        if table.disposition != Disposition::Append || object.parts.is_some() {
            return Ok(());
        }
        match &self.location {
            Location::Local(folder) if folder.has(&object) => {
                Err(cannot_append(&folder.path(&object).display().to_string()))
            }
            Location::Local(_) => Ok(()),
            Location::Store(folder) => folder.check_object(table, &object).await,
        }
    }

    async fn missing_part(&self, table: &Table) -> Result<Option<String>> {
        let object = Object::parse(&table.object)?;
        if !self.has(table, &object).await? {
            return Ok(Some(format!("`{}` no longer exists", table.object)));
        }
        let missing = match &self.location {
            Location::Local(folder) => folder.missing_column(&object, &table.schema)?,
            // The columns of a file in a store are known only when the file is fetched.
            Location::Store(_) => None,
        };
        Ok(missing
            .map(|column| format!("column `{column}` of `{}` no longer exists", table.object)))
    }

    async fn existing(&self, table: &Table) -> Result<Option<ExistingTable>> {
        let object = Object::parse(&table.object)?;
        let is_there = self.has(table, &object).await?
            && match &self.location {
                // A file in the place of a folder, or the reverse, fails the stream that is to write it.
                Location::Local(folder) => folder.path(&object).is_dir() == object.parts.is_some(),
                Location::Store(_) => true,
            };
        if !is_there {
            return Ok(None);
        }
        owner::existing(&self.location, object, table.disposition).await.map(Some)
    }

    async fn tidy(&self, leftovers: &Leftovers) -> Result<()> {
        match &self.location {
            Location::Local(folder) => staging_dir::tidy(folder.root(), leftovers),
            Location::Store(folder) => store::tidy(folder.bucket(), leftovers).await?,
        }
        Ok(())
    }

    fn set_watch(&self, _: Watch) {}

    async fn is_staged(&self, table: &Table, staged: u64) -> Result<bool> {
        let object = Object::parse(&table.object)?;
        let run = StagedRun { run_id: &table.run_id, rows: Some(staged) };
        match &self.location {
            Location::Local(folder) => {
                let dir = staging_dir::path(folder.root(), &object.path);
                Ok(StagedRows::is_local(&dir, run))
            }
            Location::Store(folder) => {
                let path = folder.staging(table, &object);
                StagedRows::is_in_store(folder.bucket(), &path, run).await
            }
        }
    }

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        let object = Object::parse(&table.object)?;
        match &self.location {
            Location::Local(folder) if folder.has(&object) => folder.count_live(&object).map(Some),
            Location::Local(_) | Location::Store(_) => Ok(None),
        }
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn state::Store>> {
        Ok(self.state(replication).store())
    }
}

fn check_table(table: &Table, object: &Object, settings: Settings) -> Result<()> {
    settings.check()?;
    if table.disposition == Disposition::Merge && table.schema.key.is_empty() {
        let what = format!("stream `{}` has no key to merge its rows by", table.stream);
        return Err(Error::input(what)
            .with_hint("declare its `key` in the spec, or use the mode full-refresh"));
    }
    if settings.max_file_bytes.is_some() && object.parts.is_none() {
        let message =
            format!("`{}` is a single file, which a size limit cannot split", table.object);
        return Err(Error::input(message).with_hint(
            "put a `*` in the file name, as in `pages/*.parquet`, or leave the size limit out",
        ));
    }
    Ok(())
}
