//! What a run found before its streams, and what it came to.
use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

use crate::plan::Run;
use crate::report::{
    Event, Notice, NoticeKind, Planned, PointsReport, Reporter, SliceError, StreamReport,
    StreamStatus, add_notice,
};
use crate::run::RunResult;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The run's id.
    pub run_id: String,
    /// When it started.
    pub started_at: String,
    /// Whether it goes on with a run that had not ended.
    pub continued: bool,
    /// Whether work is left, and saved, that the next run goes on with.
    pub resumable: bool,
    /// Seconds from start to end of this process.
    pub seconds: f64,
    /// How it ended.
    pub status: RunStatus,
    /// Its streams, parents before children.
    pub streams: Vec<StreamReport>,
    /// What it was expected to ask for, all its processes together; `None` where nobody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Planned>,
    /// What was spent, where points are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<PointsReport>,
    /// What was dropped, cut or assumed of the run as a whole, one notice per kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Slices that the API refused.
    pub errors: Vec<SliceError>,
    /// Where the refused slices are recorded, when there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_object: Option<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Every stream is in the target, whole.
    Done,
    /// Every stream is in the target; some slices were refused and are recorded, or records are missing.
    DoneWithErrors,
    /// A stream failed.
    Failed,
    /// The run was told to stop.
    Interrupted,
    /// What it might spend is spent; the next run goes on.
    Paused,
}

/// The report of a process of a run; the streams `anew` are still to be read otherwise.
pub(crate) fn run_report(
    run: &Run,
    continued: bool,
    started: Instant,
    ran: RunResult,
    (cancelled, anew): (bool, &[String]),
) -> RunReport {
    let RunResult { streams, errors, points, .. } = ran;
    let paused = points.as_ref().is_some_and(|points| points.paused.is_some()) && !cancelled;
    let any = |status| streams.iter().any(|stream| stream.status == status);
    let stopped = cancelled || any(StreamStatus::Interrupted);
    // What has failed for good is told at once, though the rest is but paused.
    let failed = streams.iter().any(|stream| {
        stream.status == StreamStatus::Failed && !(paused && anew.contains(&stream.stream))
    });
    let status = match errors.is_empty() {
        _ if failed => RunStatus::Failed,
        _ if paused && (stopped || !anew.is_empty()) => RunStatus::Paused,
        _ if stopped => RunStatus::Interrupted,
        true => RunStatus::Done,
        false => RunStatus::DoneWithErrors,
    };
    RunReport {
        run_id: run.id.clone(),
        started_at: run.started_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        continued,
        resumable: false,
        seconds: started.elapsed().as_secs_f64(),
        status,
        streams,
        planned: None,
        points,
        notices: Vec::new(),
        errors,
        errors_object: None,
    }
}

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
