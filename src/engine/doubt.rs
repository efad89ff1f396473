//! Answers that may say that an object is gone, or that the request is wrong: the other answers to the same
//! kind of request tell which.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use serde::{Deserialize, Serialize};

use super::{
    load::{Keeper, Slice},
    state::{FailedSlice, Progress},
};
use crate::error::{Error, Kind, Result};
use crate::report::{Event, NoticeKind, Reporter};

/// Requests of a kind that may fail before one is answered; then it is taken to be wrong.
const MAX_FAILURES: u32 = 10;

/// An answer that says that something is gone, while it is not known whether any such request is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The kind of request.
    pub kind: String,
    /// Whether it was asked for because of a record of the slice, which goes on without.
    pub child: bool,
    /// What was asked for.
    pub failed: FailedSlice,
}

/// The kinds of requests that the API has answered in a run. A kind is told by the template of its path.
#[derive(Debug, Default)]
pub(super) struct AnsweredKinds(Mutex<HashMap<String, Answers>>);

#[derive(Debug, Default)]
struct Answers {
    answered: bool,
    failures: u32,
}

impl AnsweredKinds {
    /// Takes note of an answer.
    pub(super) fn note(&self, kind: String) {
        self.kinds().entry(kind).or_default().answered = true;
    }

    pub(super) fn has(&self, kind: &str) -> bool {
        self.kinds().get(kind).is_some_and(|kind| kind.answered)
    }

    /// Whether a failure may be about what was asked for. It is not where none of many such requests is
    /// answered.
    pub(super) fn excuses(&self, kind: String) -> bool {
        let mut kinds = self.kinds();
        let kind = kinds.entry(kind).or_default();
        kind.failures += u32::from(!kind.answered);
        kind.answered || kind.failures <= MAX_FAILURES
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<String, Answers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Ends a slice whose rows do not count.
    pub(super) fn leave_out(&mut self, slice: &Slice) {
        let begun = self.progress.open.len();
        self.progress.open.retain(|open| !slice.is(open));
        if self.progress.open.len() < begun {
            self.progress.void.extend(slice.number().both());
        }
        self.finish(slice, false, false);
    }

    /// Takes note of a refusal; fails when there are too many.
    pub(super) fn refused(&mut self, failed: FailedSlice) -> Result<()> {
        self.progress.failed.push(failed);
        self.check_errors(self.progress.failed.len())
    }

    /// Fails when more slices were refused than may be.
    pub(super) fn check_errors(&self, count: usize) -> Result<()> {
        let most = self.plan.max_errors;
        if count <= usize::try_from(most).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let what = format!("more than {most} slices were refused");
        Err(Error::new(Kind::Permission, what).with_hint(
            "see the refusals; raise `max_errors` in the replication to go on despite them",
        ))
    }

    /// Takes note of an object that is gone, by what the API says.
    pub(super) fn gone(&mut self, doubt: Doubt) -> Result<()> {
        if self.answered.has(&doubt.kind) {
            self.tell_gone(&doubt.failed);
            return Ok(());
        }
        self.progress.doubtful.push(doubt);
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
        for Doubt { kind, child, failed } in std::mem::take(doubtful) {
            if self.answered.has(&kind) {
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
