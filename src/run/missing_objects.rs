//! Decides about 404 and similar responses. They mean either that an object is gone or that the request is wrong;
//! the request is right if the API has answered another request of the same kind.

use std::sync::atomic::Ordering;

use crate::error::{Error, Kind, Result};
use crate::extract::messages::Slice;
use crate::progress::saved::{Doubt, Progress, RefusedSlice};
use crate::report::{Event, NoticeKind, Reporter};
use crate::run::loader::Loader;

impl Loader {
    /// Ends a slice and discards its rows.
    pub(crate) fn leave_out(&mut self, slice: &Slice) {
        let begun = self.progress.open.len();
        self.progress.open.retain(|open| !slice.is(open));
        if self.progress.open.len() < begun {
            self.progress.discarded_slices.extend(slice.number().both());
        }
        self.finish(slice, false, false);
    }

    /// Records a refused slice; fails if there are too many.
    pub(crate) fn note_refused(&mut self, refused: RefusedSlice) -> Result<()> {
        self.progress.refused_slices.push(refused);
        self.check_errors(self.progress.refused_slices.len())
    }

    /// Fails if more slices were refused than `max_errors` permits.
    pub(crate) fn check_errors(&self, count: usize) -> Result<()> {
        let most = self.plan.max_errors;
        if count <= usize::try_from(most).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let what = format!("more than {most} slices were refused");
        Err(Error::new(Kind::Permission, what)
            .with_hint("see the refusals; raise `max_errors` in the replication to accept them"))
    }

    /// Records a response that states that an object is gone.
    pub(crate) fn note_gone(&mut self, doubt: Doubt) -> Result<()> {
        if self.answered.has(&doubt.kind) {
            self.notice_gone(&doubt.slice);
            return Ok(());
        }
        self.progress.doubtful.push(doubt);
        self.check_errors(self.progress.doubtful.len())
    }

    fn notice_gone(&self, refused: &RefusedSlice) {
        self.stats.notice(NoticeKind::Gone, 1, || {
            let error = &refused.error;
            let status = error.status.map_or(String::new(), |status| format!("{status} "));
            format!("{}: {status}{}", error.url, error.message)
        });
    }

    /// Decides about the objects that seem to be gone. If the API has not answered any request of their kind, the
    /// request is wrong and the slices count as refused.
    pub(crate) fn settle_doubts(&mut self, reporter: &dyn Reporter) -> Result<()> {
        let Progress { doubtful, .. } = &mut self.progress;
        for Doubt { kind, child, slice: refused } in std::mem::take(doubtful) {
            if self.answered.has(&kind) {
                self.notice_gone(&refused);
                continue;
            }
            reporter.report(&Event::SliceSkipped { error: refused.error.clone() });
            if child {
                self.note_gap(Some(format!("records were left out: {}", refused.error.message)));
            } else {
                self.stats.skipped.fetch_add(1, Ordering::Relaxed);
            }
            self.note_refused(refused)?;
        }
        Ok(())
    }
}
