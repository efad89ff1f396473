//! The ledger of points on local disk: a file per connection, changed under a lock.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};

use super::local::failed;
use crate::error::{Error, Result};
use crate::ledger::{Account, Ledger, Standing, Visit};

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
        let path = self.folder.join(format!("{connection}.json"));
        let visit = visit.clone();
        let done = tokio::task::spawn_blocking(move || visit_file(&path, &visit)).await;
        done.map_err(|error| Error::target("the ledger broke").because(error))?
    }
}

fn visit_file(path: &Path, visit: &Visit) -> Result<Standing> {
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
    let mut account: Account = serde_json::from_slice(&old).unwrap_or_default();
    let standing = account.visit(visit);
    let text = serde_json::to_string(&account)
        .map_err(|error| Error::target("the ledger makes no JSON").because(error))?;
    // Filled up to the length it had, so that it is written over in one piece.
    let text = format!("{text:<width$}\n", width = old.len().saturating_sub(1));
    file.write_all(text.as_bytes()).map_err(wrong)?;
    Ok(standing)
}
