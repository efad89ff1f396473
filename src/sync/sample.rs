//! A look at the first rows of each stream: they go into tables or files of their own, beside the real ones.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::saved::SavedState;
use crate::run;
use crate::run::RunStart;
use crate::run::services::Services;
use crate::sync::announce::{stoppable, tell_start};
use crate::sync::beginning::Beginning;
use crate::sync::owner;
use crate::sync::report::{RunReport, run_report};
use crate::write::{Disposition, SAMPLE, Target};

/// Whether a plan takes only the first rows.
pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.streams.iter().any(|stream| stream.limit.is_some())
}

/// Runs it. What is saved of the replication is neither read nor changed.
pub(crate) async fn run(
    mut plan: Plan,
    services: Services,
    beginning: Beginning,
) -> Result<RunReport> {
    let started = Instant::now();
    beside(&mut plan, services.target.as_ref())?;
    let saved = SavedState::default();
    if !beginning.adopt {
        let standings = stoppable(&services, owner::standings(&plan, services.target.as_ref()));
        owner::check(&plan, &standings.await?, &saved)?;
    }
    let read_plans = run::read_plans(&plan, &saved, beginning.now);
    tell_start(&services, &plan, (false, None));
    let (run, cancel) = (plan.run.clone(), services.cancel.clone());
    let start = RunStart { saved: &saved, read_plans: &read_plans, now: beginning.now, spent: 0 };
    let ran = run::run(plan, services, start, None).await?;
    Ok(run_report(&run, false, started, ran, (cancel.is_cancelled(), &[])))
}

/// Lets every stream write into a place of its own, in which a sample replaces the one before.
fn beside(plan: &mut Plan, target: &dyn Target) -> Result<()> {
    for stream in &mut plan.streams {
        let name = stream.name.clone();
        let shared = || Error::input(format!("stream `{name}` cannot write a sample"));
        let stream = Arc::get_mut(stream).ok_or_else(shared)?;
        if let Some(output) = &mut stream.output {
            output.table.object = target.sample_object(&output.table.object)?;
            output.table.disposition = Disposition::Replace;
            // What it stages is not left over by the runs beside it.
            output.table.replication.push_str(SAMPLE);
        }
    }
    Ok(())
}
