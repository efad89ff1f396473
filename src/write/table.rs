//! One table to be written: its columns, and what becomes of the rows that are there.

use serde::{Deserialize, Serialize};

use crate::schema::TableSchema;
use crate::write::formats::settings::Settings;

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
    /// A new row takes the place of the old row with the same key; what becomes of other old rows,
    /// [`Ending::seen`] and [`Table::deletes`] say.
    Merge,
}

/// What becomes of a row that the source no longer has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// It stays, with the time of the run in `_weir_deleted_at`.
    #[default]
    Mark,
    /// It goes.
    Remove,
    /// It stays as it is.
    Ignore,
}

/// One table to be written in one run.
#[derive(Clone, Debug)]
pub struct Table {
    /// Name of the replication, under which the target keeps its state.
    pub replication: String,
    /// Where the rows come from: the spec and the base URL of the API, without secrets. `None` for tables of
    /// weir's own, whose owner is not recorded.
    pub source: Option<String>,
    /// Stream whose rows these are.
    pub stream: String,
    /// Where to: `schema.table` for a database, a path below the connection's root for files.
    pub object: String,
    /// Columns and key. The target fills in the metadata columns `_weir_deleted_at` and
    /// `_weir_change` where the schema has them: batches bring them as nulls.
    pub schema: TableSchema,
    /// What becomes of the old rows.
    pub disposition: Disposition,
    /// Column that names a row's parent, when a slice's rows replace those of a parent. Markers have
    /// their parent in it.
    pub replaces: Option<String>,
    /// What becomes of rows that the source no longer has; for merges.
    pub deletes: Deletes,
    /// Columns a change of which is called `moved`.
    pub place: Vec<String>,
    /// Column that grows with every change of a row: an int, a date or a timestamp.
    pub version: Option<String>,
    /// Whether a commit fails when rows with different content have the same key.
    pub strict: bool,
    /// Id of the run. A run that is continued keeps its id.
    pub run_id: String,
    /// Sizes of its files, where they are not the target's; databases ignore it.
    pub files: Option<Settings>,
}
