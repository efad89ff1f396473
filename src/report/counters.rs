//! The figures of one stream while it runs.

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

/// Figures of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests, retries included.
    pub requests: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Bytes of bodies.
    pub bytes: u64,
    /// Rows decoded, also those that came twice.
    pub rows: u64,
    /// Rows that came twice.
    pub duplicates: u64,
    /// Values that did not fit.
    pub misfits: u64,
    /// Slices that ended well.
    pub done: u64,
    /// Slices that were refused.
    pub skipped: u64,
    /// Points spent, by the spec's terms.
    pub points: u64,
    /// Requests among them that were sent for other streams too.
    pub shared: u64,
    /// Points of those.
    pub shared_points: u64,
    /// Slices whose row followed from what was known.
    pub derived: u64,
    /// Records that had changed since the bound.
    pub changed: u64,
    /// Pages of listings that others have borne.
    pub borne: u64,
}

/// Counted by the stream's workers, all at once.
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
    pub(crate) borne: AtomicU64,
    notices: Mutex<Vec<Notice>>,
    columns: Mutex<BTreeMap<String, ColumnReport>>,
    /// Values of inputs for which records came, in lowercase.
    found: Mutex<BTreeSet<String>>,
}

impl Stats {
    pub(crate) fn add(counter: &AtomicU64, number: usize) {
        counter.fetch_add(u64::try_from(number).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds to the stream's notices; `detail` is kept of the first one of each kind.
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

    /// Takes note of the values of an input for which records came.
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

    /// Those for which none came.
    pub(crate) fn lacks<'plan>(&self, asked: &'plan [String]) -> Vec<&'plan str> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let values = asked.iter().map(String::as_str);
        values.filter(|value| !found.contains(&value.to_lowercase())).collect()
    }

    /// Takes note of how the values of columns fared.
    pub(crate) fn note_columns(&self, note: impl FnOnce(&mut BTreeMap<String, ColumnReport>)) {
        note(&mut self.columns.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Adds values per column that the target has changed.
    pub(crate) fn note_replaced(&self, replaced: Vec<(String, u64)>) {
        self.note_columns(|columns| {
            for (name, count) in replaced {
                columns.entry(name).or_default().replaced += count;
            }
        });
    }

    /// How the values of all columns fared so far.
    pub(crate) fn columns(&self) -> BTreeMap<String, ColumnReport> {
        self.columns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Continues counting from the figures of an earlier process.
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
            borne: counts.borne.into(),
            notices: Mutex::new(notices),
            columns: Mutex::new(columns),
            found: Mutex::default(),
        }
    }

    /// How far the stream is.
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
            borne: read(&self.borne),
        }
    }
}

/// Whether a record came for a value that was asked for: APIs take names in any case.
fn is_same(asked: &str, came: &str) -> bool {
    asked.to_lowercase() == came.to_lowercase()
}
