//! The index of rows that are staged on local disk: which rows count.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::write::storage::disk;

/// Name of the index file.
const NAME: &str = "index.json";

/// Which staged rows of a folder count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// Id of the run that staged the rows.
    pub(crate) run_id: String,
    /// Number of rows that count, by segment.
    pub(crate) segments: Vec<u64>,
}

impl Index {
    /// The index of a folder; `None` when there is none, or it is damaged.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        fs::read(folder.join(NAME)).ok().and_then(|text| serde_json::from_slice(&text).ok())
    }

    /// When the index of a folder was saved.
    pub(crate) fn saved_at(folder: &Path) -> Option<DateTime<Utc>> {
        let at = fs::metadata(folder.join(NAME)).and_then(|file| file.modified()).ok()?;
        Some(at.into())
    }

    /// Saves the index in one step.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let new = folder.join(format!("{NAME}.new"));
        let wrong = |error: std::io::Error| disk::failed("write", &new, &error);
        let text = serde_json::to_vec(self).expect("an index of texts and numbers is JSON");
        let mut file = File::create(&new).map_err(wrong)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&new, folder.join(NAME)).map_err(wrong)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)
    }
}

/// Path of a segment.
pub(crate) fn segment(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}.arrows"))
}

/// Removes a folder of staged rows. The index goes first: a process that is killed in between leaves segments
/// that no index counts.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    for removed in [fs::remove_file(folder.join(NAME)), fs::remove_dir_all(folder)] {
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(disk::failed("remove", folder, &error));
            }
            _ => {}
        }
    }
    Ok(())
}
