//! One table to be written: its columns, and what a commit does with the existing rows.

use serde::{Deserialize, Serialize};

use crate::schema::TableSchema;
use crate::write::formats::settings::Settings;

/// What a commit does with the rows that the target already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Replaces all existing rows; the table itself may be created again.
    Replace,
    /// Replaces all existing rows; the table, its grants and its indexes stay.
    Truncate,
    /// Adds the new rows.
    Append,
    /// Replaces each existing row whose key a new row has. [`crate::write::CommitInfo::deletable`] and
    /// [`Table::deletes`] decide about the other existing rows.
    Merge,
}

/// What a merge does with a row that the source no longer has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// Keeps the row, with the time of the run in `_weir_deleted_at`.
    #[default]
    Mark,
    /// Deletes the row.
    Remove,
    /// Keeps the row unchanged.
    Ignore,
}

/// One table that a run writes.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name of the replication, under which the target keeps its state.
    pub replication: String,
    /// Source of the rows: the spec and the base URL of the API, without secrets. `None` for tables with weir's
    /// own data, whose owner is not recorded.
    pub source: Option<String>,
    /// Stream whose rows these are.
    pub stream: String,
    /// Name of the table: `schema.table` in a database, a path below the connection's root for files.
    pub object: String,
    /// Columns and key. The target fills in the metadata columns `_weir_deleted_at` and `_weir_change` when the
    /// schema has them; they are null in batches.
    pub schema: TableSchema,
    /// What the commit does with the existing rows.
    pub disposition: Disposition,
    /// Column with the key of a row's parent, for tables in which the rows of a slice replace those of one
    /// parent. A marker has the key of the parent that it marks in this column.
    pub replaces: Option<String>,
    /// What a merge does with rows that the source no longer has.
    pub deletes: Deletes,
    /// Columns that hold the place of a record: `_weir_change` is `moved` when one of them changed.
    pub place: Vec<String>,
    /// Column whose value grows with every change of a row: an int, a date or a timestamp.
    pub version: Option<String>,
    /// Whether a commit fails when rows with different contents have the same key.
    pub strict: bool,
    /// Id of the run. A run that is resumed keeps its id.
    pub run_id: String,
    /// Sizes of the files; those of the target when `None`. Databases ignore them.
    pub files: Option<Settings>,
}
