//! The saved state of one stream: its last full read, what later runs add to it, and the progress of a run
//! that has not ended.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::plan::StreamPlan;
use crate::progress::open_run::Reach;
use crate::progress::ranges::RangeSet;
use crate::progress::slices::OpenSlice;
use crate::progress::versions;
use crate::report::counters::Counts;
use crate::report::{ColumnReport, Notice, SliceError, StreamReport, StreamStatus};
use crate::state::Change;

/// Prefix of the keys of streams.
pub(crate) const STREAM: &str = "stream/";

/// The saved state of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// See [`StreamPlan::reads`], as of the last read.
    pub reads: String,
    /// See [`StreamPlan::writes`], as of the last read.
    pub writes: String,
    /// See [`StreamPlan::shape`], as of the last read.
    pub shape: String,
    /// Cursor: the target has all records that changed up to this value.
    pub cursor: Option<i64>,
    /// Cursor of the parents: the target has the children of all parents that changed up to this value.
    pub gate: Option<i64>,
    /// Start of the last full read.
    pub complete_at: Option<DateTime<Utc>>,
    /// Start of the last run that received all parents, so that it could detect deleted ones.
    pub parents_at: Option<DateTime<Utc>>,
    /// Why rows that a full read does not return are no longer treated as deleted.
    #[serde(rename = "no_deletes")]
    pub deletes_disabled: Option<String>,
    /// Slices that the API refused, for a retry.
    #[serde(rename = "failed")]
    pub refused_slices: Vec<RefusedSlice>,
    /// The last run of the stream.
    pub last: Option<LastRun>,
    /// The last run that committed the stream's rows.
    pub succeeded: Option<LastRun>,
    /// Id of the run that committed last. `None` in states of versions that did not record owners.
    pub committed: Option<String>,
    /// Progress of the open run.
    pub open: Option<Progress>,
    /// Figures of the last full read.
    #[serde(rename = "learnt")]
    pub full_read: FullReadStats,
    /// Figures of the last incremental read.
    pub changes: Option<ChangeStats>,
    /// Routes that the API refused, with the time.
    #[serde(rename = "refused")]
    pub refused_routes: BTreeMap<String, DateTime<Utc>>,
}

impl StreamState {
    /// The change that saves the state.
    pub fn change(&self, name: &str) -> Change {
        Change::set(format!("{STREAM}{name}"), serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// The changes that remove the state.
    pub fn forgotten(name: &str) -> impl Iterator<Item = Change> {
        [Change::forget(format!("{STREAM}{name}"))].into_iter().chain(versions::forgotten(name))
    }

    /// Whether the state describes rows that were read and written with the settings of this plan.
    pub(crate) fn holds_for(&self, plan: &StreamPlan) -> bool {
        (&self.reads, &self.writes, &self.shape) == (&plan.reads, &plan.writes, &plan.shape)
    }

    /// Days since a value of the cursor, or since the start of the last run if that is later.
    pub(crate) fn days_since(&self, bound: i64, now: DateTime<Utc>) -> f64 {
        let last = self.last.as_ref().map(|last| last.started_at.unwrap_or(last.at));
        let last = last.map_or(i64::MIN, |at| at.timestamp_micros());
        let micros = now.timestamp_micros().saturating_sub(bound.max(last));
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
            / 86_400.0
    }

    /// Expected number of records that changed since a value of the cursor, extrapolated from the last
    /// incremental read; `None` before the first one.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn expected_changes(&self, bound: i64, now: DateTime<Utc>) -> Option<f64> {
        let last = self.changes.filter(|last| last.days > 0.0)?;
        Some(last.rows as f64 * self.days_since(bound, now) / last.days)
    }

    /// How the stream ended in a run; `None` if it has not.
    pub fn ended_in(&self, run_id: &str) -> Option<&LastRun> {
        self.last.as_ref().filter(|last| last.run_id == run_id && self.open.is_none())
    }
}

/// How a stream ended in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// The run's id.
    pub run_id: String,
    /// When the stream ended.
    pub at: DateTime<Utc>,
    /// When the run began.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// Figures of the stream.
    pub report: StreamReport,
    /// Completeness of the values that the stream fed.
    #[serde(rename = "supply")]
    pub completeness: Completeness,
}

impl LastRun {
    /// Whether the rows are in the target or, for a stream that only feeds, all values are fed.
    pub fn is_done(&self) -> bool {
        !matches!(self.report.status, StreamStatus::Failed | StreamStatus::Interrupted)
    }
}

/// Whether all values of a queue are known once its feeders have ended. Ordered from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All feeders listed all records.
    #[default]
    Complete,
    /// A feeder listed only the records that changed, as planned.
    #[serde(rename = "bounded")]
    ChangesOnly,
    /// A feeder ended early or skipped records.
    #[serde(rename = "partial")]
    Incomplete,
    /// A feeder was interrupted, or failed in a way that a retry may solve.
    Interrupted,
    /// A feeder failed.
    Failed,
}

/// Figures of a full read, from which the next one is estimated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FullReadStats {
    /// Name of the route.
    #[serde(deserialize_with = "crate::spec::present_route")]
    pub route: String,
    /// Number of slices.
    pub slices: u64,
    /// Number of rows.
    pub rows: u64,
    /// Number of requests, without retries.
    pub requests: u64,
    /// Points spent.
    pub points: u64,
    /// Number of these requests that served other streams too.
    pub shared: u64,
    /// Points of the shared requests.
    pub shared_points: u64,
    /// Number of slices whose row was derived without a request.
    pub derived: u64,
    /// Whether the cost of shared listings was attributed to this stream.
    pub bearer: bool,
}

/// Figures of an incremental read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeStats {
    /// Days that the read covered.
    pub days: f64,
    /// Number of records that had changed, or of children of changed parents.
    pub rows: u64,
    /// Number of parents that had changed.
    pub parents: u64,
    /// Number of these parents whose row was derived without a request.
    pub derived: u64,
}

/// A slice that the API refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSlice {
    /// Number of the request within the stream.
    pub request: usize,
    /// Number of the slice, for slices without a queue.
    pub number: u64,
    /// Values of the queue.
    pub values: Vec<String>,
    /// Payloads of the values.
    #[serde(default)]
    pub carried: Vec<String>,
    /// The request and the response.
    pub error: SliceError,
    /// Whether the next incremental run repeats the request anyway.
    #[serde(default)]
    pub recurs: bool,
}

/// A response that states that an object is gone, before any request of the same kind has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Kind of the request.
    pub kind: String,
    /// Whether the request belongs to a record of the slice, which continues without it.
    pub child: bool,
    /// The refused slice.
    #[serde(rename = "failed")]
    pub slice: RefusedSlice,
}

/// Progress of an open run with a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The run's id.
    pub run_id: String,
    /// What the run reads.
    pub reach: Reach,
    /// Number of staged rows.
    pub staged: u64,
    /// Whether the stream is read to its end, so that its rows may be visible already.
    pub publishing: bool,
    /// Finished slices, by request.
    pub finished: Vec<RangeSet>,
    /// Slices in progress.
    pub open: Vec<OpenSlice>,
    /// Greatest cursor value so far.
    pub newest: Option<i64>,
    /// Greatest value of the parents' cursor so far.
    pub newest_parent: Option<i64>,
    /// Numbers of slices whose staged rows are discarded.
    #[serde(rename = "void")]
    pub discarded_slices: Vec<i64>,
    /// Slices that the API refused.
    #[serde(rename = "failed")]
    pub refused_slices: Vec<RefusedSlice>,
    /// Reasons for missing rows.
    pub gaps: Vec<String>,
    /// What was dropped, replaced, truncated or assumed.
    pub notices: Vec<Notice>,
    /// Type mismatches and replaced values, by column.
    pub columns: BTreeMap<String, ColumnReport>,
    /// Figures of the stream.
    pub counts: Counts,
    /// Current page size, by request.
    pub page_sizes: Vec<u32>,
    /// Routes that the API refused.
    #[serde(rename = "refused")]
    pub refused_routes: Vec<String>,
    /// Whether absent rows were confirmed as deleted by requests.
    pub confirmed: bool,
    /// Objects that may be gone.
    pub doubtful: Vec<Doubt>,
}
