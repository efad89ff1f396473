//! Where the encoded bytes of a table go.

use async_trait::async_trait;

use crate::error::{Error, Result};

/// Takes the encoded bytes of a table, which become visible only at commit.
#[async_trait]
pub(crate) trait Sink: Send {
    /// Adds bytes to the current part.
    async fn append(&mut self, bytes: Vec<u8>) -> Result<()>;

    /// Ends the current part; the next bytes begin another one.
    async fn end_part(&mut self) -> Result<()>;

    /// Makes all parts visible and removes what they replace. `rows` is the number of their rows. Returns the
    /// path that messages show.
    async fn publish(self: Box<Self>, rows: u64) -> Result<String>;
}

/// How messages show a folder of parts: `out/pages/ (3 files)`.
pub(crate) fn counted(folder: &str, files: usize) -> String {
    let noun = if files == 1 { "file" } else { "files" };
    format!("{folder}/ ({files} {noun})")
}

/// The error of an append to an object that is one file.
pub(crate) fn cannot_append(shown: &str) -> Error {
    Error::input(format!("cannot append to `{shown}`, which is a single file"))
        .with_hint("put a `*` in the file name, as in `pages/*.parquet`, or `{run_timestamp}`")
}
