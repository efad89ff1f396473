//! The state of replications on local disk: a snapshot and a journal.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
    sync::PoisonError,
};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::Mutex;

use crate::error::Result;
use crate::state::{Change, Entries, Holder, Lock, Store};
use crate::write::files::state::journal::{self, Loaded};
use crate::write::files::state::paths::{self, taken};
use crate::write::storage::disk::{self, failed};

/// Files of the state, see [`journal`]: everything up to some point in time, and what was saved since.
const SNAPSHOT: &str = "state.json";
const NEW: &str = "state.new";
const JOURNAL: &str = "journal.jsonl";
/// The file that the run of the replication has locked.
const LOCK: &str = "lock";
/// Size of a journal at which a new snapshot is made, in bytes.
const MAX_JOURNAL: u64 = 8 << 20;

/// The state of one replication in a folder.
#[derive(Debug)]
pub(crate) struct LocalStore {
    root: PathBuf,
    folder: PathBuf,
    replication: String,
    /// The open journal; `None` before the first save, and after a failed one.
    journal: Mutex<Option<Journal>>,
    /// What was damaged when the state was last read.
    damage: std::sync::Mutex<Option<String>>,
}

/// A journal that is being written.
#[derive(Debug)]
struct Journal {
    file: File,
    /// Number of the snapshot that it follows.
    generation: u64,
}

struct LocalLock {
    _file: File,
}

impl Lock for LocalLock {
    fn is_held(&self) -> bool {
        true
    }
}

impl LocalStore {
    pub(crate) fn new(root: &std::path::Path, replication: &str) -> Self {
        let folder = root.join(paths::state(replication));
        let (root, replication) = (root.to_owned(), replication.to_owned());
        let (journal, damage) = (Mutex::default(), std::sync::Mutex::default());
        Self { root, folder, replication, journal, damage }
    }

    /// Refuses a folder or file of the state that is a symbolic link out of the root.
    fn check_inside(&self) -> Result<()> {
        disk::inside(&self.root, &self.folder)?;
        let mut files = [SNAPSHOT, NEW, JOURNAL, LOCK].into_iter();
        files.try_for_each(|name| disk::inside(&self.root, &self.folder.join(name)))
    }

    fn read(&self) -> Result<Loaded> {
        self.check_inside()?;
        let read = |name: &str| {
            let path = self.folder.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed("read", &path, &error)),
            }
        };
        let (snapshot, journal) = (read(SNAPSHOT)?, read(JOURNAL)?);
        let mut loaded = journal::read(snapshot.as_deref(), &journal.unwrap_or_default());
        if let Some(damage) = loaded.damage.take() {
            let folder = self.folder.display();
            let damage = format!("the state in `{folder}` is damaged: {damage}");
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(damage);
        }
        Ok(loaded)
    }

    /// Writes a new snapshot with everything that is saved, and begins its journal.
    fn compact(&self) -> Result<Journal> {
        self.check_inside()?;
        fs::create_dir_all(&self.folder).map_err(|error| failed("create", &self.folder, &error))?;
        let Loaded { entries, generation, .. } = self.read()?;
        let generation = generation + 1;
        let (new, snapshot) = (self.folder.join(NEW), self.folder.join(SNAPSHOT));
        let wrong = |error: std::io::Error| failed("write", &new, &error);
        let text = journal::snapshot(generation, &entries)?;
        let mut file = File::create(&new).map_err(wrong)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&new, &snapshot).map_err(wrong)?;
        let journal = self.folder.join(JOURNAL);
        let opened = OpenOptions::new().create(true).append(true).open(&journal);
        let file = opened.map_err(|error| failed("write", &journal, &error))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
        file.set_len(0).map_err(|error| failed("write", &journal, &error))?;
        Ok(Journal { file, generation })
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        self.check_inside()?;
        fs::create_dir_all(&self.folder).map_err(|error| failed("create", &self.folder, &error))?;
        let path = self.folder.join(LOCK);
        let wrong = |error: std::io::Error| failed("lock", &path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(wrong)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder =
                    fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
                return Err(taken(&self.replication, holder.as_ref()));
            }
            other => other.map_err(|error| failed("lock", &path, &error.into()))?,
        }
        let text = serde_json::to_vec(holder).expect("a holder of texts and numbers is JSON");
        file.set_len(0).and_then(|()| file.write_all(&text)).map_err(wrong)?;
        Ok(Box::new(LocalLock { _file: file }))
    }

    async fn load(&self) -> Result<Entries> {
        let _whole = self.journal.lock().await;
        Ok(self.read()?.entries)
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.lock().await;
        let Journal { mut file, generation } = match journal.take() {
            Some(journal) => journal,
            None => self.compact()?,
        };
        let record = journal::changes(generation, changes)?;
        let path = self.folder.join(JOURNAL);
        // After a failure the end of the journal may be damaged: the next save begins a new journal.
        let length = file
            .write_all(&record)
            .and_then(|()| file.sync_all())
            .and_then(|()| file.metadata())
            .map_err(|error| failed("write", &path, &error))?
            .len();
        if length < MAX_JOURNAL {
            *journal = Some(Journal { file, generation });
        }
        Ok(())
    }

    fn damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
