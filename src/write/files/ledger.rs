//! The ledger of points on local disk: one file per connection, changed under a lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};
use crate::quota::account::LedgerQuery;
use crate::quota::account::{Account, Balance, LedgerReply, LedgerUpdate};
use crate::quota::ledger::Ledger;
use crate::write::storage::disk::failed;

/// A ledger in a folder, shared by all processes of the machine that use the folder.
#[derive(Debug)]
pub struct LocalLedger {
    folder: PathBuf,
}

impl LocalLedger {
    /// A ledger in a folder, which is created at the first use.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, connection: &str) -> PathBuf {
        self.folder.join(format!("{connection}.json"))
    }

    /// Checks that the ledger can be written.
    ///
    /// # Errors
    /// The folder cannot be created or written.
    pub fn check(&self) -> Result<()> {
        let wrong = |error: std::io::Error| failed("write", &self.folder, &error);
        fs::create_dir_all(&self.folder).map_err(wrong)?;
        let path = self.folder.join("in_use");
        OpenOptions::new().create(true).append(true).open(path).map(drop).map_err(wrong)
    }
}

#[async_trait]
impl Ledger for LocalLedger {
    async fn exchange(&self, connection: &str, update: &LedgerUpdate) -> Result<LedgerReply> {
        let path = self.path(connection);
        let update = update.clone();
        let done = tokio::task::spawn_blocking(move || {
            change_file(&path, |account| account.exchange(&update))
        })
        .await;
        done.map_err(|error| Error::target("the ledger task failed").because(error))?
    }

    async fn peek(&self, connection: &str, at: LedgerQuery) -> Result<Option<Balance>> {
        let path = self.path(connection);
        let done = tokio::task::spawn_blocking(move || read_file(&path)).await;
        let account =
            done.map_err(|error| Error::target("the ledger task failed").because(error))??;
        Ok(account.map(|account| account.peek(at)))
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let path = self.path(connection);
        let done = tokio::task::spawn_blocking(move || {
            if path.exists() { change_file(&path, Account::lift).map(|()| true) } else { Ok(false) }
        });
        done.await.map_err(|error| Error::target("the ledger task failed").because(error))?
    }

    fn place(&self, connection: &str) -> String {
        self.path(connection).display().to_string()
    }
}

/// The account in a file; `None` when there is no file, or it is empty.
fn read_file(path: &Path) -> Result<Option<Account>> {
    let wrong = |error: std::io::Error| failed("read", path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    // A writer holds the lock for the time of a read and a write.
    flock(&file, FlockOperation::LockShared).map_err(|error| wrong(error.into()))?;
    let text = fs::read(path).map_err(wrong)?;
    if text.is_empty() {
        return Ok(None);
    }
    let account = serde_json::from_slice(&text);
    account.map(Some).map_err(|error| {
        Error::target(format!("the ledger `{}` is damaged", path.display())).because(error).with_hint(
            "`weir quota reset CONNECTION` creates it again; points that were spent before are then not counted",
        )
    })
}

/// Changes the account in a file in one step.
fn change_file<T>(path: &Path, change: impl FnOnce(&mut Account) -> T) -> Result<T> {
    let wrong = |error: std::io::Error| {
        failed("write", path, &error).with_hint(
            "the ledger of points is in this file: `WEIR_HOME` names another folder for it",
        )
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(wrong)?;
    // Held for the time of a read and a write. It ends with the open file, and with the process.
    flock(&file, FlockOperation::LockExclusive).map_err(|error| wrong(error.into()))?;
    let previous = fs::read(path).map_err(wrong)?;
    // A damaged account counts as a new one: the server still limits what can be spent.
    let known = serde_json::from_slice(&previous);
    if known.is_err() && !previous.is_empty() {
        let file = path.display();
        tracing::warn!(
            "the ledger `{file}` is damaged, so weir creates it again: points that were spent before are not counted"
        );
    }
    let mut account: Account = known.unwrap_or_default();
    let done = change(&mut account);
    let text = serde_json::to_string(&account)
        .map_err(|error| Error::target("the ledger cannot be written as JSON").because(error))?;
    // Padded to its previous length, so that one write replaces all of it.
    let text = format!("{text:<width$}\n", width = previous.len().saturating_sub(1));
    file.write_all(text.as_bytes()).map_err(wrong)?;
    Ok(done)
}
