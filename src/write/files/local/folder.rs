//! Files on local disk: written in a hidden staging directory below the root, published by rename.
//!
//! One rename replaces a single file. A folder of parts is built beside the existing one and exchanged with it
//! in one step, so a reader sees either all existing parts or all new ones. Where a filesystem has no
//! exchange, two renames do the same: the existing folder is set aside, then the new folder takes its place.
//! When a process is killed between the two renames, the next `open` puts the existing folder back.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Access, access};

use crate::error::Result;
use crate::schema::TableSchema;
use crate::write::files::local::sink::LocalSink;
use crate::write::files::manifest::{self, Manifest};
use crate::write::files::object::Object;
use crate::write::formats::codec_of;
use crate::write::formats::existing::ExistingFile;
use crate::write::staging::staging_dir::{self, StagingDir};
use crate::write::storage::disk::{failed, inside};
use crate::write::table::Table;

/// A folder on local disk.
#[derive(Debug)]
pub(crate) struct LocalFolder {
    root: PathBuf,
}

impl LocalFolder {
    /// The folder; it need not exist.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Checks that the root, or the folder in which it would be created, can be written.
    pub(crate) fn check(&self) -> Result<()> {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        if !existing.is_dir() {
            return Err(failed("write to", existing, &ErrorKind::NotADirectory.into()));
        }
        access(existing, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| failed("write to", existing, &error.into()))
    }

    /// Checks that a folder can be made in the root, or in the folder in which the root would be created: makes
    /// one and removes it.
    pub(crate) fn try_out(&self) -> Result<()> {
        self.check()?;
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let tried = existing.join(format!(".weir-test-{}", std::process::id()));
        let made = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried));
        made.map_err(|error| failed("make a folder in", existing, &error))
    }

    /// Locks the staging directory of an object, and removes what dead runs have left.
    pub(crate) async fn claim(&self, table: &Table, object: &Object) -> Result<Arc<StagingDir>> {
        self.check_inside(object)?;
        staging_dir::sweep(&self.root);
        let dir = StagingDir::claim(&self.root, &object.path, &table.replication).await?;
        Ok(Arc::new(dir))
    }

    /// Refuses an object in a folder that is a link out of the root.
    fn check_inside(&self, object: &Object) -> Result<()> {
        let path = self.path(object);
        let folder = if object.parts.is_some() { Some(path.as_path()) } else { path.parent() };
        folder.map_or(Ok(()), |folder| inside(&self.root, folder))
    }

    /// The file or folder of an object.
    pub(crate) fn path(&self, object: &Object) -> PathBuf {
        self.root.join(&object.path)
    }

    /// Whether a run has written the object, even without rows.
    pub(crate) fn has(&self, object: &Object) -> bool {
        let path = self.path(object);
        if object.parts.is_some() { path.join(manifest::NAME).exists() } else { path.exists() }
    }

    /// The files of an existing object.
    pub(crate) fn files(&self, object: &Object) -> Result<Vec<PathBuf>> {
        let path = self.path(object);
        if object.parts.is_none() {
            return Ok(vec![path]);
        }
        let listed = path.join(manifest::NAME);
        let bytes = fs::read(&listed).map_err(|error| failed("read", &listed, &error))?;
        let manifest = Manifest::parse(&bytes, &path.display().to_string())?;
        Ok(manifest.files.iter().map(|part| path.join(part)).collect())
    }

    /// Number of rows of an existing object, those marked as deleted included.
    pub(crate) fn count(&self, object: &Object) -> Result<u64> {
        let files = self.files(object)?.into_iter().map(ExistingFile::Local);
        files.map(|file| codec_of(object.format).count(&file)).sum()
    }

    /// Number of rows of an existing object, without those that are marked as deleted.
    pub(crate) fn count_live(&self, object: &Object) -> Result<u64> {
        let files = self.files(object)?.into_iter().map(ExistingFile::Local);
        files.map(|file| codec_of(object.format).count_live(&file)).sum()
    }

    /// A column of the schema that the object lacks, as far as its first file tells.
    pub(crate) fn missing_column(
        &self,
        object: &Object,
        schema: &TableSchema,
    ) -> Result<Option<String>> {
        let mut path = self.path(object);
        if object.parts.is_some() {
            let Ok(bytes) = fs::read(path.join(manifest::NAME)) else { return Ok(None) };
            let manifest = Manifest::parse(&bytes, &path.display().to_string())?;
            let Some(first) = manifest.files.first() else { return Ok(None) };
            path.push(first);
        }
        if !path.is_file() {
            return Ok(None);
        }
        let names = codec_of(object.format).column_names(&ExistingFile::Local(path))?;
        let Some(names) = names else { return Ok(None) };
        let missing = schema.columns.iter().find(|column| !names.contains(&column.name));
        Ok(missing.map(|column| column.name.clone()))
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that the object's new content can replace what is there.
    pub(crate) fn check_object(
        &self,
        dir: &Arc<StagingDir>,
        table: &Table,
        object: &Object,
    ) -> Result<()> {
        self.manifest(dir, table, object).map(drop)
    }

    /// The manifest of the existing object; an empty one when there is no object, or it is a single file.
    pub(crate) fn manifest(
        &self,
        dir: &Arc<StagingDir>,
        table: &Table,
        object: &Object,
    ) -> Result<Manifest> {
        LocalSink::new(dir, table, object, self.path(object)).existing()
    }

    /// A sink for the new content of an object.
    pub(crate) fn sink(
        &self,
        dir: &Arc<StagingDir>,
        table: &Table,
        object: &Object,
    ) -> Result<LocalSink> {
        LocalSink::new(dir, table, object, self.path(object)).begin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_finds_the_folder_that_would_hold_the_root() {
        let root = tempfile::tempdir().unwrap();
        LocalFolder::new(root.path().join("a/b")).check().unwrap();
        assert!(!root.path().join("a").exists());
        fs::write(root.path().join("file"), "").unwrap();
        let error = LocalFolder::new(root.path().join("file/x")).check().unwrap_err();
        assert_eq!(error.hint(), Some("choose a folder, not a file"));
    }
}
