//! What a run reports besides its streams, and how it is stopped.
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::report::{Event, Planned};
use crate::run::services::Services;

/// Does what comes before the streams, unless the run is stopped meanwhile.
pub(crate) async fn stoppable<T>(
    services: &Services,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = services.cancel.cancelled() => {
            Err(Error::new(Kind::Interrupted, "stopped before any stream began"))
        }
    }
}

/// Tells what the run does before its streams begin.
pub(crate) fn doing(services: &Services, what: &str) {
    services.reporter.report(&Event::Doing { stream: None, what: what.to_owned() });
}

/// Tells that the streams begin.
pub(crate) fn tell_start(
    services: &Services,
    plan: &Plan,
    (continued, planned): (bool, Option<Planned>),
) {
    let (run_id, streams) = (plan.run.id.clone(), plan.streams.len());
    services.reporter.report(&Event::RunStarted { run_id, continued, streams, planned });
}
