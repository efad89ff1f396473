//! The `Target` and `Writer` seams, which every target implements.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::report::{Notice, Reporter, Silent};
use crate::state::{Change, Store};
use crate::write::leftovers::Leftovers;
use crate::write::owner::ExistingTable;
use crate::write::table::Table;

/// Suffix of the names of samples.
pub const SAMPLE: &str = "__sample";

/// What a commit has to know about the run that staged the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Which existing rows the source no longer has.
    pub deletable: Deletable,
    /// Time of the run, for `_weir_deleted_at`.
    pub at: DateTime<Utc>,
    /// Numbers of slices whose rows are discarded: they were read again under another number, or not to their
    /// end.
    pub discarded_slices: Vec<i64>,
}

/// Which existing rows a merge may take for deleted at the source, of those whose key was not staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletable {
    /// No row, whatever the markers say.
    Nothing,
    /// The rows of each parent whose markers all say that its rows were read again.
    ReadParents,
    /// All rows, because the run has read everything. In a table with [`Table::replaces`], the rows of a parent
    /// without a marker are deleted at the source, and those of a parent that is marked `false` are not.
    Everything,
}

impl Deletable {
    /// Whether the source no longer has an existing row whose key was not staged, in a table without
    /// [`Table::replaces`].
    pub(crate) fn is_gone(self) -> bool {
        self == Self::Everything
    }

    /// Whether the source no longer has an existing row whose key was not staged, in a table with
    /// [`Table::replaces`]. `marked` is what all markers of the row's parent say together; `None` when the
    /// parent has no marker.
    pub(crate) fn is_gone_with_parent(self, marked: Option<bool>) -> bool {
        match marked {
            Some(read_again) => read_again && self != Self::Nothing,
            None => self == Self::Everything,
        }
    }
}

/// What a commit made visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// How messages name the table: a quoted table name or a path.
    pub object: String,
    /// Number of rows that this run wrote, without markers.
    pub rows: u64,
    /// Number of existing rows that were marked or removed because the source no longer has them.
    pub deleted: u64,
    /// Number of rows that were not written because the same slice staged them once more.
    pub repeated: u64,
    /// Key collisions, and waits for the table.
    pub notices: Vec<Notice>,
}

/// Where a target reports its waits, and what ends them.
#[derive(Clone)]
pub struct Watch {
    /// Receives a warning for each wait.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop; waits then end at once.
    pub cancel: CancellationToken,
}

impl Default for Watch {
    fn default() -> Self {
        Self { reporter: Arc::new(Silent), cancel: CancellationToken::new() }
    }
}

/// A database or a store of files, to which tables are written.
///
/// # Contract
/// - Rows are staged, unseen, until [`Writer::commit`]. Until the commit returns, a reader of the target sees
///   what it saw before.
/// - Rows that were staged before the last [`Writer::checkpoint`] outlive the writer, the process and the
///   server. [`Target::open`] with the number of rows in the state resumes from there, and discards rows that
///   were staged later. Opening without a number discards all staged rows of the table.
/// - Of the staged rows with the same key, one is written, whatever the disposition: the greatest by
///   [`Table::version`], then by slice number, then by order of staging. Rows that replace others with
///   different contents are reported as [`crate::report::NoticeKind::KeyCollision`]; with [`Table::strict`]
///   the commit then fails with [`crate::error::Kind::Shape`], and the target stays unchanged.
/// - A commit without any rows is a commit: `Replace` and `Truncate` then empty the table.
/// - The state that `checkpoint` or `commit` gets is saved together with the rows: both or neither.
/// - A commit records the table's [`crate::write::Owner`], which [`Target::existing`] reads.
#[async_trait]
pub trait Target: Send + Sync {
    /// Refuses a table that could never be opened, judged by its description alone; works offline.
    fn accepts(&self, table: &Table) -> Result<()>;

    /// The object for a sample of an object: in the same schema or folder, and of the same format.
    ///
    /// # Errors
    /// The object is malformed.
    fn sample_object(&self, object: &str) -> Result<String> {
        Ok(format!("{object}{SAMPLE}"))
    }

    /// Checks that the target can be reached and written, without changing it.
    async fn check(&self) -> Result<()>;

    /// Starts writing one table; creates the schema or folder that it needs. With `staged`, resumes with that
    /// many staged rows (markers are rows too) of the same run; `None` when they are not there, because they
    /// were committed or lost.
    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>>;

    /// Creates the table, or adds the columns of the schema that it lacks; leaves its rows unchanged. Returns
    /// how messages name the table.
    async fn define(&self, table: &Table) -> Result<String>;

    /// Refuses a table whose existing state would make the commit fail; called before the first request.
    async fn check_table(&self, table: &Table) -> Result<()> {
        let _ = table;
        Ok(())
    }

    /// What a table that an earlier run has written lacks now, as a clause: the table itself, or a column of
    /// its schema. `None` when nothing is missing, as far as that shows without reading rows.
    async fn missing_part(&self, table: &Table) -> Result<Option<String>>;

    /// What exists under the table's name, and who owns it; `None` when nothing does. Changes nothing.
    async fn existing(&self, table: &Table) -> Result<Option<ExistingTable>>;

    /// Removes leftover staged rows, as far as possible. Only the holder of the replication's lock may call it.
    async fn tidy(&self, leftovers: &Leftovers) -> Result<()>;

    /// Sets where the target reports its waits, and what ends them.
    fn set_watch(&self, watch: Watch);

    /// Whether this many staged rows of the table's run are there, so that [`Target::open`] can resume with
    /// them. Targets that save rows and state in one step always have them.
    async fn is_staged(&self, table: &Table, staged: u64) -> Result<bool> {
        let _ = (table, staged);
        Ok(true)
    }

    /// Number of rows of a table, without those that are marked as deleted; `None` when there is no such table,
    /// or its files would have to be fetched to count them.
    async fn count(&self, table: &Table) -> Result<Option<u64>>;

    /// The state that the target keeps for a replication.
    fn store(&self, replication: &str) -> Result<Arc<dyn Store>>;
}

/// Takes the batches of one table, in order. Its memory is bounded by its own buffers. When it is dropped, the
/// rows of the last checkpoint stay staged for the next run.
#[async_trait]
pub trait Writer: Send {
    /// Stages one batch with the columns of [`crate::schema::TableSchema::staged`].
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// Flushes its buffers, and returns for each column the number of values that the target could not store and
    /// replaced since the last call. Empty when there were none.
    async fn replaced(&mut self) -> Result<Vec<(String, u64)>>;

    /// Number of rows staged so far, markers and rows of discarded slices included: the number for
    /// [`Target::open`].
    fn staged(&self) -> u64;

    /// Makes all staged rows durable, together with the state.
    async fn checkpoint(&mut self, state: &[Change]) -> Result<()>;

    /// Keys of existing rows that a commit now would take for deleted at the source, as texts; `None` when there
    /// are more than `most`, or the target cannot tell. For tables whose key is the column [`Table::replaces`].
    async fn missing(&mut self, info: &CommitInfo, most: usize) -> Result<Option<Vec<String>>> {
        let _ = (info, most);
        Ok(None)
    }

    /// Makes all rows visible at once, together with the state, and removes the staging.
    async fn commit(self: Box<Self>, info: &CommitInfo, state: &[Change]) -> Result<Committed>;

    /// Discards all staged rows.
    async fn discard(self: Box<Self>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_were_surely_looked_for_are_gone() {
        let cases = [
            (Deletable::Nothing, false, [false, false, false]),
            (Deletable::ReadParents, false, [false, true, false]),
            (Deletable::Everything, true, [true, true, false]),
        ];
        for (deletable, without_parent, with_parent) in cases {
            assert_eq!(deletable.is_gone(), without_parent, "{deletable:?}");
            let marked = [None, Some(true), Some(false)];
            assert_eq!(
                marked.map(|one| deletable.is_gone_with_parent(one)),
                with_parent,
                "{deletable:?}"
            );
        }
    }
}
