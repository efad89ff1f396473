//! What a replication remembers between runs: a small store of named values, saved all at once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

/// Everything a store holds for one replication, by key.
pub type Entries = BTreeMap<String, Value>;

/// A value to be saved under a key; without a value, the key is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name, such as `stream/pages`.
    pub key: String,
    /// What to remember.
    pub value: Option<Value>,
}

impl Change {
    /// Remembers a value.
    pub fn set(key: impl Into<String>, value: Value) -> Self {
        Self { key: key.into(), value: Some(value) }
    }

    /// Forgets a key.
    pub fn forget(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// Keeps the state of one replication.
///
/// # Contract
/// - [`Store::save`] saves all changes or none, whenever the process or the machine dies; once it has
///   returned, they last.
/// - Only the holder of the lock saves. The lock ends with its holder, however that dies.
#[async_trait]
pub trait Store: Send + Sync {
    /// Takes the replication's lock.
    ///
    /// # Errors
    /// Somebody else runs the replication: the message says who, and since when.
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>>;

    /// Reads everything. Needs no lock.
    async fn load(&self) -> Result<Entries>;

    /// Saves changes, all at once.
    async fn save(&self, changes: &[Change]) -> Result<()>;

    /// What was damaged, and so left out, when the state was loaded last: a clause for a person.
    fn damage(&self) -> Option<String> {
        None
    }
}

/// The right to run a replication; dropped, it is given up, sooner or later.
#[async_trait]
pub trait Lock: Send + Sync {
    /// Whether it still holds; it may be lost with the connection to the store.
    fn is_held(&self) -> bool;

    /// Gives it up, and waits until others can take it, as far as that can be done. Where dropping it
    /// is as good, it does nothing.
    async fn release(&self) {}
}

/// Who runs a replication, for those who find it locked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The run's id.
    pub run_id: String,
    /// Name of its machine.
    pub host: String,
    /// Number of its process there.
    pub process: u32,
    /// When it took the lock, `2026-01-31T12:00:00Z`.
    pub since: String,
    /// What tells the numbers of its machine's processes from those before the last boot, and of other
    /// containers; `None` where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

impl Holder {
    /// This process, from now on.
    pub fn here(run_id: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let since = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let boot = boot();
        Self { run_id: run_id.to_owned(), host, process: std::process::id(), since, boot }
    }

    /// Whether its process is known to have ended: it ran on this machine since the last boot, in the same
    /// container, and there is no such process any more.
    pub fn is_dead(&self) -> bool {
        let here = Self::here("");
        let same = self.host == here.host && self.boot.is_some() && self.boot == here.boot;
        let process = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw);
        let gone =
            |process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH);
        same && process.is_some_and(gone)
    }
}

/// The boot of this machine and the namespace of its process numbers.
fn boot() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

impl std::fmt::Display for Holder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run_id, host, process, since, .. } = self;
        write!(formatter, "run {run_id} (process {process} on {host}, since {since})")
    }
}
