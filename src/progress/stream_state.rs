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

/// What is remembered of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// What decided which rows it has, when it was last read.
    pub reads: String,
    /// What decided how they were written.
    pub writes: String,
    /// What the numbers of its requests stood for.
    pub shape: String,
    /// All that changed up to this value of its cursor is in the target.
    pub cursor: Option<i64>,
    /// All children of parents that changed up to this value of the parents' cursor are in the target.
    pub gate: Option<i64>,
    /// Start of the last run that read everything.
    pub complete_at: Option<DateTime<Utc>>,
    /// Start of the last run to which all parents were fed, and which so found those that are gone.
    pub parents_at: Option<DateTime<Utc>>,
    /// Why rows that are not seen are no longer taken for deleted.
    #[serde(rename = "no_deletes")]
    pub deletes_disabled: Option<String>,
    /// Slices that the API refused, to be asked for again.
    #[serde(rename = "failed")]
    pub refused_slices: Vec<RefusedSlice>,
    /// How it last ended.
    pub last: Option<LastRun>,
    /// The last run that brought its rows into the target.
    pub succeeded: Option<LastRun>,
    /// Id of the run that committed last. `None` in states of versions that did not record owners.
    pub committed: Option<String>,
    /// What a run that has not ended has done.
    pub open: Option<Progress>,
    /// Slices and rows of the last complete reading.
    #[serde(rename = "learnt")]
    pub full_read: FullReadStats,
    /// What changed, as the last run that asked for it found.
    pub changes: Option<ChangeStats>,
    /// Routes that the API refused, and when.
    #[serde(rename = "refused")]
    pub refused_routes: BTreeMap<String, DateTime<Utc>>,
}

impl StreamState {
    /// The change that remembers it.
    pub fn change(&self, name: &str) -> Change {
        Change::set(format!("{STREAM}{name}"), serde_json::to_value(self).unwrap_or(Value::Null))
    }

    /// The changes that forget it.
    pub fn forgotten(name: &str) -> impl Iterator<Item = Change> {
        [Change::forget(format!("{STREAM}{name}"))].into_iter().chain(versions::forgotten(name))
    }

    /// Whether what is remembered of its rows is about rows that are read and written alike.
    pub(crate) fn holds_for(&self, plan: &StreamPlan) -> bool {
        (&self.reads, &self.writes, &self.shape) == (&plan.reads, &plan.writes, &plan.shape)
    }

    /// Days in which what changed since a value of the cursor did change: since the last run began, where
    /// that is later.
    pub(crate) fn days_since(&self, bound: i64, now: DateTime<Utc>) -> f64 {
        let last = self.last.as_ref().map(|last| last.started_at.unwrap_or(last.at));
        let last = last.map_or(i64::MIN, |at| at.timestamp_micros());
        let micros = now.timestamp_micros().saturating_sub(bound.max(last));
        std::time::Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
            / 86_400.0
    }

    /// Records that are expected to have changed since a value of the cursor, by what the last run that asked
    /// for changes found; `None` before any.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn expected_changes(&self, bound: i64, now: DateTime<Utc>) -> Option<f64> {
        let last = self.changes.filter(|last| last.days > 0.0)?;
        Some(last.rows as f64 * self.days_since(bound, now) / last.days)
    }

    /// How it ended in a run, if it has.
    pub fn ended_in(&self, run_id: &str) -> Option<&LastRun> {
        self.last.as_ref().filter(|last| last.run_id == run_id && self.open.is_none())
    }
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// The run's id.
    pub run_id: String,
    /// When the stream ended.
    pub at: DateTime<Utc>,
    /// When the run began.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// Its figures.
    pub report: StreamReport,
    /// What its children could say of its values.
    #[serde(rename = "supply")]
    pub completeness: Completeness,
}

impl LastRun {
    /// Whether its rows are in the target, or it has fed its children.
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

/// Figures of a complete reading, from which the next one can be foretold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FullReadStats {
    /// The route.
    #[serde(deserialize_with = "crate::spec::present_route")]
    pub route: String,
    /// Slices.
    pub slices: u64,
    /// Rows.
    pub rows: u64,
    /// Requests, without those that were sent again.
    pub requests: u64,
    /// Points.
    pub points: u64,
    /// Requests among them that were sent for other streams too.
    pub shared: u64,
    /// Points of those.
    pub shared_points: u64,
    /// Slices whose row followed from what was known.
    pub derived: u64,
    /// Whether it was the one that bears the cost of the listings that it read with others.
    pub bearer: bool,
}

/// Figures of the last run that read what changed, or the children of what changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeStats {
    /// Days over which it looked back.
    pub days: f64,
    /// Records that had changed, or that the changed parents have.
    pub rows: u64,
    /// Parents that had changed.
    pub parents: u64,
    /// Those of them whose row followed from what was known.
    pub derived: u64,
}

/// A slice that the API refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedSlice {
    /// Number of its request among the stream's.
    pub request: usize,
    /// Number of the slice, where it is not about values of a queue.
    pub number: u64,
    /// Values of its queue.
    pub values: Vec<String>,
    /// What came along with them.
    #[serde(default)]
    pub carried: Vec<String>,
    /// What was refused.
    pub error: SliceError,
    /// Whether it is of a request for changes, which the next run sends again by itself.
    #[serde(default)]
    pub recurs: bool,
}

/// An answer that says that something is gone, while it is not known whether any such request is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The kind of request.
    pub kind: String,
    /// Whether it was asked for because of a record of the slice, which goes on without.
    pub child: bool,
    /// What was asked for.
    #[serde(rename = "failed")]
    pub slice: RefusedSlice,
}

/// What a run has done of a stream so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The run's id.
    pub run_id: String,
    /// What it reads.
    pub reach: Reach,
    /// Rows that the target has staged.
    pub staged: u64,
    /// Whether all is read, and the rows may be visible already.
    pub publishing: bool,
    /// Per request the slices that are done.
    pub finished: Vec<RangeSet>,
    /// Slices that are under way.
    pub open: Vec<OpenSlice>,
    /// Greatest value of the cursor seen.
    pub newest: Option<i64>,
    /// Greatest value of the parents' cursor seen.
    pub newest_parent: Option<i64>,
    /// Numbers of slices whose staged rows do not count.
    #[serde(rename = "void")]
    pub discarded_slices: Vec<i64>,
    /// Slices that were refused.
    #[serde(rename = "failed")]
    pub refused_slices: Vec<RefusedSlice>,
    /// What says that rows are missing.
    pub gaps: Vec<String>,
    /// What was dropped, replaced, cut or assumed.
    pub notices: Vec<Notice>,
    /// How the values of columns fared.
    pub columns: BTreeMap<String, ColumnReport>,
    /// The figures.
    pub counts: Counts,
    /// Per request the page size asked for now.
    pub page_sizes: Vec<u32>,
    /// Routes that the API refused.
    #[serde(rename = "refused")]
    pub refused_routes: Vec<String>,
    /// Whether rows that did not come were asked for before they counted as gone.
    pub confirmed: bool,
    /// What seems to be gone.
    pub doubtful: Vec<Doubt>,
}
