//! The parts of a plan's input: the documents, the options of the command line, and the run.

use chrono::{DateTime, Utc};

use crate::plan::select::Selection;
use crate::quota::terms::OnBudget;
use crate::replication::{Mode, Replication};
use crate::spec::{Fields, Spec};

/// A run's identity.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// Options of the command line.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// The selected streams of the replication.
    pub selection: Selection,
    /// Number of rows after which each stream ends.
    pub limit: Option<u64>,
    /// Mode of all streams; overrides the replication.
    pub mode: Option<Mode>,
    /// Whether the run only retries refused slices. Their rows are merged in every mode.
    pub retry: bool,
    /// For `backfill`: bounds of the range, as dates, times or integers.
    pub range: Option<(String, String)>,
    /// Maximum number of points that the run may spend.
    pub max_points: Option<u64>,
    /// What happens when the points are spent; overrides the replication.
    pub on_budget: Option<OnBudget>,
    /// Streams with the routes that the user chose for them.
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
    /// Object of streams without one in the replication: `{stream_name}` or
    /// `{stream_name}.parquet`.
    pub default_object: &'documents str,
    /// Name of a replication without `name`.
    pub default_name: &'documents str,
}
