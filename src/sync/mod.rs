//! One replication from start to report.
//!
//! A run that has begun is remembered until all its streams have ended. The next one goes on with it:
//! it keeps its id, so that rows that are staged are found again.

pub(crate) mod announce;
pub mod beginning;
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
pub(crate) mod sample;

use std::{collections::BTreeMap, sync::Arc};

use chrono::Utc;
use tokio::time::Instant;

use crate::error::Result;
use crate::plan::{Plan, Run};
use crate::planner::read_plan::ReadPlan;
use crate::planner::{estimate, restart};
use crate::progress::saved::{SavedState, StreamState};
use crate::progress::session::StateSession;
use crate::quota::ledger::MemoryLedger;
use crate::report::{Event, NoticeKind, Planned, StreamReport};
use crate::run;
use crate::run::services::Services;
use crate::run::{RunResult, RunStart, row_counts};
use crate::state::{Change, Entries, Holder, Store};
use crate::sync::announce::{doing, stoppable, tell_start};
use crate::sync::beginning::Beginning;
use crate::sync::errors::ERRORS;
use crate::sync::finish::{cut_off, has_begun, looked_back, tidy};
use crate::sync::report::{Findings, RunReport, RunStatus, run_report};
use crate::sync::resume::{GoOn, GoingOn};
use crate::write::{Leftovers, Table, Target, Watch};

pub use connection_test::probe;
pub use plan_report::forecast;

/// Runs a replication: extracts, types, loads, commits. `prepare` makes its plan for a run; it is
/// called again when an earlier run is continued.
///
/// # Errors
/// The run could not start: another one is going on, or the target, the state or a setup request
/// failed. What fails later is reported.
pub async fn run(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    services: Services,
    beginning: Beginning,
) -> Result<RunReport> {
    let started = Instant::now();
    let plan = prepare(beginning.run())?;
    let ledger = services.ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default()));
    let services = Services { ledger: Some(ledger), ..services };
    let watch = Watch { reporter: Arc::clone(&services.reporter), cancel: services.cancel.clone() };
    services.target.set_watch(watch);
    doing(&services, "checking the target");
    stoppable(&services, services.target.check()).await?;
    if sample::is_wanted(&plan) {
        return sample::run(plan, services, beginning).await;
    }
    let in_target = services.state.is_none();
    let store = match &services.state {
        Some(store) => Arc::clone(store),
        None => services.target.store(&plan.name)?,
    };
    if !beginning.adopt && !plan.definitions.is_empty() {
        let (saved, _) = SavedState::read_leniently(stoppable(&services, store.load()).await?);
        let standings = stoppable(&services, owner::standings(&plan, services.target.as_ref()));
        owner::check(&plan, &standings.await?, &saved)?;
    }
    let defined = define(&plan.definitions, &services).await?;
    if plan.streams.is_empty() {
        let ran = RunResult { streams: defined, ..RunResult::default() };
        return Ok(run_report(&plan.run, false, started, ran, (false, &[])));
    }
    doing(&services, "taking the lock of the replication");
    let lock = lock::taken(store.as_ref(), &plan.run.id, &services, beginning.wait);
    let lock = stoppable(&services, lock).await?;
    let durable = StateSession { store, lock: Arc::clone(&lock), in_target };
    let ran = run_by_routes(prepare, plan, durable, services, beginning).await;
    lock.release().await;
    let mut report = ran?;
    report.streams.splice(0..0, defined);
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Runs; streams of which the API refuses the route, or the listing of changes, are read anew by their own
/// requests.
async fn run_by_routes(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    plan: Plan,
    durable: StateSession,
    services: Services,
    beginning: Beginning,
) -> Result<RunReport> {
    let reporter = Arc::clone(&services.reporter);
    let cancel = services.cancel.clone();
    let locked = run_locked(prepare, plan, durable.clone(), services.clone(), beginning);
    let (first, again) = locked.await?;
    let names = reroute::refused(&first.streams);
    for stream in first.streams.iter().filter(|one| names.contains(&one.stream)) {
        let message = reroute::told(stream);
        reporter.report(&Event::Warning { stream: Some(stream.stream.clone()), message });
    }
    if !again || cancel.is_cancelled() {
        return Ok(first);
    }
    let beginning = Beginning { fresh: false, ..beginning };
    let spent = first.points.as_ref().map_or(0, |points| points.spent);
    let rest = |run: Run| {
        let mut plan = prepare(run)?;
        if let Some(quota) = plan.quota.as_mut() {
            quota.spent = spent;
        }
        Ok(plan)
    };
    let plan = rest(beginning.run())?;
    let (second, _) = run_locked(&rest, plan, durable, services, beginning).await?;
    Ok(reroute::merged(&first, second))
}

/// Runs, while nobody else runs the replication. Tells whether the run can go on at once, by other routes.
async fn run_locked(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    plan: Plan,
    durable: StateSession,
    services: Services,
    beginning: Beginning,
) -> Result<(RunReport, bool)> {
    let started = Instant::now();
    let store = Arc::clone(&durable.store);
    let entries = stoppable(&services, store.load()).await?;
    doing(&services, "looking at the tables of the target");
    let standings = stoppable(&services, owner::standings(&plan, services.target.as_ref())).await?;
    if !beginning.adopt {
        owner::check(&plan, &standings, &SavedState::read_leniently(entries.clone()).0)?;
    }
    let saved = if beginning.fresh {
        forget(store.as_ref(), &plan, entries).await?
    } else {
        SavedState::read(entries)?
    };
    let (mut findings, reporter) = (Findings::default(), Arc::clone(&services.reporter));
    if let Some(damage) = store.damage() {
        let detail = format!(
            "{damage}: the run goes on from what was saved before, and reads the rest again"
        );
        findings.tell(reporter.as_ref(), None, NoticeKind::StateDamaged, detail);
    }
    let target = (services.target.as_ref(), &standings);
    let lacking = resume::lacking(&plan, &saved, target).await;
    findings.tell_all(reporter.as_ref(), NoticeKind::TargetChanged, &lacking);
    if saved.run.is_none() {
        let otherwise = resume::otherwise(&plan, &saved);
        findings.tell_all(reporter.as_ref(), NoticeKind::ReadWhole, &otherwise);
    }
    let past = Past { store: store.as_ref(), saved: &saved, lacking: &lacking };
    let begun = begin(prepare, plan, past, &services, beginning).await?;
    let Begun { plan, read_plans, continued, saved, planned, spent, anew } = begun;
    findings.tell_all(reporter.as_ref(), NoticeKind::ReadAgain, &anew);
    let run = plan.run.clone();
    tell_start(&services, &plan, (continued, planned));
    tidy(&services, &plan).await;
    let (streams, name) = (plan.streams.clone(), plan.name.clone());
    let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
    let cancel = services.cancel.clone();
    let target = Arc::clone(&services.target);
    let default_object = plan.errors_object.clone();
    let start = RunStart { saved: &saved, read_plans: &read_plans, now: beginning.now, spent };
    let ran = run::run(plan, services, start, Some(durable.clone())).await;
    let (ran, after) = looked_back(ran, store.as_ref(), &streams).await?;
    let after = match after {
        Ok(after) => after,
        Err(error) => {
            let report = run_report(&run, continued, started, ran, (cancel.is_cancelled(), &[]));
            return Ok((cut_off(RunReport { planned, ..report }, &error), false));
        }
    };
    let errors = errors::write(target.as_ref(), (&name, &default_object), &run, &after).await;
    let errors_object = errors.unwrap_or_else(|error| {
        let what = format!("the refused slices are not in `{default_object}`: {}", error.chain());
        reporter.report(&Event::Warning { stream: None, message: what });
        None
    });
    let resumable = ran.open && has_begun(&after, &streams) && !beginning.retry;
    let refused = !reroute::refused(&ran.streams).is_empty() && !beginning.retry;
    let (anew, changes) = match (refused, resumable) {
        (true, _) => restart::anew(&after, (&streams, &queues), &BTreeMap::new(), beginning.now),
        (false, true) => Default::default(),
        (false, false) => (Vec::new(), after.without_run()),
    };
    let saved = if changes.is_empty() { Ok(()) } else { store.save(&changes).await };
    let mut report = run_report(&run, continued, started, ran, (cancel.is_cancelled(), &anew));
    if let Err(error) = saved {
        return Ok((cut_off(RunReport { planned, ..report }, &error), false));
    }
    // Whatever else is left may need time.
    let again = refused && !resumable;
    report.errors_object = errors_object;
    report.planned = planned;
    report.resumable = resumable || refused;
    findings.add_to(&mut report);
    if report.status == RunStatus::Done && report.streams.iter().any(|stream| !stream.complete) {
        report.status = RunStatus::DoneWithErrors;
    }
    Ok((report, again))
}

/// A run that may go.
struct Begun {
    plan: Plan,
    read_plans: BTreeMap<String, ReadPlan>,
    continued: bool,
    saved: SavedState,
    planned: Option<Planned>,
    /// Points that it has spent already.
    spent: u64,
    /// Streams that begin anew in a run that goes on, and why.
    anew: BTreeMap<String, String>,
}

/// What was before a run, and where it is kept.
#[derive(Clone, Copy)]
struct Past<'run> {
    store: &'run dyn Store,
    saved: &'run SavedState,
    /// Streams whose tables have lost what was written to them, and what.
    lacking: &'run BTreeMap<String, String>,
}

/// Goes on with the run that has not ended, or begins a new one.
async fn begin(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    mut plan: Plan,
    Past { store, saved, lacking }: Past<'_>,
    services: &Services,
    beginning: Beginning,
) -> Result<Begun> {
    let distrusted = |mut saved: SavedState| {
        for name in lacking.keys() {
            saved.invalidate(name);
        }
        saved
    };
    let mut saved = distrusted(saved.clone());
    if beginning.retry {
        if let Some(open) = saved.run.as_ref().filter(|open| !open.retry) {
            return Err(
                resume::open_error(open).with_hint("run `weir sync run` first: it continues")
            );
        }
        // One that died is begun anew: what it asks for is recorded.
        store.save(&saved.without_run()).await?;
        // What their slices are about is recorded, so that no parent needs to feed them.
        plan.streams.retain(|stream| {
            let state = saved.stream(&stream.name);
            stream.output.is_some() && state.refused_slices.iter().any(|failed| !failed.recurs)
        });
        let read_plans = plan.streams.iter().map(|stream| (stream.name.clone(), ReadPlan::Retry));
        let read_plans = read_plans.collect();
        let planned =
            plan_report::planned(&estimate::forecast(&plan, &saved, &read_plans, beginning.now));
        resume::remember(store, (&plan, &read_plans), (true, planned), &[]).await?;
        saved = distrusted(SavedState::read(store.load().await?)?);
        let anew = BTreeMap::new();
        return Ok(Begun { plan, read_plans, continued: false, saved, planned, spent: 0, anew });
    }
    let target = services.target.as_ref();
    match resume::go_on(prepare, (&saved, lacking), target, beginning.now).await? {
        Some(GoOn::With(going)) => {
            let GoingOn { plan, read_plans, saved, changes, anew } = *going;
            store.save(&changes).await?;
            let planned = saved.run.as_ref().and_then(|open| open.planned);
            return Ok(Begun { plan, read_plans, continued: true, saved, planned, spent: 0, anew });
        }
        Some(GoOn::Not(message)) => {
            services.reporter.report(&Event::Warning { stream: None, message });
        }
        None => {}
    }
    let ended = saved.without_run();
    if saved.run.is_some() {
        store.save(&ended).await?;
        saved = distrusted(SavedState::read(store.load().await?)?);
    }
    owner::check_fit(&plan, target).await?;
    doing(services, "planning: asking the API how many records there are");
    let census = row_counts::census(&plan, &saved, services, beginning.now).await;
    saved.counted = census.counted;
    let read_plans = run::read_plans(&plan, &saved, beginning.now);
    let planned =
        plan_report::planned(&estimate::forecast(&plan, &saved, &read_plans, beginning.now));
    resume::remember(store, (&plan, &read_plans), (false, planned), &saved.counted).await?;
    let (spent, anew) = (census.points, BTreeMap::new());
    Ok(Begun { plan, read_plans, continued: false, saved, planned, spent, anew })
}

/// Forgets the streams of a plan, and the run that has not ended.
async fn forget(store: &dyn Store, plan: &Plan, entries: Entries) -> Result<SavedState> {
    let (saved, mut changes) = SavedState::read_leniently(entries);
    changes.extend(saved.without_run());
    let streams = plan.streams.iter().filter(|stream| saved.streams.contains_key(&stream.name));
    changes.extend(streams.flat_map(|stream| StreamState::forgotten(&stream.name)));
    store.save(&changes).await?;
    SavedState::read(store.load().await?)
}

/// Forgets what is remembered of the streams that `wanted` chooses, and a run that has not ended, with
/// what it has staged; their tables stay. Returns their names.
pub async fn reset(
    target: &dyn Target,
    (store, replication): (&dyn Store, &str),
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
        tracing::warn!(error = error.chain(), "what was staged is not removed");
    }
    lock.release().await;
    saved.map(|()| names)
}

/// Makes tables exist.
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
