//! Hidden work areas below a local root: locked while their run lives, removed afterwards.
//!
//! An area is a folder `.weir-…` named after what it publishes, so that two runs that publish the
//! same meet there. The lock is the system's (`flock`) on a file in it: it ends with the process,
//! however that ends, and so tells a living run's area from one left behind.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, Utc};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::hash;

/// What the names of all areas begin with.
const PREFIX: &str = ".weir-";
/// What is staged in an area: it outlives its run, so that the next one can go on.
pub(super) const STAGE: &str = "stage";
/// The lock in an area.
const LOCK: &str = "lock";
/// Where a folder stands while another takes its place by two renames.
pub(super) const OLD: &str = "old";
/// Tries to lock an area, [`PAUSE`] apart: another run may just be removing a left-over.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A locked work area; removed when dropped, unless rows are staged in it.
#[derive(Debug)]
pub(super) struct Area {
    path: PathBuf,
    /// What it publishes, below the root.
    object: String,
    _lock: File,
}

/// Who holds an area.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// What is published, below the root.
    object: String,
}

enum Claim {
    Mine(Area),
    Held(Holder, Option<Metadata>),
}

impl Area {
    /// Locks the area of `object`, a path below `root`; creates the root if missing.
    ///
    /// # Errors
    /// When another run holds it, or the root cannot be written.
    pub(super) async fn claim(root: &Path, object: &str) -> Result<Self> {
        let path = root.join(name(object));
        let mut last = None;
        for _ in 0..TRIES {
            match claim(&path, object) {
                Ok(Claim::Mine(area)) => return Ok(area),
                Ok(Claim::Held(holder, since)) => last = Some((holder, since)),
                // Another run removed the left-over between two steps.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(cannot(&path, &error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(held(object, last))
    }

    /// A path in the area.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // What cannot be removed now, the next run removes.
        clear(&self.path, &self.object).ok();
    }
}

/// Removes the areas below `root` whose run is dead. What cannot be removed stays.
pub(super) fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let is_area = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_area && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep_one(&entry.path()).ok();
        }
    }
}

fn sweep_one(path: &Path) -> io::Result<()> {
    let Some(lock) = try_lock(path, false)? else { return Ok(()) };
    clear(path, &read_holder(path).object)?;
    drop(lock);
    Ok(())
}

/// Removes an area that is locked by the caller. A folder that had stepped aside for one that never
/// came returns to its place.
fn clear(path: &Path, object: &str) -> io::Result<()> {
    let old = path.join(OLD);
    if let Some(place) = path.parent().map(|root| root.join(object))
        && old.exists()
        && !place.exists()
    {
        fs::rename(&old, &place)?;
    }
    empty(path)?;
    if path.join(STAGE).exists() { Ok(()) } else { dismantle(path) }
}

fn claim(path: &Path, object: &str) -> io::Result<Claim> {
    fs::create_dir_all(path)?;
    let Some(mut lock) = try_lock(path, true)? else {
        let since = fs::metadata(path.join(LOCK)).ok();
        return Ok(Claim::Held(read_holder(path), since));
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    let holder = Holder { pid: std::process::id(), host, object: object.to_owned() };
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(&holder)?)?;
    Ok(Claim::Mine(Area { path: path.to_owned(), object: object.to_owned(), _lock: lock }))
}

/// The lock, unless another has it. A lock that was removed meanwhile is not found.
fn try_lock(path: &Path, create: bool) -> io::Result<Option<File>> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&file);
    let lock = match lock {
        // An area whose removal was cut short.
        Err(error) if error.kind() == ErrorKind::NotFound && !create => {
            return fs::remove_dir(path).map(|()| None);
        }
        other => other?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        other => other?,
    }
    if lock.metadata()?.ino() == fs::metadata(&file)?.ino() {
        Ok(Some(lock))
    } else {
        Err(ErrorKind::NotFound.into())
    }
}

/// Removes everything in an area but its lock and what is staged.
fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK || entry.file_name() == STAGE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes the lock, then the area, unless another run has begun to use it again.
fn dismantle(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(LOCK))?;
    fs::remove_dir(path)
}

fn read_holder(path: &Path) -> Holder {
    let bytes = fs::read(path.join(LOCK)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// `wiki/pages` → `.weir-wiki-pages-<hash>`: one name for one object, on any machine.
pub(super) fn name(object: &str) -> String {
    let hash = hash::fnv(object.bytes());
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let readable: String = object.chars().map(safe).take(80).collect();
    format!("{PREFIX}{readable}-{hash:016x}")
}

fn held(object: &str, last: Option<(Holder, Option<Metadata>)>) -> Error {
    let (holder, since) = last.unwrap_or_default();
    let who = match holder.pid {
        0 => String::new(),
        pid => format!(": process {pid} on `{}`", holder.host),
    };
    let when = since
        .and_then(|metadata| metadata.modified().ok())
        .map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true));
    let when = when.map(|time| format!(", since {time}")).unwrap_or_default();
    let message = format!("another run is writing `{object}`{who}{when}");
    Error::new(Kind::Busy, message)
        .with_hint("wait for it to end, or give this run another `object`")
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    super::local::failed("write to", path.parent().unwrap_or(path), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_has_one_name_and_no_two_objects_share_it() {
        assert!(name("a/b").starts_with(".weir-a-b-"));
        assert_eq!(name("a/b"), name("a/b"));
        assert_ne!(name("a/b"), name("a-b"));
    }

    #[tokio::test]
    async fn a_living_area_is_neither_swept_nor_claimed_twice() {
        let root = tempfile::tempdir().unwrap();
        let area = Area::claim(root.path(), "pages").await.unwrap();
        fs::write(area.join("data"), "x").unwrap();
        sweep(root.path());
        assert!(area.join("data").exists());
        let error = Area::claim(root.path(), "pages").await.unwrap_err();
        assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        drop(area);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_area_is_swept_and_a_folder_half_swapped_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(name("pages"));
        fs::create_dir_all(path.join(OLD)).unwrap();
        fs::write(path.join(OLD).join("part"), "rows").unwrap();
        let holder = Holder { pid: 1, host: "h".to_owned(), object: "pages".to_owned() };
        fs::write(path.join(LOCK), serde_json::to_vec(&holder).unwrap()).unwrap();
        sweep(root.path());
        assert_eq!(fs::read_to_string(root.path().join("pages/part")).unwrap(), "rows");
        assert!(!path.exists());
    }
}
