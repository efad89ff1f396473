//! Counters of a stream while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::report::{ColumnReport, Figures, Notice, NoticeKind, add_notice};
use crate::secret::line;

/// Counters of a stream, as saved in the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests sent, retries included.
    pub requests: u64,
    /// Requests retried after a failure.
    pub retries: u64,
    /// Bytes of the response bodies, decompressed.
    pub bytes: u64,
    /// Rows decoded, duplicates included.
    pub rows: u64,
    /// Rows that a listing returned more than once.
    pub duplicates: u64,
    /// Type mismatches.
    pub misfits: u64,
    /// Completed slices.
    pub done: u64,
    /// Refused slices.
    pub skipped: u64,
    /// Points spent, computed from the spec.
    pub points: u64,
    /// Requests that were also sent for other streams.
    pub shared: u64,
    /// Points of those requests.
    pub shared_points: u64,
    /// Slices whose row was derived without a request.
    pub derived: u64,
    /// Records that changed since the bound of an incremental read.
    pub changed: u64,
    /// Pages of shared listings that were charged to other streams.
    #[serde(rename = "borne")]
    pub shared_pages: u64,
}

/// Counters that the workers of a stream share.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) requests: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) misfits: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) points: AtomicU64,
    pub(crate) shared: AtomicU64,
    pub(crate) shared_points: AtomicU64,
    pub(crate) derived: AtomicU64,
    pub(crate) changed: AtomicU64,
    pub(crate) shared_pages: AtomicU64,
    notices: Mutex<Vec<Notice>>,
    columns: Mutex<BTreeMap<String, ColumnReport>>,
    /// Input values for which the API returned records, in lowercase.
    found: Mutex<BTreeSet<String>>,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, number: usize) {
        counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds a notice. Only the first `detail` of each kind is kept.
    pub(crate) fn notice(&self, kind: NoticeKind, count: u64, detail: impl FnOnce() -> String) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let known = notices.iter().any(|known| known.kind == kind);
        let detail = if known { String::new() } else { line(&detail()) };
        add_notice(&mut notices, Notice { kind, count, detail });
    }

    /// The stream's notices so far.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the values of an input for which the API returned records.
    pub(crate) fn note_found<'page>(
        &self,
        asked: &[String],
        values: impl IntoIterator<Item = &'page str>,
    ) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for value in values {
            if asked.iter().any(|one| is_same(one, value)) {
                found.insert(value.to_lowercase());
            }
        }
    }

    /// The input values without records.
    pub(crate) fn lacks<'plan>(&self, asked: &'plan [String]) -> Vec<&'plan str> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let values = asked.iter().map(String::as_str);
        values.filter(|value| !found.contains(&value.to_lowercase())).collect()
    }

    /// Updates the reports of the columns.
    pub(crate) fn note_columns(&self, note: impl FnOnce(&mut BTreeMap<String, ColumnReport>)) {
        note(&mut self.columns.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds the number of values per column that the target changed.
    pub(crate) fn note_replaced(&self, replaced: Vec<(String, u64)>) {
        self.note_columns(|columns| {
            for (name, count) in replaced {
                columns.entry(name).or_default().replaced += count;
            }
        });
    }

    /// The reports of all columns so far.
    pub(crate) fn columns(&self) -> BTreeMap<String, ColumnReport> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Continues from the counters of an earlier process.
    pub(crate) fn resumed(
        counts: Counts,
        notices: Vec<Notice>,
        columns: BTreeMap<String, ColumnReport>,
    ) -> Self {
        Self {
            requests: counts.requests.into(),
            retries: counts.retries.into(),
            bytes: counts.bytes.into(),
            rows: counts.rows.into(),
            duplicates: counts.duplicates.into(),
            misfits: counts.misfits.into(),
            done: counts.done.into(),
            skipped: counts.skipped.into(),
            points: counts.points.into(),
            shared: counts.shared.into(),
            shared_points: counts.shared_points.into(),
            derived: counts.derived.into(),
            changed: counts.changed.into(),
            shared_pages: counts.shared_pages.into(),
            notices: Mutex::new(notices),
            columns: Mutex::new(columns),
            found: Mutex::default(),
        }
    }

    /// The progress of the stream.
    pub(crate) fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            rows: read(&self.rows),
            requests: read(&self.requests),
            retries: read(&self.retries),
            refused: read(&self.skipped),
            bytes: read(&self.bytes),
        }
    }

    /// The counters to save.
    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            retries: read(&self.retries),
            bytes: read(&self.bytes),
            rows: read(&self.rows),
            duplicates: read(&self.duplicates),
            misfits: read(&self.misfits),
            done: read(&self.done),
            skipped: read(&self.skipped),
            points: read(&self.points),
            shared: read(&self.shared),
            shared_points: read(&self.shared_points),
            derived: read(&self.derived),
            changed: read(&self.changed),
            shared_pages: read(&self.shared_pages),
        }
    }
}

/// Whether a record belongs to a requested input value. APIs ignore the case of names.
fn is_same(asked: &str, came: &str) -> bool {
    asked.to_lowercase() == came.to_lowercase()
}
