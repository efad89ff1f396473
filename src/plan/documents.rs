//! What a plan is made from: the documents, the options of the command line, and the run.

use chrono::{DateTime, Utc};

use super::select::Selection;
use crate::replication::{Mode, OnBudget, Replication};
use crate::spec::{Fields, Spec};

/// A run's identity.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// What the command line adds to a replication.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which of the replication's streams to run.
    pub selection: Selection,
    /// Rows of each stream after which it ends.
    pub limit: Option<u64>,
    /// Mode of all streams, in place of what the replication says.
    pub mode: Option<Mode>,
    /// Whether refused slices are asked for again and nothing else: their rows are merged, whatever the
    /// mode.
    pub retry: bool,
    /// For `backfill`: from and up to where, as dates, times or whole numbers.
    pub range: Option<(String, String)>,
    /// Points that the run may spend in all.
    pub max_points: Option<u64>,
    /// What happens when points are spent, in place of what the replication says.
    pub on_budget: Option<OnBudget>,
    /// Streams and the routes by which they are to be read.
    pub routes: Vec<(String, String)>,
}

/// The documents that make up a plan.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'documents> {
    /// The API.
    pub spec: &'documents Spec,
    /// The run.
    pub replication: &'documents Replication,
    /// The connection's values.
    pub fields: &'documents Fields,
    /// Object of streams for which the replication names none: `{stream_name}` or
    /// `{stream_name}.parquet`.
    pub default_object: &'documents str,
    /// Name of a replication that has none of its own.
    pub default_name: &'documents str,
}
