//! Hidden work areas below a local root: locked while their run lives, removed afterwards.
//!
//! An area is a folder named after what it publishes, so that two runs that publish the same meet
//! there. The lock is the system's (`flock`) on a file in it: it ends with the process,
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

use super::{
    home::{STAGES, unique},
    stage::Staging,
};
use crate::error::{Error, Kind, Result};
use crate::write::Leftovers;

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
    /// Where what it publishes goes.
    place: PathBuf,
    _lock: File,
}

/// Who holds an area.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    /// What is published, below the root.
    object: String,
    /// Name of the replication that publishes it.
    #[serde(default)]
    replication: String,
}

enum Claim {
    Mine(Area),
    Held(Holder, Option<Metadata>),
}

impl Area {
    /// Locks the area of `object`, a path below `root`, for a replication; creates the root if
    /// missing.
    ///
    /// # Errors
    /// When another run holds it, or the root cannot be written.
    pub(super) async fn claim(root: &Path, object: &str, replication: &str) -> Result<Self> {
        let path = path(root, object);
        super::local::inside(root, &path.join(LOCK))?;
        super::local::inside(root, &path.join(STAGE))?;
        let mut last = None;
        for _ in 0..TRIES {
            match claim((root, &path), object, replication) {
                Ok(Claim::Mine(area)) => return Ok(area),
                Ok(Claim::Held(holder, since)) => last = Some((holder, since)),
                // Another run removed the left-over between two steps.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(super::local::failed("write to", root, &error)),
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
        clear(&self.path, &self.place).ok();
    }
}

/// Removes the areas below `root` whose run is dead, but for what is staged in them. What cannot be removed
/// stays.
pub(super) fn sweep(root: &Path) {
    each(root, |_, _| Ok(()));
}

/// Likewise with what is staged, as far as no run goes on with it.
pub(super) fn tidy(root: &Path, leftovers: &Leftovers) {
    each(root, |path, holder| {
        let stage = path.join(STAGE);
        let run = Staging::run_of(&stage);
        let goes_on =
            run.is_some_and(|(run, at)| !leftovers.include(&holder.replication, &run, at));
        if goes_on || !stage.exists() { Ok(()) } else { fs::remove_dir_all(stage) }
    });
}

/// Locks each area whose run is dead, and clears it after `first`.
fn each(root: &Path, first: impl Fn(&Path, &Holder) -> io::Result<()>) {
    let stages = root.join(STAGES);
    if super::local::inside(root, &stages).is_err() {
        return;
    }
    let Ok(entries) = fs::read_dir(stages) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let one = || -> io::Result<()> {
            let Some(_lock) = try_lock(&path, false)? else { return Ok(()) };
            let holder = read_holder(&path);
            // Whose place is not known may hold a folder that stepped aside: it stays.
            if holder.object.is_empty() && path.join(OLD).exists() {
                return Ok(());
            }
            first(&path, &holder)?;
            clear(&path, &root.join(&holder.object))
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            one().ok();
        }
    }
}

/// Removes an area that is locked by the caller. A folder that had stepped aside for one that never
/// came returns to its place.
fn clear(path: &Path, place: &Path) -> io::Result<()> {
    let old = path.join(OLD);
    if old.exists() && !place.exists() {
        fs::rename(&old, place)?;
    }
    empty(path)?;
    if path.join(STAGE).exists() { Ok(()) } else { dismantle(path) }
}

fn claim((root, path): (&Path, &Path), object: &str, replication: &str) -> io::Result<Claim> {
    fs::create_dir_all(path)?;
    let Some(mut lock) = try_lock(path, true)? else {
        let since = fs::metadata(path.join(LOCK)).ok();
        return Ok(Claim::Held(read_holder(path), since));
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    let (object, replication) = (object.to_owned(), replication.to_owned());
    let holder = Holder { pid: std::process::id(), host, object, replication };
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(&holder)?)?;
    let place = root.join(holder.object);
    Ok(Claim::Mine(Area { path: path.to_owned(), place, _lock: lock }))
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

/// Removes the lock, then the area, unless another run has begun to use it again; then the folder of all areas
/// after the last of them.
fn dismantle(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(LOCK))?;
    fs::remove_dir(path)?;
    for folder in path.ancestors().skip(1).take(2) {
        fs::remove_dir(folder).ok();
    }
    Ok(())
}

fn read_holder(path: &Path) -> Holder {
    let bytes = fs::read(path.join(LOCK)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Where the area of an object is: one folder for one object, on any machine.
pub(super) fn path(root: &Path, object: &str) -> PathBuf {
    root.join(STAGES).join(unique(object))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn leave_behind(path: &Path, object: &str) {
        fs::create_dir_all(path).unwrap();
        let holder = Holder { pid: 1, object: object.to_owned(), ..Holder::default() };
        fs::write(path.join(LOCK), serde_json::to_vec(&holder).unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_living_area_is_neither_swept_nor_claimed_twice() {
        let root = tempfile::tempdir().unwrap();
        let area = Area::claim(root.path(), "pages", "nightly").await.unwrap();
        fs::write(area.join("data"), "x").unwrap();
        sweep(root.path());
        assert!(area.join("data").exists());
        let error = Area::claim(root.path(), "pages", "other").await.unwrap_err();
        assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        drop(area);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dead_area_is_swept_and_a_folder_half_swapped_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let path = path(root.path(), "pages");
        fs::create_dir_all(path.join(OLD)).unwrap();
        fs::write(path.join(OLD).join("part"), "rows").unwrap();
        leave_behind(&path, "pages");
        sweep(root.path());
        assert_eq!(fs::read_to_string(root.path().join("pages/part")).unwrap(), "rows");
        assert!(!path.exists());
    }
}
