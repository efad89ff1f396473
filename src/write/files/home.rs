//! The state of replications beside the files: a snapshot and a journal on local disk, one object in a
//! store.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{local::failed, object::label};
use crate::error::{Error, Kind, Result};
use crate::state::{Change, Entries, Holder, Lock, Store};

/// Folder of the states below a root; hidden from those who look for data.
const FOLDER: &str = ".weir_state";
/// Everything up to some point in time, and what was saved since, one line each.
const SNAPSHOT: &str = "state.json";
const JOURNAL: &str = "journal.jsonl";
/// The file that the holder of the lock has locked.
const LOCK: &str = "lock";
/// Bytes of a journal after which a new snapshot is made.
const LONG: u64 = 8 << 20;

/// Where the state of a replication is, below a root: a name that no other replication has.
pub(super) fn place(replication: &str) -> String {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = replication.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let readable: String = label(replication).chars().take(80).collect();
    format!("{FOLDER}/{readable}-{hash:016x}")
}

/// The error of a replication that somebody else runs.
pub(super) fn taken(replication: &str, holder: Option<&Holder>) -> Error {
    let holder = holder.map_or_else(|| "somebody unknown".to_owned(), ToString::to_string);
    Error::new(Kind::Busy, format!("another run of `{replication}` is going on: {holder}"))
        .with_hint("wait until it is done, or end it")
}

/// The state of one replication in a folder.
#[derive(Debug)]
pub(super) struct LocalStore {
    folder: PathBuf,
    replication: String,
    /// The journal, once its end is known to be whole.
    journal: Mutex<Option<File>>,
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
    pub(super) fn new(root: &std::path::Path, replication: &str) -> Self {
        let folder = root.join(place(replication));
        Self { folder, replication: replication.to_owned(), journal: Mutex::default() }
    }

    fn read(&self) -> Result<Entries> {
        let snapshot = self.folder.join(SNAPSHOT);
        let mut entries: Entries = match fs::read(&snapshot) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::target(format!("`{}` is no state of weir", snapshot.display()))
                    .because(error)
                    .with_hint("move it away: the next run then reads everything")
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Entries::new(),
            Err(error) => return Err(failed("read", &snapshot, &error)),
        };
        let journal = self.folder.join(JOURNAL);
        let text = match fs::read(&journal) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read", &journal, &error)),
        };
        // The last line may be what a dying process had begun to write: it was never saved.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in text.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let changes: Vec<(String, Option<Value>)> =
                serde_json::from_slice(line).map_err(|error| {
                    Error::target(format!("`{}` is damaged", journal.display()))
                        .because(error)
                        .with_hint("move it away: the next run then goes on from an earlier point")
                })?;
            for (key, value) in changes {
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
        }
        Ok(entries)
    }

    /// Puts everything into the snapshot, and begins an empty journal.
    fn compact(&self) -> Result<File> {
        fs::create_dir_all(&self.folder).map_err(|error| failed("create", &self.folder, &error))?;
        let entries = self.read()?;
        let (new, snapshot) = (self.folder.join("state.new"), self.folder.join(SNAPSHOT));
        let wrong = |error: std::io::Error| failed("write", &new, &error);
        let text = serde_json::to_vec(&entries)
            .map_err(|error| Error::target("the state makes no JSON").because(error))?;
        let mut file = File::create(&new).map_err(wrong)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&new, &snapshot).map_err(wrong)?;
        // Read again over the snapshot, an old journal says the same once more.
        let journal = self.folder.join(JOURNAL);
        let opened = OpenOptions::new().create(true).append(true).open(&journal);
        let opened = opened.map_err(|error| failed("write", &journal, &error))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
        opened.set_len(0).map_err(|error| failed("write", &journal, &error))?;
        Ok(opened)
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
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
        let text = serde_json::to_vec(holder).unwrap_or_default();
        file.set_len(0).and_then(|()| file.write_all(&text)).map_err(wrong)?;
        Ok(Box::new(LocalLock { _file: file }))
    }

    async fn load(&self) -> Result<Entries> {
        let _whole = self.journal.lock().await;
        self.read()
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.lock().await;
        let mut file = match journal.take() {
            Some(file) => file,
            None => self.compact()?,
        };
        let line: Vec<(&str, &Option<Value>)> =
            changes.iter().map(|change| (change.key.as_str(), &change.value)).collect();
        let mut text = serde_json::to_vec(&line)
            .map_err(|error| Error::target("the state makes no JSON").because(error))?;
        text.push(b'\n');
        let path = self.folder.join(JOURNAL);
        // After a failure the end of the journal is not known: the next save begins a new one.
        let length = file
            .write_all(&text)
            .and_then(|()| file.sync_all())
            .and_then(|()| file.metadata())
            .map_err(|error| failed("write", &path, &error))?
            .len();
        if length < LONG {
            *journal = Some(file);
        }
        Ok(())
    }
}
