//! Answers that may say that an object is gone, or that the request is wrong: the other answers to the same
//! kind of request tell which.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    load::Keeper,
    state::{FailedSlice, Progress},
};
use crate::error::Result;
use crate::report::{Event, NoticeKind, Reporter};

/// Requests of a kind that may fail before one is answered; then it is taken to be wrong.
const MAX_FAILURES: u32 = 10;

/// A kind of request: the number of the slice's request, and whether it is for what hangs on a record.
pub(super) type RequestKind = (usize, bool);

/// The kinds of requests that the API has answered.
#[derive(Debug, Default)]
pub(super) struct AnsweredKinds {
    kinds: Mutex<BTreeSet<RequestKind>>,
    failures: AtomicU32,
}

impl AnsweredKinds {
    /// Takes note of an answer.
    pub(super) fn note(&self, kind: RequestKind) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(kind);
    }

    pub(super) fn has(&self, kind: RequestKind) -> bool {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).contains(&kind)
    }

    /// Whether a failure may be about what was asked for. It is not where none of many such requests is
    /// answered.
    pub(super) fn excuses(&self, kind: RequestKind) -> bool {
        self.has(kind) || self.failures.fetch_add(1, Ordering::Relaxed) < MAX_FAILURES
    }
}

impl Keeper {
    /// Takes note of an object that is gone, by what the API says.
    pub(super) fn gone(&mut self, child: bool, failed: FailedSlice) -> Result<()> {
        if self.answered.has((failed.request, child)) {
            self.tell_gone(&failed);
            return Ok(());
        }
        self.progress.doubtful.push((child, failed));
        self.check_errors(self.progress.doubtful.len())
    }

    fn tell_gone(&self, failed: &FailedSlice) {
        self.stats.notice(NoticeKind::Gone, 1, || {
            let error = &failed.error;
            let status = error.status.map_or(String::new(), |status| format!("{status} "));
            format!("{}: {status}{}", error.url, error.message)
        });
    }

    /// Decides about objects that seemed to be gone: where no request of their kind was answered, the request
    /// is wrong.
    pub(super) fn settle_doubts(&mut self, reporter: &dyn Reporter) -> Result<()> {
        let Progress { doubtful, .. } = &mut self.progress;
        for (child, failed) in std::mem::take(doubtful) {
            if self.answered.has((failed.request, child)) {
                self.tell_gone(&failed);
                continue;
            }
            reporter.report(&Event::SliceSkipped { error: failed.error.clone() });
            if child {
                self.gap(Some(format!("records were left out: {}", failed.error.message)));
            } else {
                self.stats.skipped.fetch_add(1, Ordering::Relaxed);
            }
            self.refused(failed)?;
        }
        Ok(())
    }
}
