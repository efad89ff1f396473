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

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use object_store::{ObjectStore, ObjectStoreExt};

use self::{
    area::Area, budget::Budget, encode::Plan, home::LocalStore, lease::RemoteStore, local::Local,
    merge::Merge, object::Object, old::OldFile, out::Out, owner::Record, stage::Staging,
    store::Store,
};
use crate::error::{Error, Result};
use crate::schema::Column;
use crate::state::{self, Change};
use crate::write::repeats::check_strict;
use crate::write::{Committed, Disposition, Ending, Standing, Table, Target, Watch, Writer};

pub use self::ledger::LocalLedger;
pub use self::options::{FilesOptions, Settings};
pub use self::variables::with_variables;

/// Largest file of an object store that is merged into: it is read into memory.
const LARGEST: u64 = 256 << 20;

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
                let area = local.claim(&object).await?;
                local.check_place(&area, table, &object)?;
                let staging = Staging::local(&area, &schema, &table.run_id, staged)?;
                (staging, Some(area))
            }
            Place::Store(store) => {
                store.old(table, object.clone()).await?;
                let place = store.below(&area::name(&object.path));
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
            Place::Local(local) => local.has(&object),
            Place::Store(store) => store.has(table, object.clone()).await?,
        };
        if !there {
            return Ok(None);
        }
        owner::standing(&self.place, object, table.disposition).await.map(Some)
    }

    async fn tidy(&self, _: &str, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn attend(&self, _: Watch) {}

    async fn is_staged(&self, table: &Table, staged: u64) -> Result<bool> {
        let object = Object::parse(&table.object)?;
        let area = area::name(&object.path);
        match self.place.as_ref() {
            Place::Local(local) => {
                Ok(Staging::is_local(&local.root().join(area), &table.run_id, staged))
            }
            Place::Store(store) => {
                let shown = (store.bucket(), store.shown());
                Staging::is_in_store(shown, &store.below(&area), (&table.run_id, staged)).await
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

/// Stages the rows of one table; encodes and publishes them at commit.
struct FilesWriter {
    table: Table,
    object: Object,
    settings: Settings,
    budget: Arc<Budget>,
    place: Arc<Place>,
    home: Home,
    staging: Staging,
    /// The lock of the place, on local disk.
    area: Option<Arc<Area>>,
}

/// A file of the object as it is; those in a store are read when they are needed.
enum Found {
    Local(PathBuf),
    Remote(object_store::path::Path, u64),
}

impl FilesWriter {
    /// The files that a merge must read.
    async fn old_files(&self) -> Result<Vec<Found>> {
        if self.table.disposition != Disposition::Merge {
            return Ok(Vec::new());
        }
        match self.place.as_ref() {
            Place::Local(local) => {
                let place = local.place(&self.object);
                if self.object.parts.is_none() {
                    return Ok(if place.exists() { vec![Found::Local(place)] } else { Vec::new() });
                }
                let manifest = local.manifest(self.area.as_ref(), &self.table, &self.object)?;
                Ok(manifest.files.iter().map(|part| Found::Local(place.join(part))).collect())
            }
            Place::Store(store) => {
                let files = store.old(&self.table, self.object.clone()).await?;
                Ok(files.into_iter().map(|(path, size)| Found::Remote(path, size)).collect())
            }
        }
    }

    async fn load(&self, found: &Found) -> Result<OldFile> {
        match (found, self.place.as_ref()) {
            (Found::Remote(path, size), Place::Store(store)) => {
                let name = format!("{}/{path}", store.shown());
                if *size > LARGEST {
                    let what = format!("`{name}` has {size} bytes, too many to merge into");
                    return Err(Error::target(what).with_hint(
                        "write parts (`pages/*.parquet`) of at most 200 MiB: `files: { max_file_mib: 200 }`",
                    ));
                }
                let wrong = |error| store::failed("read", &name, &error);
                let bytes =
                    store.bucket().get(path).await.map_err(wrong)?.bytes().await.map_err(wrong)?;
                Ok(OldFile::Bytes { name, bytes })
            }
            (Found::Local(path), _) => Ok(OldFile::Local(path.clone())),
            (Found::Remote(..), Place::Local(_)) => Err(Error::target("the file is elsewhere")),
        }
    }

    /// Says before any row moves what would be wrong at commit.
    async fn check_old(&self) -> Result<()> {
        let files = self.old_files().await?;
        let Some(first) = files.first() else { return Ok(()) };
        let file = self.load(first).await?;
        let others = file.others(self.object.format, &self.table.schema)?;
        let mut schema = self.table.schema.clone();
        schema.columns.extend(others);
        // The first batch tells whether the types fit.
        file.read(self.object.format, &schema)?.next().map(drop)
    }

    async fn sink(&self) -> Result<Box<dyn Sink>> {
        Ok(match (self.place.as_ref(), &self.area) {
            (Place::Local(local), Some(area)) => {
                Box::new(local.sink(area, &self.table, self.object.clone())?)
            }
            (Place::Store(store), _) => {
                Box::new(store.open(&self.table, self.object.clone()).await?)
            }
            (Place::Local(_), None) => return Err(Error::target("the writer is closed")),
        })
    }

    /// Writes the new object, unseen: what it is to be, and what its commit will tell.
    async fn build(&self, ending: &Ending) -> Result<(Out, Committed)> {
        let files = self.old_files().await?;
        let others: Vec<Column> = match files.first() {
            Some(first) => {
                self.load(first).await?.others(self.object.format, &self.table.schema)?
            }
            None => Vec::new(),
        };
        let merge = Merge::new(&self.table, others, ending, (&self.staging, self.object.format));
        let (format, budget) = (self.object.format, Arc::clone(&self.budget));
        let plan = Plan::new(&merge.schema, format, self.settings, budget)?;
        let mut out = Out::new(plan, self.sink().await?, self.settings.max_file_bytes)?;
        let lost = merge.lost().await?;
        let notices = lost.repeats.notices(lost.example.clone(), &self.table.stream);
        check_strict(self.table.strict, &notices)?;
        let repeated = lost.repeats.repeated;
        let object = self.table.object.clone();
        let mut built = Committed { object, rows: 0, deleted: 0, repeated, notices };
        if self.table.disposition != Disposition::Merge {
            let (mut staged, mut lost) = (self.staging.batches(), lost.cursor());
            while let Some((batch, first)) = staged.next().await? {
                out.write(&merge.lasting(&batch, first, &mut lost)?).await?;
            }
            built.rows = out.rows();
            return Ok((out, built));
        }
        let (arrow, parents) = (merge.schema.arrow(), merge.parents().await?);
        for turn in 0..merge.turns() {
            let mut keys = merge.keys(turn, &lost).await?;
            built.rows += keys.count();
            for found in &files {
                let mut old = merge.old(&self.load(found).await?)?;
                while let Some(batch) = old.next()? {
                    let (kept, gone) = merge.kept(&batch, &mut keys, &parents, turn)?;
                    built.deleted += gone;
                    out.write(&kept).await?;
                }
            }
            let (mut staged, mut lost) = (self.staging.batches(), lost.cursor());
            while let Some((batch, first)) = staged.next().await? {
                out.write(&merge.news(&batch, first, (&keys, &mut lost), &arrow)?).await?;
            }
        }
        Ok((out, built))
    }
}

#[async_trait]
impl Writer for FilesWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.staging.append(batch).await
    }

    async fn replaced(&mut self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn staged(&self) -> u64 {
        self.staging.rows()
    }

    async fn checkpoint(&mut self, state: &[Change]) -> Result<()> {
        self.staging.sync().await?;
        self.home.store().save(state).await
    }

    async fn commit(mut self: Box<Self>, ending: &Ending, state: &[Change]) -> Result<Committed> {
        self.staging.sync().await?;
        let (out, mut committed) = self.build(ending).await?;
        // Putting it together may have taken long.
        self.home.check()?;
        let record = Record::new(&self.place, &self.object.path);
        let owner = record.announce(&self.table, out.rows()).await?;
        committed.object = out.publish().await?;
        record.save(owner).await?;
        // Dying here, the next process finds the rows still staged, and publishes them once more.
        self.home.store().save(state).await?;
        let Self { staging, .. } = *self;
        staging.remove().await?;
        Ok(committed)
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        let Self { staging, .. } = *self;
        staging.remove().await
    }
}
