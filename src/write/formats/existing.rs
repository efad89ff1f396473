//! An existing file, and the errors of reading it.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::schema::ColumnType;
use crate::write::storage::disk;

/// One file of an object.
#[derive(Clone, Debug)]
pub(crate) enum ExistingFile {
    /// On local disk.
    Local(PathBuf),
    /// Read into memory; the caller bounds its size.
    Bytes {
        /// How messages name the file.
        name: String,
        /// The file's content.
        bytes: Bytes,
    },
}

impl ExistingFile {
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// The file's content.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Local(path) => Box::new(open(path)?),
            Self::Bytes { bytes, .. } => Box::new(Cursor::new(bytes.clone())),
        })
    }

    /// The error of a file that is damaged, or that weir cannot read.
    pub(crate) fn unreadable(&self, why: impl std::fmt::Display) -> Error {
        Error::target(format!("`{}` cannot be read", self.shown()))
            .because(why.to_string())
            .with_hint("move it away, or load it again with the mode full-refresh")
    }

    /// The error of existing values that the table's column cannot take.
    pub(crate) fn type_mismatch(&self, column: &str, found: &str, wanted: ColumnType) -> Error {
        let shown = self.shown();
        Error::target(format!("column `{column}` of `{shown}` is {found}, but the stream's column is `{wanted}`"))
            .with_hint(format!(
                "name another type under `columns: {{ {column}: … }}` in the replication, move the file \
                 away, or load it again with the mode full-refresh"
            ))
    }
}

/// Opens a file on local disk.
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| disk::failed("read", path, &error))
}
