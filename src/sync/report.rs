//! The report of a run.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::time::Instant;

use crate::plan::Run;
use crate::report::{
    Event, Notice, NoticeKind, Planned, PointsReport, Reporter, SliceError, StreamReport,
    StreamStatus, add_notice,
};
use crate::run::RunResult;

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// The run's ID.
    pub run_id: String,
    /// When it started.
    pub started_at: String,
    /// Whether it resumed an unfinished run.
    pub continued: bool,
    /// Whether the next run can resume saved progress.
    pub resumable: bool,
    /// Seconds from start to end of this process.
    pub seconds: f64,
    /// How it ended.
    pub status: RunStatus,
    /// Its streams, parents before children.
    pub streams: Vec<StreamReport>,
    /// The plan estimate of all its processes together; `None` if it cannot be estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<Planned>,
    /// The points that were spent; `None` without a points quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<PointsReport>,
    /// Notices that concern the run as a whole, one per kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Slices that the API refused.
    pub errors: Vec<SliceError>,
    /// The table or file with the refused slices; `None` if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_object: Option<String>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Every stream is complete in the target.
    Done,
    /// Every stream is in the target, but slices were refused or records are missing.
    DoneWithErrors,
    /// A stream failed.
    Failed,
    /// The run was stopped.
    Interrupted,
    /// The points budget is spent; the next run resumes.
    Paused,
}

/// The report of a process of a run. `restarting` lists the streams that will be read again by another
/// route.
pub(crate) fn run_report(
    run: &Run,
    started: Instant,
    ran: RunResult,
    cancelled: bool,
    restarting: &[String],
) -> RunReport {
    let RunResult { streams, errors, points, .. } = ran;
    let paused = points.as_ref().is_some_and(|points| points.paused.is_some()) && !cancelled;
    let any = |status| streams.iter().any(|stream| stream.status == status);
    let stopped = cancelled || any(StreamStatus::Interrupted);
    // A permanent failure takes precedence over a pause of the other streams.
    let failed = streams.iter().any(|stream| {
        stream.status == StreamStatus::Failed && !(paused && restarting.contains(&stream.stream))
    });
    let status = match errors.is_empty() {
        _ if failed => RunStatus::Failed,
        _ if paused && (stopped || !restarting.is_empty()) => RunStatus::Paused,
        _ if stopped => RunStatus::Interrupted,
        true => RunStatus::Done,
        false => RunStatus::DoneWithErrors,
    };
    RunReport {
        run_id: run.id.clone(),
        started_at: run.started_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        continued: false,
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

/// Notices of a run or its streams that are found before the streams start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<(Option<String>, Notice)>);

impl Findings {
    /// Reports and keeps a notice.
    pub(crate) fn report(
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

    /// Reports and keeps a notice for each of several streams.
    pub(crate) fn report_all(
        &mut self,
        reporter: &dyn Reporter,
        kind: NoticeKind,
        streams: &BTreeMap<String, String>,
    ) {
        for (stream, detail) in streams {
            self.report(reporter, Some(stream), kind, detail.clone());
        }
    }

    /// Adds the notices to a report. Notices of streams that are not in it become notices of the run.
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
