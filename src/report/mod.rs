//! What a run tells its watcher while it goes: one method, one `Event`.

pub(crate) mod counters;
mod notice;

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use serde::{Deserialize, Serialize};

use crate::error::Kind;

pub use notice::{Notice, NoticeKind, add_notice};

/// Something that happened in a run. Streams are named by their name in the spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run has its plan, and begins.
    RunStarted {
        /// The run's id.
        run_id: String,
        /// Whether it goes on with a run that had not ended.
        continued: bool,
        /// Streams that are read or only feed.
        streams: usize,
        /// What it is expected to ask for, all its processes together; `None` where nobody can tell.
        planned: Option<Planned>,
    },
    /// The run, or a stream, does something in which no requests for records are sent.
    Doing {
        /// Stream, when it concerns one.
        stream: Option<String>,
        /// What, for a person: `planning`, `publishing 471 rows`.
        what: String,
    },
    /// A stream takes up its work.
    StreamStarted {
        /// Stream.
        stream: String,
        /// `true` when it runs only to feed its children and writes nothing.
        feeder: bool,
        /// The streams whose values it needs.
        after: Vec<String>,
    },
    /// A request was sent, or records came.
    Progress {
        /// Stream.
        stream: String,
        /// Its figures so far, those of the run's earlier processes among them.
        #[serde(flatten)]
        figures: Figures,
    },
    /// A request failed in a way that is worth another try.
    Retry {
        /// Stream.
        stream: String,
        /// Why, for a person.
        reason: String,
        /// Time until the next try, in seconds.
        #[serde(serialize_with = "seconds")]
        wait: Duration,
        /// Number of the try that failed, from 1.
        attempt: u32,
    },
    /// The API refused one slice; the stream goes on without it.
    SliceSkipped {
        /// What was refused, as it will be recorded.
        error: SliceError,
    },
    /// Something the reader should know that does not stop the run.
    Warning {
        /// Stream, when it concerns one.
        stream: Option<String>,
        /// What, for a person.
        message: String,
    },
    /// The run waits, because points are spent or the API asks for it.
    Waiting {
        /// Why, for a person.
        reason: String,
        /// Until when, `2026-01-31T12:00:00Z`.
        until: String,
    },
    /// A stream is over: committed, failed or stopped.
    StreamFinished {
        /// Its figures.
        report: StreamReport,
    },
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Rows.
    pub rows: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Slices the API refused.
    pub refused: u64,
    /// Bytes of the response bodies, decompressed.
    pub bytes: u64,
}

impl Figures {
    /// The figures of a stream that has ended; rows that are not in the target do not count.
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

    /// Adds those of another stream.
    pub fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.requests += other.requests;
        self.retries += other.retries;
        self.refused += other.refused;
        self.bytes += other.bytes;
    }
}

/// Receives the events of a run, from several threads. Must not block.
pub trait Reporter: Send + Sync {
    /// Takes note of one event.
    fn report(&self, event: &Event);
}

/// Drops every event.
#[derive(Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: &Event) {}
}

/// Keeps every event, for tests.
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

/// A slice that the API refused: what was asked, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceError {
    /// Stream.
    pub stream: String,
    /// The slice: its variables as `page_id=123`; empty for a root listing.
    pub slice: String,
    /// URL without secrets.
    pub url: String,
    /// HTTP status; `None` when no response came.
    pub status: Option<u16>,
    /// What the server said, shortened to 300 characters.
    pub message: String,
}

/// What a run is expected to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Requests, without retries.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
    /// Whether a part of it is an estimate of how much there is, or has changed.
    pub assumed: bool,
    /// Between how many requests it will probably be.
    #[serde(default)]
    pub requests_range: [u64; 2],
    /// The same of points.
    #[serde(default)]
    pub points_range: [u64; 2],
}

/// What a run spent of a quota of points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PointsReport {
    /// Points that this process spent, by the spec's terms.
    pub spent: u64,
    /// Points that it might spend in all, where that was said.
    pub max_points: Option<u64>,
    /// Points that may be spent in an hour.
    pub budget: u64,
    /// Points that all runs and, as far as the API tells, others have spent in the last of its hours.
    pub window_spent: u64,
    /// Times that it waited for points.
    pub waits: u64,
    /// Seconds that it waited for points.
    pub waited_seconds: f64,
    /// Why it ended before its work was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// When it can go on, `2026-01-31T12:00:00Z`; at once unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_at: Option<String>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamStatus {
    /// Its rows are in the target.
    Done,
    /// It fed its children; nothing was to be written.
    Fed,
    /// Nothing was to be read: it was read completely a short while ago.
    Fresh,
    /// It failed; the target has what it had before.
    Failed,
    /// The run was stopped before it ended; the target has what it had before.
    Interrupted,
}

/// How the values of one column fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ColumnReport {
    /// The column's type.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Values that came, those that did not fit among them; nulls aside.
    pub values: u64,
    /// Values that did not fit the type: the column is null in their rows, unless it has a default.
    pub misfits: u64,
    /// Whether the misfits are kept in `_extra`.
    pub kept: bool,
    /// Values that were changed because the target cannot hold them as they are.
    pub replaced: u64,
}

impl ColumnReport {
    /// Whether there is anything to tell.
    pub fn is_remarkable(&self) -> bool {
        self.misfits > 0 || self.replaced > 0
    }

    /// Whether more than half of the values did not fit: the type is probably wrong.
    pub fn is_mostly_misfits(&self) -> bool {
        self.misfits.saturating_mul(2) > self.values
    }
}

/// The figures of one stream of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Stream.
    pub stream: String,
    /// How it ended.
    pub status: StreamStatus,
    /// Where its rows went: a table or a path; `None` for a feeder.
    pub object: Option<String>,
    /// Rows committed.
    pub rows: u64,
    /// Old rows that were marked or removed because the source no longer has them.
    #[serde(default)]
    pub deleted: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Points that the requests cost by the spec's terms; 0 where no quota holds.
    #[serde(default)]
    pub points: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Bytes of the response bodies, decompressed.
    pub bytes: u64,
    /// Rows that a listing brought again, with the same content or in another version; written once.
    pub duplicates: u64,
    /// Values that did not fit their column's type and were kept in `_extra`.
    pub misfits: u64,
    /// Columns of which values did not fit, or were changed because the target cannot hold them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnReport>,
    /// Slices the API refused.
    pub skipped: u64,
    /// `false` when something says that rows are missing: `skipped` slices, or what `gaps` tells.
    pub complete: bool,
    /// What says that rows are missing, refused slices aside: a row limit, an empty page that leads on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// What was dropped, replaced, cut or assumed, one notice per kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Whether everything was read, or only what changed.
    pub reach: String,
    /// The route by which it was read.
    #[serde(default)]
    pub route: String,
    /// Whether the API refused the route.
    #[serde(default)]
    pub route_refused: bool,
    /// Whether an earlier process of the same run had done it.
    #[serde(default)]
    pub earlier: bool,
    /// Seconds from the stream's start to its end.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do about the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What kind of failure that was.
    #[serde(default, skip)]
    pub kind: Option<Kind>,
}

fn seconds<S: serde::Serializer>(wait: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(wait.as_secs_f64())
}
