//! The `Target` and `Writer` seams: what every target does, and what it may rely on.

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::report::{Notice, Reporter, Silent};
use crate::state::{Change, Store};
use crate::write::leftovers::Leftovers;
use crate::write::owner::Standing;
use crate::write::table::Table;

/// What the names of samples end with.
pub const SAMPLE: &str = "__sample";

/// How the reading of a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What is known of rows that were not staged.
    pub seen: Seen,
    /// The time for `_weir_deleted_at`.
    pub at: DateTime<Utc>,
    /// Slices whose rows do not count: they were read anew under another number, or not to their end.
    pub void: Vec<i64>,
}

/// What a merge may conclude of old rows whose key was not staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: all old rows stay, whatever the markers say.
    Nothing,
    /// Nothing but this: where a parent was marked as read anew, by every marker of it, those of its
    /// old rows whose key was not staged are gone.
    Some,
    /// The source has no others. With [`Table::replaces`], every parent was marked: the rows of a
    /// parent without a marker are gone, those of a parent marked `false` stay. Without it, every
    /// row was staged: all old rows whose key was not are gone.
    All,
}

impl Seen {
    /// Whether the source no longer has an existing row whose key was not staged, in a table without
    /// [`Table::replaces`].
    pub(crate) fn is_gone(self) -> bool {
        self == Self::All
    }

    /// Whether the source no longer has an existing row whose key was not staged, in a table with
    /// [`Table::replaces`]. `marked` is what all markers of the row's parent say together; `None` when the
    /// parent has no marker.
    pub(crate) fn is_gone_with_parent(self, marked: Option<bool>) -> bool {
        match marked {
            Some(read_again) => read_again && self != Self::Nothing,
            None => self == Self::All,
        }
    }
}

/// What a commit made visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Where, for a person: a quoted table name or a path.
    pub object: String,
    /// Rows written in this run, markers aside.
    pub rows: u64,
    /// Old rows that were marked or removed because the source no longer has them.
    pub deleted: u64,
    /// Rows that one slice staged more than once, and that were written once.
    pub repeated: u64,
    /// What the target dropped or replaced.
    pub notices: Vec<Notice>,
}

/// Whom a target tells what it waits for, and what ends its waits.
#[derive(Clone)]
pub struct Watch {
    /// Is told.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop: waits then end at once.
    pub cancel: CancellationToken,
}

impl Default for Watch {
    fn default() -> Self {
        Self { reporter: Arc::new(Silent), cancel: CancellationToken::new() }
    }
}

/// A place where tables are written: a database or a store of files.
///
/// # Contract
/// - Rows are staged, unseen, until [`Writer::commit`]. Until it returns, a reader of the target sees
///   what it saw before.
/// - What was staged before the last [`Writer::checkpoint`] outlives the writer, the process and the
///   server. [`Target::open`] with the number of rows the state tells goes on from there; whatever
///   was staged later is forgotten. Opening without it forgets all of an earlier run's staging.
/// - Of the staged rows with one key, one is written, whatever the disposition: the greatest by
///   [`Table::version`], then by slice number, then by order of staging. Rows that replace others with
///   different content are told as [`crate::report::NoticeKind::KeyCollision`]; with [`Table::strict`]
///   the commit then fails with [`crate::error::Kind::Shape`], and the target stays as it is.
/// - A commit without any rows is a commit: `Replace` and `Truncate` then empty the table.
/// - State that is handed to `checkpoint` or `commit` is saved with the rows, both or neither.
/// - A commit records the table's [`Owner`], which [`Target::standing`] reads.
#[async_trait]
pub trait Target: Send + Sync {
    /// Refuses a table that could never be opened, by its name and disposition alone; asks nobody.
    fn accepts(&self, table: &Table) -> Result<()>;

    /// The object for a sample of one: beside it, of the same form.
    ///
    /// # Errors
    /// The object cannot be understood.
    fn beside(&self, object: &str) -> Result<String> {
        Ok(format!("{object}{SAMPLE}"))
    }

    /// Checks that the target can be reached and written, without changing it.
    async fn check(&self) -> Result<()>;

    /// Starts writing one table; creates what it needs (schema, folder) if missing. With `staged`,
    /// goes on with that many staged rows (markers are rows too) of the same run; `None` when they
    /// are not there: committed already, or lost.
    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>>;

    /// Makes the table exist with all columns of the schema, and leaves its rows alone.
    async fn define(&self, table: &Table) -> Result<String>;

    /// Refuses rows that the table, as it is now, could not take at commit: a look at the target before the
    /// first request.
    async fn check_table(&self, table: &Table) -> Result<()> {
        let _ = table;
        Ok(())
    }

    /// What is gone of a table that an earlier run has written, as a clause: the table itself, or a
    /// column of its schema. `None`: it is all there, as far as that can be told without its rows.
    async fn lacks(&self, table: &Table) -> Result<Option<String>>;

    /// What stands where the table is to be written, and whose it is; `None` where there is nothing. Reads
    /// only.
    async fn standing(&self, table: &Table) -> Result<Option<Standing>>;

    /// Removes what is staged and left over, as far as it can be removed. Only for the holder of the
    /// replication's lock.
    async fn tidy(&self, leftovers: &Leftovers) -> Result<()>;

    /// Takes note of whom to tell what the target waits for, and of what ends its waits.
    fn attend(&self, watch: Watch);

    /// Whether so many staged rows of the table's run are there, so that [`Target::open`] can go on with
    /// them. Where rows and state are saved in one step they are.
    async fn is_staged(&self, table: &Table, staged: u64) -> Result<bool> {
        let _ = (table, staged);
        Ok(true)
    }

    /// Rows of a table, without those that are marked as deleted; `None` where there is no such table, or
    /// where its files would have to be fetched to count them.
    async fn count(&self, table: &Table) -> Result<Option<u64>>;

    /// The state that is kept here for a replication.
    fn store(&self, replication: &str) -> Result<Arc<dyn Store>>;
}

/// Takes the batches of one table, in order. Bounded: holds no more than its own buffers. Dropped, it
/// leaves what was staged at the last checkpoint to the next run.
#[async_trait]
pub trait Writer: Send {
    /// Stages one batch with the columns of [`TableSchema::staged`].
    async fn write(&mut self, batch: RecordBatch) -> Result<()>;

    /// Writes out what is buffered, and tells of each column how many values were changed since the last
    /// call because the target cannot hold them as they are; empty where it holds everything.
    async fn replaced(&mut self) -> Result<Vec<(String, u64)>>;

    /// Rows staged so far, markers and void ones included: what `open` wants to be told.
    fn staged(&self) -> u64;

    /// Makes all staged rows last, together with the state.
    async fn checkpoint(&mut self, state: &[Change]) -> Result<()>;

    /// Keys of old rows that a commit with this ending would take for gone, as texts; `None` where there are
    /// more than `most`, or the target does not tell. For tables whose key is the column [`Table::replaces`].
    async fn missing(&mut self, ending: &Ending, most: usize) -> Result<Option<Vec<String>>> {
        let _ = (ending, most);
        Ok(None)
    }

    /// Makes all rows visible at once, together with the state, and removes the staging.
    async fn commit(self: Box<Self>, ending: &Ending, state: &[Change]) -> Result<Committed>;

    /// Forgets all that was staged.
    async fn discard(self: Box<Self>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_were_surely_looked_for_are_gone() {
        let cases = [
            (Seen::Nothing, false, [false, false, false]),
            (Seen::Some, false, [false, true, false]),
            (Seen::All, true, [true, true, false]),
        ];
        for (seen, without_parent, with_parent) in cases {
            assert_eq!(seen.is_gone(), without_parent, "{seen:?}");
            let marked = [None, Some(true), Some(false)];
            assert_eq!(marked.map(|one| seen.is_gone_with_parent(one)), with_parent, "{seen:?}");
        }
    }
}
