//! Progress reports of a run: one trait with one method, one `Event`.

pub(crate) mod counters;
mod notice;

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::Kind;

pub use notice::{Notice, NoticeKind, add_notice};

/// An event of a run. Streams are identified by their name in the spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run has its plan and begins.
    RunStarted {
        /// The run's id.
        run_id: String,
        /// Whether it resumes an unfinished run.
        continued: bool,
        /// The streams that are read, including those that only feed others.
        streams: usize,
        /// The plan estimate of all its processes together; `None` if it cannot be estimated.
        planned: Option<Planned>,
    },
    /// The run or a stream is busy with something other than requests for records.
    Doing {
        /// The stream, if it concerns one.
        stream: Option<String>,
        /// What it does, as shown to users: `planning`, `publishing 471 rows`.
        what: String,
    },
    /// A stream begins.
    StreamStarted {
        /// Stream.
        stream: String,
        /// Whether it only feeds its children and writes nothing.
        feeder: bool,
        /// Its parent streams.
        after: Vec<String>,
    },
    /// A request was sent, or records were received.
    Progress {
        /// Stream.
        stream: String,
        /// Its counts so far, including those of earlier processes of the run.
        #[serde(flatten)]
        figures: Figures,
    },
    /// A request failed and will be retried.
    Retry {
        /// Stream.
        stream: String,
        /// The reason, as shown to users.
        reason: String,
        /// Time until the next attempt, in seconds.
        #[serde(serialize_with = "seconds")]
        wait: Duration,
        /// Number of the failed attempt, from 1.
        attempt: u32,
    },
    /// The API refused a slice; the stream continues without it.
    SliceSkipped {
        /// The refused slice, as it will be recorded.
        error: SliceError,
    },
    /// A warning that does not stop the run.
    Warning {
        /// The stream, if it concerns one.
        stream: Option<String>,
        /// The message, as shown to users.
        message: String,
    },
    /// The run waits because the points budget is spent or because the API requested it.
    Waiting {
        /// The reason, as shown to users.
        reason: String,
        /// End of the wait: `2026-01-31T12:00:00Z`.
        until: String,
    },
    /// A stream has ended: committed, failed or stopped.
    StreamFinished {
        /// Its counts.
        report: StreamReport,
    },
}

/// Progress of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Rows.
    pub rows: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Number of requests retried after a failure.
    pub retries: u64,
    /// Number of slices that the API refused.
    pub refused: u64,
    /// Bytes of the response bodies, decompressed.
    pub bytes: u64,
}

impl Figures {
    /// The counts of a stream that has ended. Rows that are not in the target do not count.
    pub fn of(report: &StreamReport) -> Self {
        let written = report.status == StreamStatus::Done;
        Self {
            rows: if written { report.rows } else { 0 },
            requests: report.requests,
            retries: report.retries,
            refused: report.skipped,
            bytes: report.bytes,
        }
    }

    /// Adds the counts of another stream.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.requests += other.requests;
        self.retries += other.retries;
        self.refused += other.refused;
        self.bytes += other.bytes;
    }
}

/// Receives the events of a run from several threads. It must not block.
pub trait Reporter: Send + Sync {
    /// Handles an event.
    fn report(&self, event: &Event);
}

/// Drops every event.
#[derive(Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &Event) {}
}

/// Records every event, for tests.
#[derive(Debug, Default)]
pub struct Recorded {
    events: Mutex<Vec<Event>>,
}

impl Recorded {
    /// The events so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().map(|events| events.clone()).unwrap_or_default()
    }
}

impl Reporter for Recorded {
    fn report(&self, event: &Event) {
        if let Ok(mut events) = self.events.lock() {
            events.push(event.clone());
        }
    }
}

/// A slice that the API refused: the request and the response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceError {
    /// Stream.
    pub stream: String,
    /// The slice as its variables: `page_id=123`. Empty for a root listing.
    pub slice: String,
    /// URL without secrets.
    pub url: String,
    /// HTTP status; `None` if there was no response.
    pub status: Option<u16>,
    /// The server's message, truncated to 300 characters.
    pub message: String,
}

/// The plan estimate of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Requests, without retries.
    pub requests: u64,
    /// Points, computed from the spec; 0 without a quota.
    pub points: u64,
    /// Whether a part of it depends on an assumption about how much data there is, or has changed.
    pub assumed: bool,
    /// The likely range of the number of requests.
    #[serde(default)]
    pub requests_range: [u64; 2],
    /// The likely range of the points.
    #[serde(default)]
    pub points_range: [u64; 2],
}

/// The points that a run spent, and the budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointsReport {
    /// Points that this process spent, computed from the spec.
    pub spent: u64,
    /// Maximum number of points that the run may spend, if set.
    pub max_points: Option<u64>,
    /// Points that may be spent per hour.
    pub budget: u64,
    /// Points spent in the last hour of the run by all runs and, as far as the API reports them, by
    /// other programs.
    pub window_spent: u64,
    /// Number of waits for points.
    pub waits: u64,
    /// Total wait for points, in seconds.
    pub waited_seconds: f64,
    /// Why it was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// When it can be resumed: `2026-01-31T12:00:00Z`. `None`: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_at: Option<String>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Its rows are in the target.
    Done,
    /// It only fed its children.
    Fed,
    /// It was skipped, because its last full read is recent enough.
    Fresh,
    /// It failed; the target keeps its existing rows.
    Failed,
    /// The run was stopped before the stream ended; the target keeps its existing rows.
    Interrupted,
}

/// Counts of the values of one column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnReport {
    /// The column's type.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Number of values except null, including type mismatches.
    pub values: u64,
    /// Number of type mismatches. The column is null in their rows, unless it has a default.
    pub misfits: u64,
    /// Whether the mismatched values are kept in `_extra`.
    pub kept: bool,
    /// Number of values that were changed because the target cannot store them.
    pub replaced: u64,
}

impl ColumnReport {
    /// Whether there is anything to report.
    pub fn is_remarkable(&self) -> bool {
        self.misfits > 0 || self.replaced > 0
    }

    /// Whether more than half of the values did not match the type, so that the type is probably
    /// wrong.
    pub fn is_mostly_misfits(&self) -> bool {
        self.misfits.saturating_mul(2) > self.values
    }
}

/// The report of one stream of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Stream.
    pub stream: String,
    /// How it ended.
    pub status: StreamStatus,
    /// Where its rows were written: a table or a path. `None` for a stream that only feeds.
    pub object: Option<String>,
    /// Rows committed.
    pub rows: u64,
    /// Existing rows that were marked or removed because the source no longer has them.
    #[serde(default)]
    pub deleted: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Points that the requests cost, computed from the spec; 0 without a quota.
    #[serde(default)]
    pub points: u64,
    /// Number of requests retried after a failure.
    pub retries: u64,
    /// Bytes of the response bodies, decompressed.
    pub bytes: u64,
    /// Rows that a listing returned more than once, with the same content or in another version.
    /// They are written once.
    pub duplicates: u64,
    /// Number of type mismatches that were kept in `_extra`.
    pub misfits: u64,
    /// Columns with type mismatches, or with values that were changed because the target cannot
    /// store them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnReport>,
    /// Number of slices that the API refused.
    pub skipped: u64,
    /// `false` if rows are known to be missing: there are refused slices (`skipped`), or `gaps`.
    pub complete: bool,
    /// Reasons for missing rows other than refused slices: a row limit, or an empty page with a
    /// next page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// What was dropped, replaced, truncated or assumed: one notice per kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Whether it was a full read or read only what changed.
    pub reach: String,
    /// The route by which it was read.
    #[serde(default)]
    pub route: String,
    /// Whether the API refused the route.
    #[serde(default)]
    pub route_refused: bool,
    /// Whether an earlier process of the same run completed it.
    #[serde(default)]
    pub earlier: bool,
    /// Seconds from the stream's start to its end.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The hint for the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The kind of the failure.
    #[serde(default, skip)]
    pub kind: Option<Kind>,
}

fn seconds<S: serde::Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(wait.as_secs_f64())
}
