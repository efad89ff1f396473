//! The ledger of points on local disk: a file per connection, changed under a lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};

use super::local::failed;
use crate::error::{Error, Result};
use crate::quota::account::Look;
use crate::quota::account::{Account, Balance, Standing, Visit};
use crate::quota::ledger::Ledger;

/// The ledger in a folder, for all processes of the machine that use it.
#[derive(Debug)]
pub struct LocalLedger {
    folder: PathBuf,
}

impl LocalLedger {
    /// A ledger in a folder, which is made when it is first used.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, connection: &str) -> PathBuf {
        self.folder.join(format!("{connection}.json"))
    }

    /// Checks that it can be kept.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn check(&self) -> Result<()> {
        let wrong = |error: std::io::Error| failed("write", &self.folder, &error);
        fs::create_dir_all(&self.folder).map_err(wrong)?;
        let path = self.folder.join("in_use");
        OpenOptions::new().create(true).append(true).open(path).map(drop).map_err(wrong)
    }
}

#[async_trait]
impl Ledger for LocalLedger {
    async fn visit(&self, connection: &str, visit: &Visit) -> Result<Standing> {
        let path = self.path(connection);
        let visit = visit.clone();
        let done = tokio::task::spawn_blocking(move || {
            change_file(&path, |account| account.visit(&visit))
        })
        .await;
        done.map_err(|error| Error::target("the ledger broke").because(error))?
    }

    async fn look(&self, connection: &str, at: Look) -> Result<Option<Balance>> {
        let path = self.path(connection);
        let done = tokio::task::spawn_blocking(move || read_file(&path)).await;
        let account = done.map_err(|error| Error::target("the ledger broke").because(error))??;
        Ok(account.map(|account| account.look(at)))
    }

    async fn lift(&self, connection: &str) -> Result<bool> {
        let path = self.path(connection);
        let done = tokio::task::spawn_blocking(move || {
            if path.exists() { change_file(&path, Account::lift).map(|()| true) } else { Ok(false) }
        });
        done.await.map_err(|error| Error::target("the ledger broke").because(error))?
    }

    fn place(&self, connection: &str) -> String {
        self.path(connection).display().to_string()
    }
}

/// The account in a file; `None` when there is no file.
fn read_file(path: &Path) -> Result<Option<Account>> {
    let wrong = |error: std::io::Error| failed("read", path, &error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
    };
    // Whoever writes holds it for the time of a read and a write.
    flock(&file, FlockOperation::LockShared).map_err(|error| wrong(error.into()))?;
    let text = fs::read(path).map_err(wrong)?;
    if text.is_empty() {
        return Ok(None);
    }
    let account = serde_json::from_slice(&text);
    account.map(Some).map_err(|error| {
        Error::target(format!("`{}` is not understood", path.display())).because(error).with_hint(
            "weir quota reset CONNECTION makes it anew; what was spent before is not counted then",
        )
    })
}

/// Changes the account in a file, in one step.
fn change_file<T>(path: &Path, change: impl FnOnce(&mut Account) -> T) -> Result<T> {
    let wrong = |error: std::io::Error| {
        failed("write", path, &error)
            .with_hint("the ledger of points is kept there: `WEIR_HOME` names another folder")
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(wrong)?;
    // Held for the time of a read and a write; it ends with the file, and with its holder.
    flock(&file, FlockOperation::LockExclusive).map_err(|error| wrong(error.into()))?;
    let old = fs::read(path).map_err(wrong)?;
    // What cannot be read is as good as nothing: the server's word is still there.
    let known = serde_json::from_slice(&old);
    if known.is_err() && !old.is_empty() {
        let file = path.display();
        tracing::warn!(
            "`{file}` is not understood and made anew: points that were spent before are not counted"
        );
    }
    let mut account: Account = known.unwrap_or_default();
    let done = change(&mut account);
    let text = serde_json::to_string(&account)
        .map_err(|error| Error::target("the ledger makes no JSON").because(error))?;
    // Filled up to the length it had, so that it is written over in one piece.
    let text = format!("{text:<width$}\n", width = old.len().saturating_sub(1));
    file.write_all(text.as_bytes()).map_err(wrong)?;
    Ok(done)
}
