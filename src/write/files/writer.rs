//! The rows of one object: staged until their commit, then put together with the old ones and published.

use std::{path::PathBuf, sync::Arc};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use object_store::ObjectStoreExt;

use super::{
    Home, Place, Settings, Sink, area::Area, budget::Budget, encode::Plan, merge::Merge,
    object::Object, old::OldFile, out::Out, owner::Record, stage::Staging, store,
};
use crate::error::{Error, Result};
use crate::schema::Column;
use crate::state::Change;
use crate::write::repeats::check_strict;
use crate::write::{Committed, Disposition, Ending, Table, Writer};

/// Largest file of an object store that is merged into: it is read into memory.
const LARGEST: u64 = 256 << 20;

/// Stages the rows of one table; encodes and publishes them at commit.
pub(super) struct FilesWriter {
    pub(super) table: Table,
    pub(super) object: Object,
    pub(super) settings: Settings,
    pub(super) budget: Arc<Budget>,
    pub(super) place: Arc<Place>,
    pub(super) home: Home,
    pub(super) staging: Staging,
    /// The lock of the place, on local disk.
    pub(super) area: Option<Arc<Area>>,
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

    /// The files that a merge must read, and the columns that only they have.
    async fn old_rows(&self) -> Result<(Vec<Found>, Vec<Column>)> {
        let files = self.old_files().await?;
        let others = match files.first() {
            Some(first) => {
                self.load(first).await?.others(self.object.format, &self.table.schema)?
            }
            None => Vec::new(),
        };
        Ok((files, others))
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
    pub(super) async fn check_old(&self) -> Result<()> {
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
        let (files, others) = self.old_rows().await?;
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

    async fn missing(&mut self, ending: &Ending, most: usize) -> Result<Option<Vec<String>>> {
        self.staging.sync().await?;
        let (files, others) = self.old_rows().await?;
        let merge = Merge::new(&self.table, others, ending, (&self.staging, self.object.format));
        let (lost, marked) = (merge.lost().await?, merge.parents().await?);
        let mut missing = Vec::new();
        for turn in 0..merge.turns() {
            let keys = merge.keys(turn, &lost).await?;
            for found in &files {
                let mut old = merge.old(&self.load(found).await?)?;
                while let Some(batch) = old.next()? {
                    missing.extend(merge.missing(&batch, (&keys, &marked), turn)?);
                    if missing.len() > most {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(Some(missing))
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
