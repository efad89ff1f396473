//! What a run finds before its streams begin: said at once, and part of its report.

use std::collections::BTreeMap;

use crate::report::{Event, Notice, NoticeKind, Reporter, add_notice};
use crate::sync::report::RunReport;

/// Notices of a stream, or of the run, that no stream has taken by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<(Option<String>, Notice)>);

impl Findings {
    /// Says what was found.
    pub(crate) fn tell(
        &mut self,
        reporter: &dyn Reporter,
        stream: Option<&str>,
        kind: NoticeKind,
        detail: String,
    ) {
        let stream = stream.map(str::to_owned);
        reporter.report(&Event::Warning { stream: stream.clone(), message: detail.clone() });
        self.0.push((stream, Notice { kind, count: 1, detail }));
    }

    /// Says what was found of several streams.
    pub(crate) fn tell_all(
        &mut self,
        reporter: &dyn Reporter,
        kind: NoticeKind,
        streams: &BTreeMap<String, String>,
    ) {
        for (stream, detail) in streams {
            self.tell(reporter, Some(stream), kind, detail.clone());
        }
    }

    /// Puts all into a report: what is about a stream that it does not have, beside its streams.
    pub(crate) fn add_to(self, report: &mut RunReport) {
        for (stream, notice) in self.0 {
            let mut streams = report.streams.iter_mut();
            match streams.find(|one| Some(&one.stream) == stream.as_ref()) {
                Some(one) => add_notice(&mut one.notices, notice),
                None => add_notice(&mut report.notices, notice),
            }
        }
    }
}
