//! Hidden staging directories below a local root: locked while their run's process is alive, then removed.
//!
//! A staging directory is named after the object that its run publishes, so that two runs that publish the
//! same object use the same directory. The lock is a `flock` of the operating system on a file in it. The
//! operating system releases it when the process ends, so a lock means that the process is still running.

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
use crate::write::leftovers::Leftovers;
use crate::write::staging::index::Index;
use crate::write::staging::names::{STAGES, unique};
use crate::write::storage::disk;

/// Folder of the staged rows in a staging directory. It outlives its run, so that the next run can resume.
pub(crate) const STAGE: &str = "stage";
/// The file in a staging directory that its run locks.
const LOCK: &str = "lock";
/// Folder in a staging directory for an existing folder of parts while two renames replace it.
pub(crate) const OLD: &str = "old";
/// Attempts to lock a staging directory, [`PAUSE`] apart: another run may be removing a leftover one.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// A locked staging directory; removed when dropped, unless rows are staged in it.
#[derive(Debug)]
pub(crate) struct StagingDir {
    path: PathBuf,
    /// Path of the object that its run publishes.
    published: PathBuf,
    _lock: File,
}

/// The run that has locked a staging directory; the content of the lock file, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct DirHolder {
    pid: u32,
    host: String,
    /// The object that is published, a path below the root.
    object: String,
    /// Name of the replication that publishes the object.
    #[serde(default)]
    replication: String,
}

enum Claim {
    Mine(StagingDir),
    HeldDir(HeldDir),
}

/// The run that has locked a staging directory, as far as its lock file shows.
#[derive(Default)]
struct HeldDir {
    holder: DirHolder,
    /// Metadata of the lock file, whose modification time is when the run took the lock.
    lock: Option<Metadata>,
}

impl StagingDir {
    /// Locks the staging directory of `object`, a path below `root`, for a replication; creates the root if it
    /// is missing.
    ///
    /// # Errors
    /// Another run has locked the directory, or the root cannot be written.
    pub(crate) async fn claim(root: &Path, object: &str, replication: &str) -> Result<Self> {
        let path = path(root, object);
        disk::inside(root, &path.join(LOCK))?;
        disk::inside(root, &path.join(STAGE))?;
        let mut last = None;
        for _ in 0..TRIES {
            match claim(root, object, replication) {
                Ok(Claim::Mine(dir)) => return Ok(dir),
                Ok(Claim::HeldDir(held)) => last = Some(held),
                // Another run removed the leftover directory between two steps.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(disk::failed("write to", root, &error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(busy(object, last.unwrap_or_default()))
    }

    /// A path in the staging directory.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // The next run removes what cannot be removed now.
        clear(&self.path, &self.published).ok();
    }
}

/// Removes the staging directories of dead runs below `root`, except for their staged rows. What cannot be
/// removed stays.
pub(crate) fn sweep(root: &Path) {
    each(root, |_, _| Ok(()));
}

/// Removes the staging directories of dead runs below `root`, with those staged rows that no run resumes. What
/// cannot be removed stays.
pub(crate) fn tidy(root: &Path, leftovers: &Leftovers) {
    each(root, |path, holder| {
        let stage = path.join(STAGE);
        let staged = Index::read(&stage).zip(Index::saved_at(&stage));
        let is_kept = staged
            .is_some_and(|(index, at)| !leftovers.include(&holder.replication, &index.run_id, at));
        if is_kept || !stage.exists() { Ok(()) } else { fs::remove_dir_all(stage) }
    });
}

/// Locks each staging directory whose run is dead, and clears it after `first`.
fn each(root: &Path, first: impl Fn(&Path, &DirHolder) -> io::Result<()>) {
    let stages = root.join(STAGES);
    if disk::inside(root, &stages).is_err() {
        return;
    }
    let Ok(entries) = fs::read_dir(stages) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let one = || -> io::Result<()> {
            let Some(_lock) = try_lock(&path, false)? else { return Ok(()) };
            let holder = read_holder(&path);
            // Without the name of its object, a folder that was set aside cannot return to its place.
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

/// Removes a staging directory that the caller has locked. A folder that was set aside returns to its place
/// when the folder that was to replace it never arrived there.
fn clear(path: &Path, published: &Path) -> io::Result<()> {
    let old = path.join(OLD);
    if old.exists() && !published.exists() {
        fs::rename(&old, published)?;
    }
    empty(path)?;
    if path.join(STAGE).exists() { Ok(()) } else { dismantle(path) }
}

fn claim(root: &Path, object: &str, replication: &str) -> io::Result<Claim> {
    let path = path(root, object);
    fs::create_dir_all(&path)?;
    let Some(mut lock) = try_lock(&path, true)? else {
        let lock = fs::metadata(path.join(LOCK)).ok();
        return Ok(Claim::HeldDir(HeldDir { holder: read_holder(&path), lock }));
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_owned();
    let (object, replication) = (object.to_owned(), replication.to_owned());
    let holder = DirHolder { pid: std::process::id(), host, object, replication };
    lock.set_len(0)?;
    lock.write_all(&serde_json::to_vec(&holder)?)?;
    let published = root.join(holder.object);
    Ok(Claim::Mine(StagingDir { path, published, _lock: lock }))
}

/// The lock, unless another process has it. When the lock file was removed meanwhile, the error is
/// `NotFound`.
fn try_lock(path: &Path, create: bool) -> io::Result<Option<File>> {
    let file = path.join(LOCK);
    let lock = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&file);
    let lock = match lock {
        // A staging directory whose removal was interrupted.
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

/// Removes everything in a staging directory except its lock and the staged rows.
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

/// Removes the lock, then the staging directory unless another run has begun to use it, then the folder of all
/// staging directories when it is empty.
fn dismantle(path: &Path) -> io::Result<()> {
    fs::remove_file(path.join(LOCK))?;
    fs::remove_dir(path)?;
    for folder in path.ancestors().skip(1).take(2) {
        fs::remove_dir(folder).ok();
    }
    Ok(())
}

fn read_holder(path: &Path) -> DirHolder {
    let bytes = fs::read(path.join(LOCK)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Path of the staging directory of an object: the same on every machine.
pub(crate) fn path(root: &Path, object: &str) -> PathBuf {
    root.join(STAGES).join(unique(object))
}

fn busy(object: &str, held: HeldDir) -> Error {
    let HeldDir { holder, lock } = held;
    let who = match holder.pid {
        0 => String::new(),
        pid => format!(": process {pid} on `{}`", holder.host),
    };
    let when = lock
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
        let holder = DirHolder { pid: 1, object: object.to_owned(), ..DirHolder::default() };
        fs::write(path.join(LOCK), serde_json::to_vec(&holder).unwrap()).unwrap();
    }

    #[tokio::test]
    async fn the_directory_of_a_living_run_is_neither_swept_nor_claimed_twice() {
        let root = tempfile::tempdir().unwrap();
        let dir = StagingDir::claim(root.path(), "pages", "nightly").await.unwrap();
        fs::write(dir.join("data"), "x").unwrap();
        sweep(root.path());
        assert!(dir.join("data").exists());
        let error = StagingDir::claim(root.path(), "pages", "other").await.unwrap_err();
        assert!(error.chain().contains(&format!("process {}", std::process::id())), "{error:?}");
        drop(dir);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_directory_of_a_dead_run_is_swept_and_a_folder_half_swapped_returns() {
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
