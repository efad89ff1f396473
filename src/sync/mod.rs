//! One replication from start to report.
//!
//! An unfinished run is saved until all its streams have ended. The next run resumes it under the same ID,
//! so that it finds the staged rows.

pub(crate) mod announce;
pub mod connection_test;
pub mod duration;
pub mod errors;
pub(crate) mod finish;
pub(crate) mod lock;
pub mod owner;
pub mod plan_report;
pub mod report;
pub(crate) mod reroute;
pub(crate) mod resume;
pub mod run_options;
pub(crate) mod sample;

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use tokio::time::Instant;

use crate::error::Result;
use crate::plan::{Plan, Run};
use crate::planner::read_plan::ReadPlan;
use crate::planner::{estimate, restart};
use crate::progress::saved::{OpenRun, SavedState, StreamState};
use crate::progress::session::StateSession;
use crate::quota::ledger::MemoryLedger;
use crate::report::{Event, NoticeKind, Planned, Reporter, StreamReport};
use crate::run;
use crate::run::services::Services;
use crate::run::{RunResult, RunStart, row_counts};
use crate::state::{Change, Entries, Holder, Store};
use crate::sync::announce::{doing, report_start, stoppable};
use crate::sync::errors::ERRORS;
use crate::sync::finish::{has_begun, state_after, tidy, without_state};
use crate::sync::report::{Findings, RunReport, RunStatus, run_report};
use crate::sync::resume::{Resume, ResumedRun};
use crate::sync::run_options::RunOptions;
use crate::write::{Leftovers, Table, Target, Watch};

pub use connection_test::probe;
pub use plan_report::estimate_run;

/// Runs a replication: extracts the streams, loads them, and commits. `prepare` makes the plan for a run. It
/// is called again to resume an earlier run.
///
/// # Errors
/// The run could not start: another run holds the lock, or the target, the state or a setup request
/// failed. Later failures are part of the report.
pub async fn run(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    services: Services,
    options: RunOptions,
) -> Result<RunReport> {
    let started = Instant::now();
    let plan = prepare(options.run())?;
    let ledger = services.ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default()));
    let services = Services { ledger: Some(ledger), ..services };
    let watch = Watch { reporter: Arc::clone(&services.reporter), cancel: services.cancel.clone() };
    services.target.set_watch(watch);
    doing(&services, "checking the target");
    stoppable(&services, services.target.check()).await?;
    if sample::is_wanted(&plan) {
        return sample::run(plan, services, options).await;
    }
    let in_target = services.state.is_none();
    let store = match &services.state {
        Some(store) => Arc::clone(store),
        None => services.target.store(&plan.name)?,
    };
    if !options.adopt && !plan.definitions.is_empty() {
        let (saved, _) = SavedState::read_leniently(stoppable(&services, store.load()).await?);
        let existing_tables =
            stoppable(&services, owner::existing_tables(&plan, services.target.as_ref()));
        owner::check(&plan, &existing_tables.await?, &saved)?;
    }
    let defined = define(&plan.definitions, &services).await?;
    if plan.streams.is_empty() {
        let ran = RunResult { streams: defined, ..RunResult::default() };
        return Ok(run_report(&plan.run, started, ran, false, &[]));
    }
    doing(&services, "taking the lock of the replication");
    let lock = lock::acquire(store.as_ref(), &plan.run.id, &services, options.wait);
    let lock = stoppable(&services, lock).await?;
    let durable = StateSession { store, lock: Arc::clone(&lock), in_target };
    let ran = run_by_routes(prepare, plan, durable, services, options).await;
    lock.release().await;
    let mut report = ran?;
    report.streams.splice(0..0, defined);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Runs the streams. If the API refuses the route of a stream, or an incremental read, the stream is read
/// again from the start by its default route.
async fn run_by_routes(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    plan: Plan,
    durable: StateSession,
    services: Services,
    options: RunOptions,
) -> Result<RunReport> {
    let reporter = Arc::clone(&services.reporter);
    let cancel = services.cancel.clone();
    let locked = run_locked(prepare, plan, durable.clone(), services.clone(), options);
    let (first, again) = locked.await?;
    let names = reroute::refused(&first.streams);
    for stream in first.streams.iter().filter(|one| names.contains(&one.stream)) {
        let message = reroute::warning(stream);
        reporter.report(&Event::Warning { stream: Some(stream.stream.clone()), message });
    }
    if !again || cancel.is_cancelled() {
        return Ok(first);
    }
    let options = RunOptions { fresh: false, ..options };
    let spent = first.points.as_ref().map_or(0, |points| points.spent);
    let rest = |run: Run| {
        let mut plan = prepare(run)?;
        if let Some(quota) = plan.quota.as_mut() {
            quota.spent = spent;
        }
        Ok(plan)
    };
    let plan = rest(options.run())?;
    let (second, _) = run_locked(&rest, plan, durable, services, options).await?;
    Ok(reroute::merged(&first, second))
}

/// Runs the streams while the run holds the lock. Returns whether the run can resume at once, with other
/// routes.
async fn run_locked(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    plan: Plan,
    durable: StateSession,
    services: Services,
    options: RunOptions,
) -> Result<(RunReport, bool)> {
    let started = Instant::now();
    let store = Arc::clone(&durable.store);
    let entries = stoppable(&services, store.load()).await?;
    doing(&services, "checking the tables of the target");
    let existing_tables =
        stoppable(&services, owner::existing_tables(&plan, services.target.as_ref())).await?;
    if !options.adopt {
        owner::check(&plan, &existing_tables, &SavedState::read_leniently(entries.clone()).0)?;
    }
    let saved = if options.fresh {
        forget(store.as_ref(), &plan, entries).await?
    } else {
        SavedState::read(entries)?
    };
    let (mut findings, reporter) = (Findings::default(), Arc::clone(&services.reporter));
    report_damage(store.as_ref(), &mut findings, reporter.as_ref());
    let target = services.target.as_ref();
    let missing = resume::missing_data(&plan, &saved, target, &existing_tables).await;
    findings.report_all(reporter.as_ref(), NoticeKind::TargetChanged, &missing);
    if saved.run.is_none() {
        let changed = resume::changed_settings(&plan, &saved);
        findings.report_all(reporter.as_ref(), NoticeKind::ReadWhole, &changed);
    }
    let past = Past { store: store.as_ref(), saved: &saved, missing: &missing };
    let started_run = begin(prepare, plan, past, &services, options).await?;
    let StartedRun { plan, read_plans, continued, saved, planned, spent, restarts } = started_run;
    findings.report_all(reporter.as_ref(), NoticeKind::ReadAgain, &restarts);
    let run = plan.run.clone();
    report_start(&services, &plan, continued, planned);
    tidy(&services, &plan).await;
    let (streams, name) = (plan.streams.clone(), plan.name.clone());
    let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
    let cancel = services.cancel.clone();
    let target = Arc::clone(&services.target);
    let default_object = plan.errors_object.clone();
    let start = RunStart { saved: &saved, read_plans: &read_plans, now: options.now, spent };
    let ran = run::run(plan, services, start, Some(durable.clone())).await;
    let (ran, after) = state_after(ran, store.as_ref(), &streams).await?;
    let after = match after {
        Ok(after) => after,
        Err(error) => {
            let report = run_report(&run, started, ran, cancel.is_cancelled(), &[]);
            let report = RunReport { continued, planned, ..report };
            return Ok((without_state(report, &error), false));
        }
    };
    let errors = errors::write(target.as_ref(), &name, &default_object, &run, &after).await;
    let errors_object = errors.unwrap_or_else(|error| {
        let what = format!(
            "the refused slices could not be written to `{default_object}`: {}",
            error.chain()
        );
        reporter.report(&Event::Warning { stream: None, message: what });
        None
    });
    let resumable = ran.open && has_begun(&after, &streams) && !options.retry;
    let refused = !reroute::refused(&ran.streams).is_empty() && !options.retry;
    let (restarts, changes) = match (refused, resumable) {
        (true, _) => restart::prepare(&after, &streams, &queues, &BTreeMap::new(), options.now),
        (false, true) => Default::default(),
        (false, false) => (Vec::new(), after.without_run()),
    };
    let saved = if changes.is_empty() { Ok(()) } else { store.save(&changes).await };
    let report = run_report(&run, started, ran, cancel.is_cancelled(), &restarts);
    let mut report = RunReport { continued, planned, ..report };
    if let Err(error) = saved {
        return Ok((without_state(report, &error), false));
    }
    // Otherwise the rest may have to wait, for example for points.
    let again = refused && !resumable;
    report.errors_object = errors_object;
    report.resumable = resumable || refused;
    findings.add_to(&mut report);
    if report.status == RunStatus::Done && report.streams.iter().any(|stream| !stream.complete) {
        report.status = RunStatus::DoneWithErrors;
    }
    Ok((report, again))
}

/// Reports saved state that was damaged and is ignored.
fn report_damage(store: &dyn Store, findings: &mut Findings, reporter: &dyn Reporter) {
    if let Some(damage) = store.damage() {
        let detail = format!(
            "{damage}: the run resumes from the progress saved before that, and reads the rest again"
        );
        findings.report(reporter, None, NoticeKind::StateDamaged, detail);
    }
}

/// A run whose streams can start.
struct StartedRun {
    plan: Plan,
    read_plans: BTreeMap<String, ReadPlan>,
    continued: bool,
    saved: SavedState,
    planned: Option<Planned>,
    /// Points that it has already spent.
    spent: u64,
    /// Streams of a resumed run that are read again from the start, each with the reason.
    restarts: BTreeMap<String, String>,
}

/// The saved state at the start of a run.
#[derive(Clone, Copy)]
struct Past<'run> {
    store: &'run dyn Store,
    saved: &'run SavedState,
    /// Streams whose tables have lost written data, each with a description of the loss.
    missing: &'run BTreeMap<String, String>,
}

/// Resumes the unfinished run, or starts a new one.
async fn begin(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    mut plan: Plan,
    Past { store, saved, missing }: Past<'_>,
    services: &Services,
    options: RunOptions,
) -> Result<StartedRun> {
    let invalidated = |mut saved: SavedState| {
        for name in missing.keys() {
            saved.invalidate(name);
        }
        saved
    };
    let mut saved = invalidated(saved.clone());
    if options.retry {
        if let Some(open) = saved.run.as_ref().filter(|open| !open.retry) {
            return Err(
                resume::open_error(open).with_hint("run `weir sync run` first to resume it")
            );
        }
        // A killed retry starts again from the recorded slices.
        store.save(&saved.without_run()).await?;
        // The recorded slices contain the values of the parents, so no parent has to be read.
        plan.streams.retain(|stream| {
            let state = saved.stream(&stream.name);
            stream.output.is_some() && state.refused_slices.iter().any(|failed| !failed.recurs)
        });
        let read_plans = plan.streams.iter().map(|stream| (stream.name.clone(), ReadPlan::Retry));
        let read_plans = read_plans.collect();
        let planned = plan_report::planned(&estimate::estimate_streams(
            &plan,
            &saved,
            &read_plans,
            options.now,
        ));
        let open = OpenRun { retry: true, planned, ..resume::new_run(&plan, &read_plans) };
        store.save(&[SavedState::version(), open.change()]).await?;
        saved = invalidated(SavedState::read(store.load().await?)?);
        let restarts = BTreeMap::new();
        return Ok(StartedRun {
            plan,
            read_plans,
            continued: false,
            saved,
            planned,
            spent: 0,
            restarts,
        });
    }
    let target = services.target.as_ref();
    match resume::resume(prepare, &saved, missing, target, options.now).await? {
        Some(Resume::Yes(resumed)) => {
            let ResumedRun { plan, read_plans, saved, changes, restarts } = *resumed;
            store.save(&changes).await?;
            let planned = saved.run.as_ref().and_then(|open| open.planned);
            return Ok(StartedRun {
                plan,
                read_plans,
                continued: true,
                saved,
                planned,
                spent: 0,
                restarts,
            });
        }
        Some(Resume::No(message)) => {
            services.reporter.report(&Event::Warning { stream: None, message });
        }
        None => {}
    }
    let ended = saved.without_run();
    if saved.run.is_some() {
        store.save(&ended).await?;
        saved = invalidated(SavedState::read(store.load().await?)?);
    }
    owner::check_schemas(&plan, target).await?;
    doing(services, "planning: asking the API how many records there are");
    let counts = row_counts::request_counts(&plan, &saved, services, options.now).await;
    saved.counted = counts.counted;
    let read_plans = run::read_plans(&plan, &saved, options.now);
    let planned =
        plan_report::planned(&estimate::estimate_streams(&plan, &saved, &read_plans, options.now));
    let counted = saved.counted.clone();
    let open = OpenRun { planned, counted, ..resume::new_run(&plan, &read_plans) };
    store.save(&[SavedState::version(), open.change()]).await?;
    let (spent, restarts) = (counts.points, BTreeMap::new());
    Ok(StartedRun { plan, read_plans, continued: false, saved, planned, spent, restarts })
}

/// Deletes the saved state of the streams of a plan, and the unfinished run.
async fn forget(store: &dyn Store, plan: &Plan, entries: Entries) -> Result<SavedState> {
    let (saved, mut changes) = SavedState::read_leniently(entries);
    changes.extend(saved.without_run());
    let streams = plan.streams.iter().filter(|stream| saved.streams.contains_key(&stream.name));
    changes.extend(streams.flat_map(|stream| StreamState::forgotten(&stream.name)));
    store.save(&changes).await?;
    SavedState::read(store.load().await?)
}

/// Deletes the saved state of the streams that `wanted` selects, and an unfinished run with its staged rows.
/// Tables stay. Returns the names of the streams.
pub async fn reset(
    target: &dyn Target,
    store: &dyn Store,
    replication: &str,
    wanted: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<Vec<String>> {
    let lock = store.lock(&Holder::here("reset")).await?;
    let (saved, mut changes) = SavedState::read_leniently(store.load().await?);
    let names: Vec<String> = saved.streams.keys().filter(|name| wanted(name)).cloned().collect();
    changes.extend(saved.without_run());
    changes.extend(names.iter().flat_map(|name| StreamState::forgotten(name)));
    if names.len() == saved.streams.len() {
        changes.push(Change::forget(ERRORS));
    }
    let saved = store.save(&changes).await;
    if saved.is_ok()
        && let Err(error) = target.tidy(&Leftovers::of(replication, None, Utc::now())).await
    {
        tracing::warn!(error = error.chain(), "staged rows could not be removed");
    }
    lock.release().await;
    saved.map(|()| names)
}

/// Creates tables that do not exist.
async fn define(tables: &[Table], services: &Services) -> Result<Vec<StreamReport>> {
    let mut streams = Vec::new();
    for table in tables {
        let defined = services.target.define(table).await;
        let object = defined.map_err(|error| error.about(&format!("stream `{}`", table.stream)))?;
        let report = StreamReport { object: Some(object), ..run::empty_report(&table.stream) };
        services.reporter.report(&Event::StreamFinished { report: report.clone() });
        streams.push(report);
    }
    Ok(streams)
}
