//! Sample runs (`--limit`): the first rows of each stream, in separate tables or files.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::progress::saved::SavedState;
use crate::run;
use crate::run::RunStart;
use crate::run::services::Services;
use crate::sync::announce::{report_start, stoppable};
use crate::sync::owner;
use crate::sync::report::{RunReport, run_report};
use crate::sync::run_options::RunOptions;
use crate::write::{Disposition, SAMPLE, Target};

/// Whether a plan is for a sample run.
pub(crate) fn is_wanted(plan: &Plan) -> bool {
    plan.streams.iter().any(|stream| stream.limit.is_some())
}

/// Runs a sample. The saved state of the replication is neither read nor changed.
pub(crate) async fn run(
    mut plan: Plan,
    services: Services,
    options: RunOptions,
) -> Result<RunReport> {
    let started = Instant::now();
    beside(&mut plan, services.target.as_ref())?;
    let saved = SavedState::default();
    if !options.adopt {
        let existing_tables =
            stoppable(&services, owner::existing_tables(&plan, services.target.as_ref()));
        owner::check(&plan, &existing_tables.await?, &saved)?;
    }
    let read_plans = run::read_plans(&plan, &saved, options.now);
    report_start(&services, &plan, false, None);
    let (run, cancel) = (plan.run.clone(), services.cancel.clone());
    let start = RunStart { saved: &saved, read_plans: &read_plans, now: options.now, spent: 0 };
    let ran = run::run(plan, services, start, None).await?;
    Ok(run_report(&run, started, ran, cancel.is_cancelled(), &[]))
}

/// Redirects every stream to its sample table, in which a sample replaces the previous one.
fn beside(plan: &mut Plan, target: &dyn Target) -> Result<()> {
    for stream in &mut plan.streams {
        let name = stream.name.clone();
        let shared = || Error::input(format!("stream `{name}` cannot write a sample"));
        let stream = Arc::get_mut(stream).ok_or_else(shared)?;
        if let Some(output) = &mut stream.output {
            output.table.object = target.sample_object(&output.table.object)?;
            output.table.disposition = Disposition::Replace;
            // Another name, so that ordinary runs do not remove its staged rows as leftovers.
            output.table.replication.push_str(SAMPLE);
        }
    }
    Ok(())
}
