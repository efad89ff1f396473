//! The end of a run: cleanup, and the state after the run.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::plan::{Plan, StreamPlan};
use crate::progress::saved::{LastRun, SavedState};
use crate::report::{Event, Notice, NoticeKind, add_notice};
use crate::run::RunResult;
use crate::run::services::Services;
use crate::state::Store;
use crate::sync::report::{RunReport, RunStatus};
use crate::write::Leftovers;

/// Removes staged rows of earlier runs that no run will resume.
pub(crate) async fn tidy(services: &Services, plan: &Plan) {
    // With a separate store, the lock does not exclude other replications of that name in this target.
    let name = if services.state.is_none() { plan.name.as_str() } else { "" };
    let leftovers = Leftovers::of(name, Some(&plan.run.id), plan.run.started_at);
    if let Err(error) = services.target.tidy(&leftovers).await {
        let message =
            format!("rows staged by earlier runs could not be removed: {}", error.chain());
        services.reporter.report(&Event::Warning { stream: None, message });
    }
}

/// Loads the state after a run. Deletes the run from the state if it failed before it started.
pub(crate) async fn state_after(
    ran: Result<RunResult>,
    store: &dyn Store,
    streams: &[Arc<StreamPlan>],
) -> Result<(RunResult, Result<SavedState>)> {
    let after = store.load().await.and_then(SavedState::read);
    match (ran, after) {
        (Ok(ran), after) => Ok((ran, after)),
        (Err(error), Ok(after)) if !has_begun(&after, streams) => {
            store.save(&after.without_run()).await?;
            Err(error)
        }
        (Err(error), _) => Err(error),
    }
}

/// The report of a run whose state could not be read or saved at the end. The next run resumes from the
/// last saved progress.
pub(crate) fn without_state(report: RunReport, error: &Error) -> RunReport {
    let status = match report.status {
        RunStatus::Done | RunStatus::DoneWithErrors => RunStatus::Failed,
        status => status,
    };
    let mut notices = report.notices;
    add_notice(
        &mut notices,
        Notice { kind: NoticeKind::StateOutOfReach, count: 1, detail: error.chain() },
    );
    RunReport { status, resumable: true, notices, ..report }
}

/// Whether a run has progress that is worth resuming.
pub(crate) fn has_begun(saved: &SavedState, streams: &[Arc<StreamPlan>]) -> bool {
    let id = saved.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
    streams.iter().any(|stream| {
        let state = saved.stream(&stream.name);
        let open = state.open.as_ref().filter(|open| open.run_id == id);
        let begun = open.is_some_and(|open| {
            open.staged > 0
                || !open.open.is_empty()
                || open.finished.iter().any(|one| one.count() > 0)
        });
        begun || state.ended_in(id).is_some_and(LastRun::is_done)
    })
}
