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
pub(crate) struct OwnerRecord<'a> {
    location: &'a Location,
    /// Path of the record, below the root.
    name: String,
}

impl<'a> OwnerRecord<'a> {
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
        Ok(applicable(self.all().await?, rows))
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

/// The owner that applies to an object with this number of rows: the newest one that recorded the number, or
/// else the newest one.
fn applicable(mut owners: Vec<Owner>, rows: Option<u64>) -> Option<Owner> {
    let fits = owners.iter().position(|owner| rows.is_some() && owner.rows == rows);
    if owners.is_empty() { None } else { Some(owners.swap_remove(fits.unwrap_or(0))) }
}

/// What exists at the path of an object. Counts its rows when the number is compared with a record's, or when
/// there is no record.
pub(crate) async fn existing(
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
    let owner = OwnerRecord::new(location, &object.path).read(rows).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rows_selects_the_owner() {
        let owner = |run_id: &str, rows| Owner {
            replication: "r".to_owned(),
            source: "s".to_owned(),
            run_id: run_id.to_owned(),
            rows,
        };
        let two = || vec![owner("new", Some(5)), owner("old", Some(3))];
        for (owners, rows, run_id) in [
            (Vec::new(), Some(5), None),
            (two(), Some(5), Some("new")),
            (two(), Some(3), Some("old")),
            (two(), Some(4), Some("new")),
            (two(), None, Some("new")),
            (vec![owner("only", None)], None, Some("only")),
        ] {
            let found = applicable(owners, rows);
            assert_eq!(found.as_ref().map(|owner| owner.run_id.as_str()), run_id, "{rows:?}");
        }
    }
}
