//! The saved state of a run that has begun and not ended.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::OWN;
use crate::report::Planned;
use crate::state::Change;

/// Key of the open run: the one in progress, or the one whose process was killed.
pub(crate) const RUN: &str = "run";

/// A run that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenRun {
    /// The run's id.
    pub id: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// Whether the run only retries refused slices.
    #[serde(default)]
    pub retry: bool,
    /// The run's streams, by name.
    pub streams: BTreeMap<String, OpenStream>,
    /// The estimate of its requests that was made when it began.
    #[serde(default)]
    pub planned: Option<Planned>,
    /// Record counts that the API reported for this estimate.
    #[serde(default)]
    pub counted: Vec<RecordCount>,
}

/// The number of records that some streams have together, as reported by the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCount {
    /// Names of the streams.
    pub streams: Vec<String>,
    /// Number of their records.
    pub records: u64,
}

/// A stream of an open run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenStream {
    /// See [`crate::plan::StreamPlan::reads`].
    pub reads: String,
    /// See [`crate::plan::StreamPlan::writes`].
    pub writes: String,
    /// See [`crate::plan::StreamPlan::shape`].
    #[serde(default)]
    pub shape: String,
    /// Where the rows are written; `None` for a stream that only feeds others.
    pub object: Option<String>,
    /// What the run reads of the stream.
    pub reach: Reach,
    /// Name of the route by which the run reads the stream.
    #[serde(default = "own_route", deserialize_with = "crate::spec::present_route")]
    pub route: String,
}

fn own_route() -> String {
    OWN.to_owned()
}

impl OpenRun {
    /// The change that saves the run.
    pub fn change(&self) -> Change {
        Change::set(RUN, serde_json::to_value(self).unwrap_or(Value::Null))
    }
}

/// What a run reads of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// All records.
    #[default]
    Complete,
    /// The records that changed since a value of the stream's own cursor, or the children of the parents
    /// that changed since a value of the parents' cursor.
    Since(i64),
    /// The records that changed between two values of the stream's cursor.
    Range(i64, i64),
    /// The slices that the API refused in an earlier run.
    Failed,
    /// Nothing: the last read is recent enough.
    Nothing,
}
