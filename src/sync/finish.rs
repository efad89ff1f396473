//! The end of a run: what is remembered then, and what is told when that cannot be known.

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

/// Removes what earlier runs have staged and nobody goes on with.
pub(crate) async fn tidy(services: &Services, plan: &Plan) {
    // Who keeps the state elsewhere does not hold the lock under which others of that name stage here.
    let name = if services.state.is_none() { plan.name.as_str() } else { "" };
    let leftovers = Leftovers::of(name, Some(&plan.run.id), plan.run.started_at);
    if let Err(error) = services.target.tidy(&leftovers).await {
        let message =
            format!("rows staged by earlier runs could not be removed: {}", error.chain());
        services.reporter.report(&Event::Warning { stream: None, message });
    }
}

/// What is remembered after a run. One that could not begin is forgotten.
pub(crate) async fn looked_back(
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

/// The report of a run at whose end its state could not be reached. The run is remembered as it was saved
/// last, so that the next one goes on with it.
pub(crate) fn cut_off(report: RunReport, error: &Error) -> RunReport {
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

/// Whether anything was done that is worth going on with.
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
