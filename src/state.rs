//! The state of a replication between runs: a small key-value store, saved atomically.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::Result;

/// The whole state of one replication, by key.
pub type Entries = BTreeMap<String, Value>;

/// A change of the state: a value to save under a key, or the removal of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Name, such as `stream/pages`.
    pub key: String,
    /// The value; `None` removes the key.
    pub value: Option<Value>,
}

impl Change {
    /// Saves a value.
    pub fn set(key: impl Into<String>, value: Value) -> Self {
        Self { key: key.into(), value: Some(value) }
    }

    /// Removes a key.
    pub fn forget(key: impl Into<String>) -> Self {
        Self { key: key.into(), value: None }
    }
}

/// Stores the state of one replication.
///
/// # Contract
/// - [`Store::save`] saves all changes or none, even if the process or the machine fails. Once it
///   has returned, the changes are durable.
/// - Only the holder of the lock saves. The lock ends with the process that holds it, however that
///   ends.
#[async_trait]
pub trait Store: Send + Sync {
    /// Takes the replication's lock.
    ///
    /// # Errors
    /// Another process runs the replication; the message says which one, and since when.
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>>;

    /// Reads the whole state. Does not need the lock.
    async fn load(&self) -> Result<Entries>;

    /// Saves changes atomically.
    async fn save(&self, changes: &[Change]) -> Result<()>;

    /// What the last load ignored because it was damaged, as a clause for the user.
    fn damage(&self) -> Option<String> {
        None
    }
}

/// The lock of a replication. Dropping it releases the lock, possibly with a delay.
#[async_trait]
pub trait Lock: Send + Sync {
    /// Whether the lock is still held; it may be lost with the connection to the store.
    fn is_held(&self) -> bool;

    /// Releases the lock and, if possible, waits until others can take it. Does nothing for stores
    /// where dropping it has the same effect.
    async fn release(&self) {}
}

/// The process that runs a replication, for messages of other processes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The run's id.
    pub run_id: String,
    /// Host name of its machine.
    pub host: String,
    /// Its process id on that machine.
    pub process: u32,
    /// When it took the lock, such as `2026-01-31T12:00:00Z`.
    pub since: String,
    /// Identifies the boot of its machine and its container, so that process ids are comparable;
    /// `None` if the system does not provide it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
}

impl Holder {
    /// This process, with the current time.
    pub fn here(run_id: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let since = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let boot = boot();
        Self { run_id: run_id.to_owned(), host, process: std::process::id(), since, boot }
    }

    /// Whether its process is known to have ended: it ran on this machine since the last boot and
    /// in the same container, and no such process exists any more.
    pub fn is_dead(&self) -> bool {
        let here = Self::here("");
        let same = self.host == here.host && self.boot.is_some() && self.boot == here.boot;
        let process = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw);
        let gone =
            |process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH);
        same && process.is_some_and(gone)
    }
}

/// The boot id of this machine and the namespace of its process ids.
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
