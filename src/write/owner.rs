//! The owner of a table: a record that the target keeps with the table.

use serde::{Deserialize, Serialize};

use crate::write::table::{Disposition, Table};

/// The last writer of a table, and what it left there. Saved with the rows of every commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the replication.
    pub replication: String,
    /// Source of the rows: see [`Table::source`].
    pub source: String,
    /// Id of the last run that committed.
    pub run_id: String,
    /// Number of rows after the last commit, counted as in [`ExistingTable::rows`]; `None` when it was no merge.
    pub rows: Option<u64>,
}

impl Owner {
    /// The record for a commit of this table; `None` for tables with weir's own data.
    pub(crate) fn of(table: &Table, rows: Option<u64>) -> Option<Self> {
        let source = table.source.clone()?;
        let (replication, run_id) = (table.replication.clone(), table.run_id.clone());
        let rows = rows.filter(|_| table.disposition == Disposition::Merge);
        Some(Self { replication, source, run_id, rows })
    }
}

/// What exists under the name of a table that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExistingTable {
    /// How messages name it: a quoted table name, or a path below the root.
    pub object: String,
    /// Number of its rows; databases leave out rows that are marked as deleted. `None` when the number is not
    /// needed, or cannot be found out.
    pub rows: Option<u64>,
    /// Its owner; `None` when no owner is recorded.
    pub owner: Option<Owner>,
}
