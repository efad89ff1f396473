//! The new content of an object on local disk: written in the staging directory, published by rename.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::write::files::local::exchange::{exchange, link, swap, sync_folder};
use crate::write::files::manifest::{self, Manifest};
use crate::write::files::object::Object;
use crate::write::files::sink::{Sink, cannot_append, counted};
use crate::write::staging::names::label;
use crate::write::staging::staging_dir::{self, StagingDir};
use crate::write::storage::disk::failed;
use crate::write::table::{Disposition, Table};

/// The new content in a staging directory: a file, or the folder of parts.
const NEW: &str = "new";
/// Suffix of a part's name until the part is complete: programs that look into hidden folders do not take it
/// for data.
const UNFINISHED: &str = ".unfinished";

/// Writes one table to local disk.
#[derive(Debug)]
pub(crate) struct LocalSink {
    dir: Arc<StagingDir>,
    object: Object,
    /// The file, or the folder of the parts.
    path: PathBuf,
    /// Whether existing parts stay.
    keep: bool,
    run: String,
    file: Option<File>,
    /// Names of the parts that were begun.
    parts: Vec<String>,
}

impl LocalSink {
    /// A sink for the object at `path`. Writes nothing yet.
    pub(crate) fn new(
        dir: &Arc<StagingDir>,
        table: &Table,
        object: &Object,
        path: PathBuf,
    ) -> Self {
        Self {
            dir: Arc::clone(dir),
            object: object.clone(),
            path,
            keep: table.disposition == Disposition::Append,
            run: label(&table.run_id),
            file: None,
            parts: Vec::new(),
        }
    }

    /// Prepares the staging directory for new content, and begins the first part.
    pub(crate) fn begin(mut self) -> Result<Self> {
        self.existing()?;
        if self.object.parts.is_some() {
            let new = self.dir.join(NEW);
            fs::remove_dir_all(&new).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(failed("remove", &new, &error)),
            })?;
            fs::create_dir_all(&new).map_err(|error| failed("create", &new, &error))?;
        }
        self.begin_part()?;
        Ok(self)
    }

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
            Some(_) => self.dir.join(NEW).join(format!("{part}{UNFINISHED}")),
            None => self.dir.join(&format!("{NEW}{UNFINISHED}")),
        }
    }

    /// The manifest of the existing folder, or an empty one.
    ///
    /// # Errors
    /// The new content cannot replace what is at the path.
    pub(crate) fn existing(&self) -> Result<Manifest> {
        let shown = self.path.display().to_string();
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(failed("look at", &self.path, &error)),
        };
        if found.is_dir() != self.object.parts.is_some() {
            let (is, not) = if found.is_dir() { ("folder", "file") } else { ("file", "folder") };
            return Err(Error::target(format!("`{shown}` is a {is}, not a {not}"))
                .with_hint("remove it, or give the stream another `object`"));
        }
        if self.object.parts.is_none() {
            return if self.keep { Err(cannot_append(&shown)) } else { Ok(Manifest::default()) };
        }
        let manifest = match fs::read(self.path.join(manifest::NAME)) {
            Ok(bytes) => Manifest::parse(&bytes, &shown)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(failed("read", &self.path, &error)),
        };
        let names = names(&self.path).map_err(|error| failed("read", &self.path, &error))?;
        manifest.refuse_foreign(&names, &shown)?;
        Ok(manifest)
    }

    fn publish(mut self, rows: u64) -> Result<String> {
        self.close_part()?;
        let existing = self.existing()?;
        let parent = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&parent).map_err(|error| failed("create", &parent, &error))?;
        let shown = match self.object.parts {
            None => self.publish_file()?,
            Some(_) => self.publish_folder(&existing, rows)?,
        };
        sync_folder(&parent)?;
        Ok(shown)
    }

    fn publish_file(&self) -> Result<String> {
        let new = self.unfinished("");
        fs::rename(&new, &self.path).map_err(|error| failed("replace", &self.path, &error))?;
        Ok(self.path.display().to_string())
    }

    fn publish_folder(&mut self, existing: &Manifest, rows: u64) -> Result<String> {
        let new = self.dir.join(NEW);
        self.finish_parts(existing, rows, &new).map_err(|error| failed("write", &new, &error))?;
        sync_folder(&new)?;
        let aside = self.dir.join(staging_dir::OLD);
        swap(&new, &self.path, &aside, exchange)
            .map_err(|error| failed("replace", &self.path, &error))?;
        Ok(counted(&self.path.display().to_string(), self.parts.len()))
    }

    /// Gives the parts their names, adds the existing parts that stay, and lists all of them in the manifest.
    fn finish_parts(&mut self, existing: &Manifest, rows: u64, new: &Path) -> io::Result<()> {
        if rows == 0 && self.keep && !existing.files.is_empty() {
            for part in std::mem::take(&mut self.parts) {
                fs::remove_file(self.unfinished(&part))?;
            }
        }
        for part in &self.parts {
            fs::rename(self.unfinished(part), new.join(part))?;
        }
        let mut files = Vec::new();
        // A process of this run that died before it saved its state has written parts of this run.
        let kept = |part: &&String| self.keep && !self.object.is_of_run(part, &self.run);
        for part in existing.files.iter().filter(kept) {
            if link(&self.path.join(part), &new.join(part))? {
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
        file.sync_all().map_err(|error| failed("write", &self.path, &error))
    }
}

#[async_trait]
impl Sink for LocalSink {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()> {
        if self.file.is_none() {
            self.begin_part()?;
        }
        let file = self.file.as_mut().expect("a part was begun");
        file.write_all(&bytes).map_err(|error| failed("write", &self.path, &error))
    }

    async fn end_part(&mut self) -> Result<()> {
        self.close_part()
    }

    async fn publish(self: Box<Self>, rows: u64) -> Result<String> {
        let publish = tokio::task::spawn_blocking(move || (*self).publish(rows));
        publish.await.map_err(|error| Error::target("the publishing task failed").because(error))?
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
