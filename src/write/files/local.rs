//! Files on local disk: written in a hidden area below the root, published by rename.
//!
//! A single file takes the place of the old one by one rename. A folder of parts is built beside
//! the old one and exchanged with it in one step, so a reader sees all old parts or all new ones.
//! Where a filesystem cannot exchange, two renames do: the old folder steps aside, the new one
//! takes its place. Killed between the two, the next `open` puts the old one back.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rustix::fs::{Access, CWD, RenameFlags, access, renameat_with};

use super::{
    Sink,
    area::{self, Area},
    manifest::{self, Manifest},
    object::{Object, label},
    old::OldFile,
};
use crate::error::{Error, Result};
use crate::schema::TableSchema;
use crate::write::{Disposition, Table};

/// The new content in an area: a file, or the folder of parts.
const NEW: &str = "new";
/// What a part's name ends with until it is whole: readers that look into hidden folders do not
/// take it for data.
const UNFINISHED: &str = ".unfinished";

/// A folder on local disk.
#[derive(Debug)]
pub(super) struct Local {
    root: PathBuf,
}

impl Local {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether the root, or the folder in which it would be created, can be written.
    pub(super) fn check(&self) -> Result<()> {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        if !existing.is_dir() {
            return Err(failed("write to", existing, &ErrorKind::NotADirectory.into()));
        }
        access(existing, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| failed("write to", existing, &error.into()))
    }

    /// Whether a folder can be made in the root, or where that would be made: it is made, and removed.
    pub(super) fn try_out(&self) -> Result<()> {
        self.check()?;
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let tried = existing.join(format!(".weir-test-{}", std::process::id()));
        let made = fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried));
        made.map_err(|error| failed("make a folder in", existing, &error))
    }

    /// Locks the place of an object, and removes what dead runs have left.
    pub(super) async fn claim(&self, table: &Table, object: &Object) -> Result<Arc<Area>> {
        self.check_inside(object)?;
        area::sweep(&self.root);
        Area::claim(&self.root, &object.path, &table.replication).await.map(Arc::new)
    }

    /// Refuses an object below a folder that is a link out of the root.
    fn check_inside(&self, object: &Object) -> Result<()> {
        let place = self.place(object);
        let folder = if object.parts.is_some() { Some(place.as_path()) } else { place.parent() };
        folder.map_or(Ok(()), |folder| inside(&self.root, folder))
    }

    /// The file or folder of an object.
    pub(super) fn place(&self, object: &Object) -> PathBuf {
        self.root.join(&object.path)
    }

    /// Whether a run has written the object, be it without rows.
    pub(super) fn has(&self, object: &Object) -> bool {
        let place = self.place(object);
        if object.parts.is_some() { place.join(manifest::NAME).exists() } else { place.exists() }
    }

    /// The files of an object that is there.
    pub(super) fn files(&self, object: &Object) -> Result<Vec<PathBuf>> {
        let place = self.place(object);
        if object.parts.is_none() {
            return Ok(vec![place]);
        }
        let path = place.join(manifest::NAME);
        let bytes = fs::read(&path).map_err(|error| failed("read", &path, &error))?;
        let manifest = Manifest::parse(&bytes, &place.display().to_string())?;
        Ok(manifest.files.iter().map(|part| place.join(part)).collect())
    }

    /// Rows of an object that is there, marked ones included.
    pub(super) fn rows(&self, object: &Object) -> Result<u64> {
        let files = self.files(object)?.into_iter().map(OldFile::Local);
        files.map(|file| file.rows(object.format)).sum()
    }

    /// A column that the object lacks, as far as its first file tells.
    pub(super) fn lost(&self, object: &Object, schema: &TableSchema) -> Result<Option<String>> {
        let mut path = self.place(object);
        if object.parts.is_some() {
            let Ok(bytes) = fs::read(path.join(manifest::NAME)) else { return Ok(None) };
            let manifest = Manifest::parse(&bytes, &path.display().to_string())?;
            let Some(first) = manifest.files.first() else { return Ok(None) };
            path.push(first);
        }
        if !path.is_file() {
            return Ok(None);
        }
        let Some(names) = OldFile::Local(path).names(object.format)? else { return Ok(None) };
        let lost = schema.columns.iter().find(|column| !names.contains(&column.name));
        Ok(lost.map(|column| column.name.clone()))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Fails where the object's new content must not go.
    pub(super) fn check_place(
        &self,
        area: &Arc<Area>,
        table: &Table,
        object: &Object,
    ) -> Result<()> {
        self.manifest(Some(area), table, object).map(drop)
    }

    /// The manifest of the object as it is; an empty one where there is none.
    pub(super) fn manifest(
        &self,
        area: Option<&Arc<Area>>,
        table: &Table,
        object: &Object,
    ) -> Result<Manifest> {
        let area = area.ok_or_else(|| Error::target("the writer is closed"))?;
        let (place, area, object) = (self.place(object), Arc::clone(area), object.clone());
        let (keep, run) = (table.disposition == Disposition::Append, label(&table.run_id));
        LocalSink { area, object, place, keep, run, file: None, parts: Vec::new() }.old()
    }

    pub(super) fn sink(
        &self,
        area: &Arc<Area>,
        table: &Table,
        object: Object,
    ) -> Result<LocalSink> {
        let (place, area) = (self.place(&object), Arc::clone(area));
        let keep = table.disposition == Disposition::Append;
        let run = label(&table.run_id);
        let (file, parts) = (None, Vec::new());
        let mut sink = LocalSink { area, object, place, keep, run, file, parts };
        sink.old()?;
        if sink.object.parts.is_some() {
            let new = sink.area.join(NEW);
            fs::remove_dir_all(&new).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(failed("remove", &new, &error)),
            })?;
            fs::create_dir_all(&new).map_err(|error| failed("create", &new, &error))?;
        }
        sink.begin_part()?;
        Ok(sink)
    }
}

/// Writes one table to local disk.
#[derive(Debug)]
pub(super) struct LocalSink {
    area: Arc<Area>,
    object: Object,
    /// The file, or the folder of the parts.
    place: PathBuf,
    /// Whether old parts stay.
    keep: bool,
    run: String,
    file: Option<File>,
    /// Names of the parts so far.
    parts: Vec<String>,
}

impl LocalSink {
    fn begin_part(&mut self) -> Result<()> {
        let name = self.object.part_name(&self.run, self.parts.len());
        let path = self.unfinished(&name);
        let file = File::create(&path).map_err(|error| failed("create", &path, &error))?;
        self.file = Some(file);
        self.parts.push(name);
        Ok(())
    }

    fn unfinished(&self, part: &str) -> PathBuf {
        match self.object.parts {
            Some(_) => self.area.join(NEW).join(format!("{part}{UNFINISHED}")),
            None => self.area.join(&format!("{NEW}{UNFINISHED}")),
        }
    }

    /// The folder's manifest, or an empty one; fails where the new content must not go.
    pub(super) fn old(&self) -> Result<Manifest> {
        let shown = self.place.display().to_string();
        let found = match fs::metadata(&self.place) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(failed("look at", &self.place, &error)),
        };
        if found.is_dir() != self.object.parts.is_some() {
            let (is, not) = if found.is_dir() { ("folder", "file") } else { ("file", "folder") };
            return Err(Error::target(format!("`{shown}` is a {is}, not a {not}"))
                .with_hint("remove it, or give the stream another `object`"));
        }
        if self.object.parts.is_none() {
            return if self.keep { Err(cannot_append(&shown)) } else { Ok(Manifest::default()) };
        }
        let manifest = match fs::read(self.place.join(manifest::NAME)) {
            Ok(bytes) => Manifest::parse(&bytes, &shown)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(failed("read", &self.place, &error)),
        };
        let names = names(&self.place).map_err(|error| failed("read", &self.place, &error))?;
        manifest.refuse_foreign(&names, &shown)?;
        Ok(manifest)
    }

    fn publish(mut self, rows: u64) -> Result<String> {
        self.close_part()?;
        let old = self.old()?;
        let parent = self.place.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&parent).map_err(|error| failed("create", &parent, &error))?;
        let shown = match self.object.parts {
            None => self.publish_file()?,
            Some(_) => self.publish_folder(&old, rows)?,
        };
        sync_folder(&parent)?;
        Ok(shown)
    }

    fn publish_file(&self) -> Result<String> {
        let new = self.unfinished("");
        fs::rename(&new, &self.place).map_err(|error| failed("replace", &self.place, &error))?;
        Ok(self.place.display().to_string())
    }

    fn publish_folder(&mut self, old: &Manifest, rows: u64) -> Result<String> {
        let new = self.area.join(NEW);
        self.finish_parts(old, rows, &new).map_err(|error| failed("write", &new, &error))?;
        sync_folder(&new)?;
        let aside = self.area.join(area::OLD);
        swap(&new, &self.place, &aside, exchange)
            .map_err(|error| failed("replace", &self.place, &error))?;
        Ok(counted(&self.place.display().to_string(), self.parts.len()))
    }

    /// Gives the parts their names, brings old ones that stay, and lists all in the manifest.
    fn finish_parts(&mut self, old: &Manifest, rows: u64, new: &Path) -> io::Result<()> {
        if rows == 0 && self.keep && !old.files.is_empty() {
            for part in std::mem::take(&mut self.parts) {
                fs::remove_file(self.unfinished(&part))?;
            }
        }
        for part in &self.parts {
            fs::rename(self.unfinished(part), new.join(part))?;
        }
        let mut files = Vec::new();
        // Parts of this very run were written by a process that died before it could say so.
        let kept = |part: &&String| self.keep && !self.object.is_of_run(part, &self.run);
        for part in old.files.iter().filter(kept) {
            if link(&self.place.join(part), &new.join(part))? {
                files.push(part.clone());
            }
        }
        files.extend(self.parts.iter().cloned());
        let manifest = Manifest { run_id: self.run.clone(), files, leftovers: Vec::new() };
        let mut file = File::create(new.join(manifest::NAME))?;
        file.write_all(&manifest.bytes())?;
        file.sync_all()
    }

    fn close_part(&mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.sync_all().map_err(|error| failed("write", &self.place, &error))
    }
}

#[async_trait]
impl Sink for LocalSink {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.file.is_none() {
            self.begin_part()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&bytes).map_err(|error| failed("write", &self.place, &error))
    }

    async fn end_part(&mut self) -> Result<()> {
        self.close_part()
    }

    async fn publish(self: Box<Self>, rows: u64) -> Result<String> {
        let publish = tokio::task::spawn_blocking(move || (*self).publish(rows));
        publish.await.map_err(|error| Error::target("publishing broke off").because(error))?
    }
}

/// `out/pages/ (3 files)`.
pub(super) fn counted(folder: &str, files: usize) -> String {
    let noun = if files == 1 { "file" } else { "files" };
    format!("{folder}/ ({files} {noun})")
}

pub(super) fn cannot_append(shown: &str) -> Error {
    Error::input(format!("nothing can be added to `{shown}`, which is one file"))
        .with_hint("put a `*` in the file name, as in `pages/*.parquet`, or `{run_timestamp}`")
}

/// What failed with this path, and what the reader can do about it.
/// Refuses a path, be it a link itself, that leads out of the root.
pub(super) fn inside(root: &Path, path: &Path) -> Result<()> {
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let (Some(there), Ok(whole)) = (there, root.canonicalize()) else { return Ok(()) };
    let real = there.canonicalize().map_err(|error| failed("look up", there, &error))?;
    if real.starts_with(&whole) {
        return Ok(());
    }
    let (shown, root) = (there.display(), root.display());
    Err(Error::input(format!("`{shown}` is a link that leads out of `{root}`"))
        .because(format!("it leads to `{}`", real.display()))
        .with_hint("make it a folder, or name the place itself as the connection's `url`"))
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "give the user that runs weir the right to write there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space and run again: the run goes on from what was saved last"
        }
        ErrorKind::ReadOnlyFilesystem => "choose a folder on a filesystem that can be written",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "choose a folder, not a file",
        ErrorKind::CrossesDevices => "let the whole root be on one filesystem",
        _ => "check the folder and the disk",
    };
    Error::target(format!("cannot {what} `{}`", path.display()))
        .because(error.to_string())
        .with_hint(hint)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// A second name for a file, or a copy where the filesystem has no such thing; `false` when the
/// file is gone.
fn link(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    Ok(true)
}

/// Puts the folder `new` in the place of `place`; what was there is then `new` or `aside`.
fn swap(
    new: &Path,
    place: &Path,
    aside: &Path,
    exchange: fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    if !place.exists() {
        return fs::rename(new, place);
    }
    match exchange(new, place) {
        Err(error) if is_unsupported(&error) => {}
        other => return other,
    }
    fs::rename(place, aside)?;
    fs::rename(new, place).or_else(|error| fs::rename(aside, place).and(Err(error)))
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
}

fn sync_folder(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_swapped_with_and_without_an_exchange() {
        let none: fn(&Path, &Path) -> io::Result<()> = |_, _| Err(ErrorKind::Unsupported.into());
        for swapper in [exchange, none] {
            let root = tempfile::tempdir().unwrap();
            let [new, place, aside] = ["new", "place", "aside"].map(|name| root.path().join(name));
            for folder in [&new, &place] {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join("name"), folder.display().to_string()).unwrap();
            }
            let was = fs::read_to_string(new.join("name")).unwrap();
            swap(&new, &place, &aside, swapper).unwrap();
            assert_eq!(fs::read_to_string(place.join("name")).unwrap(), was);
        }
    }

    #[test]
    fn a_check_finds_the_folder_that_would_hold_the_root() {
        let root = tempfile::tempdir().unwrap();
        Local::new(root.path().join("a/b")).check().unwrap();
        assert!(!root.path().join("a").exists());
        fs::write(root.path().join("file"), "").unwrap();
        let error = Local::new(root.path().join("file/x")).check().unwrap_err();
        assert_eq!(error.hint(), Some("choose a folder, not a file"));
    }
}
