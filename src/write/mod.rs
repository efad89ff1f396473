//! Rows to their target: the `Target` and `Writer` seams, and the list of targets.

pub mod files;
pub mod memory;
pub mod postgres;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::schema::TableSchema;

/// What becomes of the rows that the target already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// The new rows take the place of all old ones; the table itself may be made anew.
    Replace,
    /// The new rows take the place of all old ones; the table, its grants and indexes stay.
    Truncate,
    /// The new rows are added.
    Append,
    /// A new row takes the place of the old row with the same key; other old rows stay.
    Merge,
}

/// One table to be written in one run.
#[derive(Clone, Debug)]
pub struct Table {
    /// Stream whose rows these are.
    pub stream: String,
    /// Where to: `schema.table` for a database, a path below the connection's root for files.
    pub object: String,
    /// Columns and key. Batches have these columns in this order.
    pub schema: TableSchema,
    /// What becomes of the old rows.
    pub disposition: Disposition,
    /// Id of the run.
    pub run_id: String,
    /// Sizes of its files, where they are not the target's; databases ignore it.
    pub files: Option<files::Settings>,
}

/// What a commit made visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where, for a person: a quoted table name or a path.
    pub object: String,
    /// Rows written in this run.
    pub rows: u64,
}

/// A place where tables are written: a database or a store of files.
///
/// # Contract
/// - Until [`Writer::commit`] returns, a reader of the target sees what it saw before.
/// - Dropping a writer, or the death of the process, leaves what was there before, and no partial
///   file under a final name; what is left over under other names, the next `open` removes.
/// - A commit without any rows is a commit: `Replace` and `Truncate` then empty the table.
#[async_trait]
pub trait Target: Send + Sync {
    /// Refuses a table that could never be opened, by its name and disposition alone; asks nobody.
    fn accepts(&self, table: &Table) -> Result<()>;

    /// Checks that the target can be reached and written, without changing it.
    async fn check(&self) -> Result<()>;

    /// Starts writing one table; creates what it needs (schema, folder) if missing.
    async fn open(&self, table: &Table) -> Result<Box<dyn Writer>>;
}

/// Takes the batches of one table, in order. Bounded: holds no more than its own buffers.
#[async_trait]
pub trait Writer: Send {
    /// Takes one batch with the columns of the table's schema.
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// Makes all rows visible at once.
    async fn commit(self: Box<Self>) -> Result<Committed>;
}
