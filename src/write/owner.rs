//! Whose a table is: a record that the target keeps with it.

use serde::{Deserialize, Serialize};

use crate::write::table::{Disposition, Table};

/// Who wrote a table last, and what it left there. Saved with the rows of every commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the replication.
    pub replication: String,
    /// Where the rows come from: see [`Table::source`].
    pub source: String,
    /// Id of the run that committed last.
    pub run_id: String,
    /// Rows after the last commit, as [`Standing::rows`] counts them; `None` where the commit did not merge.
    pub rows: Option<u64>,
}

impl Owner {
    /// The record of a table that is committed; `None` for tables of weir's own.
    pub(crate) fn of(table: &Table, rows: Option<u64>) -> Option<Self> {
        let source = table.source.clone()?;
        let (replication, run_id) = (table.replication.clone(), table.run_id.clone());
        let rows = rows.filter(|_| table.disposition == Disposition::Merge);
        Some(Self { replication, source, run_id, rows })
    }
}

/// What stands where a table is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The object, for a person: a quoted table name, or a path below the root.
    pub object: String,
    /// Rows in it. Databases leave out those that are marked as deleted. `None` where they would be counted in
    /// vain, or cannot be counted.
    pub rows: Option<u64>,
    /// Whose it is; `None` where there is no record.
    pub owner: Option<Owner>,
}
