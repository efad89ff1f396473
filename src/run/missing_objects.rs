//! Answers that may say that an object is gone, or that the request is wrong: the other answers to the same
//! kind of request tell which.

use std::sync::atomic::Ordering;

use crate::error::{Error, Kind, Result};
use crate::extract::messages::Slice;
use crate::progress::saved::{Doubt, Progress, RefusedSlice};
use crate::report::{Event, NoticeKind, Reporter};
use crate::run::loader::Loader;

impl Loader {
    /// Ends a slice whose rows do not count.
    pub(crate) fn leave_out(&mut self, slice: &Slice) {
        let begun = self.progress.open.len();
        self.progress.open.retain(|open| !slice.is(open));
        if self.progress.open.len() < begun {
            self.progress.discarded_slices.extend(slice.number().both());
        }
        self.finish(slice, false, false);
    }

    /// Takes note of a refusal; fails when there are too many.
    pub(crate) fn refused(&mut self, failed: RefusedSlice) -> Result<()> {
        self.progress.refused_slices.push(failed);
        self.check_errors(self.progress.refused_slices.len())
    }

    /// Fails when more slices were refused than may be.
    pub(crate) fn check_errors(&self, count: usize) -> Result<()> {
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
    pub(crate) fn gone(&mut self, doubt: Doubt) -> Result<()> {
        if self.answered.has(&doubt.kind) {
            self.tell_gone(&doubt.slice);
            return Ok(());
        }
        self.progress.doubtful.push(doubt);
        self.check_errors(self.progress.doubtful.len())
    }

    fn tell_gone(&self, failed: &RefusedSlice) {
        self.stats.notice(NoticeKind::Gone, 1, || {
            let error = &failed.error;
            let status = error.status.map_or(String::new(), |status| format!("{status} "));
            format!("{}: {status}{}", error.url, error.message)
        });
    }

    /// Decides about objects that seemed to be gone: where no request of their kind was answered, the request
    /// is wrong.
    pub(crate) fn settle_doubts(&mut self, reporter: &dyn Reporter) -> Result<()> {
        let Progress { doubtful, .. } = &mut self.progress;
        for Doubt { kind, child, slice: failed } in std::mem::take(doubtful) {
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
