//! Events of a run outside its streams, and cancellation before the streams start.

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::report::{Event, Planned};
use crate::run::services::Services;

/// Runs `work` before the streams start, and stops with an error if the run is cancelled.
pub(crate) async fn stoppable<T>(
    services: &Services,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = services.cancel.cancelled() => {
            Err(Error::new(Kind::Interrupted, "stopped before any stream started"))
        }
    }
}

/// Reports what the run does before its streams start.
pub(crate) fn doing(services: &Services, what: &str) {
    services.reporter.report(&Event::Doing { stream: None, what: what.to_owned() });
}

/// Reports the start of the run.
pub(crate) fn report_start(
    services: &Services,
    plan: &Plan,
    continued: bool,
    planned: Option<Planned>,
) {
    let (run_id, streams) = (plan.run.id.clone(), plan.streams.len());
    services.reporter.report(&Event::RunStarted { run_id, continued, streams, planned });
}
