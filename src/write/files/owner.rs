//! The owners of objects: a hidden file below the root records the owner of each.
//!
//! On local disk, an object and its record cannot be replaced in one step. Before the object is published, the
//! new record is therefore written in front of the existing one. The number of rows in the object then shows
//! which of the two applies.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

use object_store::{ObjectStoreExt, PutPayload};

use crate::error::Result;
use crate::write::files::local::folder::LocalFolder;
use crate::write::files::location::Location;
use crate::write::files::object::Object;
use crate::write::files::state::{journal, paths};
use crate::write::owner::{ExistingTable, Owner};
use crate::write::storage::{bucket, disk};
use crate::write::table::{Disposition, Table};

/// The record of one object.
pub(crate) struct Record<'a> {
    location: &'a Location,
    /// Path of the record, below the root.
    name: String,
}

impl<'a> Record<'a> {
    /// The record of the object with this path.
    pub(crate) fn new(location: &'a Location, object: &str) -> Self {
        Self { location, name: paths::owner(object) }
    }

    /// All recorded owners, the newest first.
    async fn all(&self) -> Result<Vec<Owner>> {
        let bytes = match self.location {
            Location::Local(local) => {
                let path = local.root().join(&self.name);
                disk::inside(local.root(), &path)?;
                match fs::read(&path) {
                    Ok(bytes) => bytes,
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(error) => return Err(disk::failed("read", &path, &error)),
                }
            }
            Location::Store(store) => {
                let wrong = |error| bucket::failed("read", &self.name, &error);
                match store.bucket().store().get(&store.bucket().below(&self.name)).await {
                    Ok(found) => found.bytes().await.map_err(wrong)?.to_vec(),
                    Err(object_store::Error::NotFound { .. }) => return Ok(Vec::new()),
                    Err(error) => return Err(wrong(error)),
                }
            }
        };
        // A damaged record counts as none: the state may still know the object.
        Ok(journal::content(&bytes).unwrap_or_default())
    }

    /// The recorded owner of an object with this number of rows.
    pub(crate) async fn read(&self, rows: Option<u64>) -> Result<Option<Owner>> {
        let mut all = self.all().await?;
        let fits = all.iter().position(|one| rows.is_some() && one.rows == rows);
        Ok(if all.is_empty() { None } else { Some(all.swap_remove(fits.unwrap_or(0))) })
    }

    /// Announces the owner of an object that is about to be published.
    pub(crate) async fn announce(&self, table: &Table, rows: u64) -> Result<Option<Owner>> {
        let owner = Owner::of(table, Some(rows));
        if owner.is_some() && matches!(self.location, Location::Local(_)) {
            let before = self.all().await?.into_iter().next();
            self.write(&owner.clone().into_iter().chain(before).collect::<Vec<_>>()).await?;
        }
        Ok(owner)
    }

    /// Records the owner of an object that was published.
    pub(crate) async fn save(&self, owner: Option<Owner>) -> Result<()> {
        match owner {
            Some(owner) => self.write(&[owner]).await,
            None => Ok(()),
        }
    }

    async fn write(&self, all: &[Owner]) -> Result<()> {
        let text = journal::record(&all)?;
        match self.location {
            Location::Local(local) => write_local(local, &self.name, &text),
            Location::Store(store) => {
                let path = store.bucket().below(&self.name);
                let put = store.bucket().store().put(&path, PutPayload::from(text)).await;
                put.map(drop).map_err(|error| bucket::failed("write", &self.name, &error))
            }
        }
    }
}

/// What exists at the path of an object. Counts its rows when the number is compared with a record's, or when
/// there is no record.
pub(crate) async fn standing(
    location: &Location,
    object: Object,
    disposition: Disposition,
) -> Result<ExistingTable> {
    let count = || match location {
        // An object whose rows cannot be counted exists all the same.
        Location::Local(local) => local.count(&object).ok(),
        // The files of a store would have to be fetched.
        Location::Store(_) => None,
    };
    let mut rows = if disposition == Disposition::Merge { count() } else { None };
    let owner = Record::new(location, &object.path).read(rows).await?;
    if owner.is_none() && rows.is_none() {
        rows = count();
    }
    Ok(ExistingTable { object: object.path, rows, owner })
}

fn write_local(local: &LocalFolder, name: &str, text: &[u8]) -> Result<()> {
    let path = local.root().join(name);
    let (new, folder) = (path.with_extension("new"), path.parent().unwrap_or(Path::new(".")));
    disk::inside(local.root(), &new)?;
    fs::create_dir_all(folder).map_err(|error| disk::failed("create", folder, &error))?;
    let wrong = |error: std::io::Error| disk::failed("write", &path, &error);
    let mut file = File::create(&new).map_err(wrong)?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(wrong)?;
    fs::rename(&new, &path).map_err(wrong)
}
