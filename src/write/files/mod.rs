//! Rows to Parquet and JSONL files, on local disk or in an object store.
//!
//! Rows are staged as Arrow IPC until their commit. Then they are put together with the old ones where
//! the mode says so, an encoder turns them into bytes, and a sink carries the bytes to where they
//! become visible.

mod area;
mod budget;
mod cloud;
mod encode;
mod foreign;
mod home;
mod journal;
mod json;
mod lease;
mod ledger;
mod local;
mod manifest;
mod merge;
mod object;
mod old;
mod options;
mod out;
mod owner;
mod repeats;
mod sort;
mod stage;
mod store;
mod variables;
mod writer;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use object_store::ObjectStore;

use self::{
    budget::Budget, home::LocalStore, lease::RemoteStore, local::Local, object::Object,
    old::OldFile, stage::Staging, store::Store, writer::FilesWriter,
};
use crate::error::{Error, Result};
use crate::state;
use crate::write::{Disposition, Ending, Leftovers, Standing, Table, Target, Watch, Writer};

pub use self::ledger::LocalLedger;
pub use self::object::no_shell_variable;
pub use self::options::{FilesOptions, Settings};
pub use self::variables::with_variables;

/// A store of files: a folder on local disk, or a bucket or container and a prefix in it.
///
/// The `object` of a table is a path below the root. Its extension tells the format: `.parquet`,
/// `.jsonl` or `.ndjson`, the latter two also with `.gz` or `.zst`. A `*` in the file name makes it
/// a folder of parts: `pages/*.parquet` becomes `pages/<run id>-00000.parquet` and so on (in an object
/// store `pages/<run id>-<attempt>-00000.parquet`), beside a `_weir.json` that lists the parts.
#[derive(Debug)]
pub struct Files {
    place: Arc<Place>,
    settings: Settings,
    budget: Arc<Budget>,
    /// The states that were asked for: all who save in one share it.
    stores: Mutex<HashMap<String, Home>>,
}

/// Where the state of a replication is kept, and the lock on it.
#[derive(Clone, Debug)]
enum Home {
    Local(Arc<LocalStore>),
    Remote(Arc<RemoteStore>),
}

impl Home {
    fn store(&self) -> Arc<dyn state::Store> {
        match self {
            Self::Local(store) => Arc::<LocalStore>::clone(store),
            Self::Remote(store) => Arc::<RemoteStore>::clone(store),
        }
    }

    /// Refuses when the lock on the replication was taken here and is lost.
    fn check(&self) -> Result<()> {
        match self {
            // The system's lock lasts as long as its process.
            Self::Local(_) => Ok(()),
            Self::Remote(store) => store.check(),
        }
    }
}

#[derive(Debug)]
enum Place {
    Local(Local),
    Store(Store),
}

impl Files {
    /// Whether a folder can be made there, where it is on local disk: one is made, and removed.
    ///
    /// # Errors
    /// It cannot.
    pub fn try_out(&self) -> Result<()> {
        match self.place.as_ref() {
            Place::Local(local) => local.try_out(),
            Place::Store(_) => Ok(()),
        }
    }

    /// Resolves the root; talks to nobody.
    ///
    /// # Errors
    /// A root of an unknown scheme, a setting that the store does not know, or settings out of
    /// their range.
    pub fn new(options: &FilesOptions) -> Result<Self> {
        options.files.check()?;
        let place = match cloud::scheme(&options.root)? {
            cloud::Scheme::Local(path) => Place::Local(Local::new(path)),
            scheme => Place::Store(cloud::connect(&scheme, &options.root, &options.settings)?),
        };
        Ok(Self::at(place, options.files))
    }

    /// Files in a store that is already connected, below `prefix`; `shown` is the root as a person
    /// should read it.
    pub fn in_store(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        shown: &str,
        files: Settings,
    ) -> Self {
        Self::at(Place::Store(Store::new(store, prefix, shown)), files)
    }

    /// Files in a folder on local disk.
    pub fn in_folder(folder: impl Into<PathBuf>, files: Settings) -> Self {
        Self::at(Place::Local(Local::new(folder.into())), files)
    }

    fn at(place: Place, settings: Settings) -> Self {
        let place = Arc::new(place);
        Self { place, settings, budget: Arc::default(), stores: Mutex::default() }
    }

    fn home(&self, replication: &str) -> Home {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || match self.place.as_ref() {
            Place::Local(local) => {
                Home::Local(Arc::new(LocalStore::new(local.root(), replication)))
            }
            Place::Store(store) => {
                let place = store.below(&home::place(replication));
                let shown = store.shown();
                let remote = RemoteStore::new(store.bucket(), place, shown, replication);
                Home::Remote(Arc::new(remote))
            }
        };
        stores.entry(replication.to_owned()).or_insert_with(new).clone()
    }
}

#[async_trait]
impl Target for Files {
    fn accepts(&self, table: &Table) -> Result<()> {
        let object = Object::parse(&table.object)?;
        refuse_what_cannot_be(table, &object, table.files.unwrap_or(self.settings))
    }

    fn beside(&self, object: &str) -> Result<String> {
        Object::parse(object)?;
        Ok(object::beside(object))
    }

    async fn check(&self) -> Result<()> {
        match self.place.as_ref() {
            Place::Local(local) => local.check(),
            Place::Store(store) => store.check().await,
        }
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        self.accepts(table)?;
        let object = Object::parse(&table.object)?;
        let schema = table.schema.staged();
        let (staging, area) = match self.place.as_ref() {
            Place::Local(local) => {
                let area = local.claim(table, &object).await?;
                local.check_place(&area, table, &object)?;
                let staging = Staging::local(&area, &schema, &table.run_id, staged)?;
                (staging, Some(area))
            }
            Place::Store(store) => {
                store.old(table, object.clone()).await?;
                let place = store.staging(table, &object);
                let shown = (store.bucket(), store.shown());
                let run = (table.run_id.as_str(), staged);
                (Staging::store(shown, place, &schema, run).await?, None)
            }
        };
        let Some(staging) = staging else { return Ok(None) };
        let writer = FilesWriter {
            table: table.clone(),
            object,
            settings: table.files.unwrap_or(self.settings),
            budget: Arc::clone(&self.budget),
            place: Arc::clone(&self.place),
            home: self.home(&table.replication),
            staging,
            area,
        };
        writer.check_old().await?;
        Ok(Some(Box::new(writer)))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        let object = Object::parse(&table.object)?;
        let there = match self.place.as_ref() {
            Place::Local(local) => local.has(&object),
            Place::Store(store) => store.has(table, object).await?,
        };
        if there {
            return Ok(table.object.clone());
        }
        let table = Table { disposition: Disposition::Replace, ..table.clone() };
        let writer = self.open(&table, None).await?;
        let writer = writer.ok_or_else(|| Error::target("the object cannot be opened"))?;
        let nothing = Ending {
            seen: crate::write::Seen::Some,
            at: chrono::DateTime::UNIX_EPOCH,
            void: Vec::new(),
        };
        Ok(writer.commit(&nothing, &[]).await?.object)
    }

    async fn check_table(&self, table: &Table) -> Result<()> {
        let object = Object::parse(&table.object)?;
        if table.disposition != Disposition::Append || object.parts.is_some() {
            return Ok(());
        }
        match self.place.as_ref() {
            Place::Local(local) if local.has(&object) => {
                Err(local::cannot_append(&local.place(&object).display().to_string()))
            }
            Place::Local(_) => Ok(()),
            Place::Store(store) => store.old(table, object).await.map(drop),
        }
    }

    async fn lacks(&self, table: &Table) -> Result<Option<String>> {
        let object = Object::parse(&table.object)?;
        let (there, lost) = match self.place.as_ref() {
            Place::Local(local) => (local.has(&object), local.lost(&object, &table.schema)?),
            // To know its columns, a file of a store would have to be fetched.
            Place::Store(store) => (store.has(table, object).await?, None),
        };
        let object = &table.object;
        Ok(match lost {
            _ if !there => Some(format!("`{object}` is gone")),
            Some(column) => Some(format!("column `{column}` of `{object}` is gone")),
            None => None,
        })
    }

    async fn standing(&self, table: &Table) -> Result<Option<Standing>> {
        let object = Object::parse(&table.object)?;
        let there = match self.place.as_ref() {
            // What can be no object fails the stream that is to write it.
            Place::Local(local) => {
                local.has(&object) && local.place(&object).is_dir() == object.parts.is_some()
            }
            Place::Store(store) => store.has(table, object.clone()).await?,
        };
        if !there {
            return Ok(None);
        }
        owner::standing(&self.place, object, table.disposition).await.map(Some)
    }

    async fn tidy(&self, leftovers: &Leftovers) -> Result<()> {
        match self.place.as_ref() {
            Place::Local(local) => area::tidy(local.root(), leftovers),
            Place::Store(store) => {
                let shown = (store.bucket(), store.shown());
                stage::tidy(shown, store.below(home::STAGES), leftovers).await?;
            }
        }
        Ok(())
    }

    fn attend(&self, _: Watch) {}

    async fn is_staged(&self, table: &Table, staged: u64) -> Result<bool> {
        let object = Object::parse(&table.object)?;
        match self.place.as_ref() {
            Place::Local(local) => {
                let area = area::path(local.root(), &object.path);
                Ok(Staging::is_local(&area, &table.run_id, staged))
            }
            Place::Store(store) => {
                let shown = (store.bucket(), store.shown());
                Staging::is_in_store(shown, &store.staging(table, &object), (&table.run_id, staged))
                    .await
            }
        }
    }

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        let object = Object::parse(&table.object)?;
        match self.place.as_ref() {
            Place::Local(local) if local.has(&object) => {
                let files = local.files(&object)?.into_iter().map(OldFile::Local);
                let format = object.format;
                files.map(|file| file.count(format)).sum::<Result<u64>>().map(Some)
            }
            Place::Local(_) | Place::Store(_) => Ok(None),
        }
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn state::Store>> {
        Ok(self.home(replication).store())
    }
}

fn refuse_what_cannot_be(table: &Table, object: &Object, settings: Settings) -> Result<()> {
    settings.check()?;
    if table.disposition == Disposition::Merge && table.schema.key.is_empty() {
        let what = format!("stream `{}` has no key to merge its rows by", table.stream);
        return Err(Error::input(what)
            .with_hint("declare its `key` in the spec, or use the mode full-refresh"));
    }
    if settings.max_file_bytes.is_some() && object.parts.is_none() {
        let message = format!("`{}` is one file, which a size limit cannot split", table.object);
        return Err(Error::input(message).with_hint(
            "put a `*` in the file name, as in `pages/*.parquet`, or leave the size limit out",
        ));
    }
    Ok(())
}

/// Carries encoded bytes to a place where they become visible only at commit.
#[async_trait]
trait Sink: Send {
    /// Adds bytes to the part that is being written.
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()>;

    /// Ends the part that is being written; the next bytes begin another.
    async fn end_part(&mut self) -> Result<()>;

    /// Makes all parts visible, and removes what they replace. `rows` is what they hold. Returns
    /// the path for a person.
    async fn publish(self: Box<Self>, rows: u64) -> Result<String>;
}
