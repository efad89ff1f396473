//! Runs a plan. All streams run concurrently: parents feed their children while they are still listed. One pacer
//! limits the rate of all requests.

pub(crate) mod assignment;
pub(crate) mod confirm_deletes;
pub(crate) mod loader;
pub(crate) mod markers;
pub mod missing_objects;
pub(crate) mod outcome;
pub mod row_counts;
pub mod services;
pub(crate) mod stream;
pub(crate) mod stream_result;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use chrono::{DateTime, Utc};
use tokio::{task::JoinSet, time::Instant};

use crate::error::Result;
use crate::extract::run_context::{QueueSource, RunContext};
use crate::http::client::{Client, Jitter};
use crate::http::lockout::Lockout;
use crate::http::session::Session;
use crate::plan::{Plan, StreamPlan};
use crate::planner::decide;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::SavedState;
use crate::progress::session::StateSession;
use crate::queue::{Queue, Queues};
use crate::quota::budget::PointsBudget;
use crate::quota::ledger::MemoryLedger;
use crate::quota::pacing::Pacer;
use crate::report::{Event, PointsReport, SliceError, StreamReport};
use crate::run::services::Services;
use crate::run::stream_result::StreamResult;

/// The result of a run.
#[derive(Debug, Default)]
pub struct RunResult {
    /// How the streams ended, in the plan's order.
    pub streams: Vec<StreamReport>,
    /// The slices that were refused.
    pub errors: Vec<SliceError>,
    /// Whether the next run can resume this one.
    pub open: bool,
    /// Points spent; `None` without a quota.
    pub points: Option<PointsReport>,
}

/// A report of a stream that was not read.
pub fn empty_report(stream: &str) -> StreamReport {
    stream_result::empty(stream, crate::report::StreamStatus::Done)
}

/// The read plans of the streams, from their saved state.
pub fn read_plans(
    plan: &Plan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> BTreeMap<String, ReadPlan> {
    decide::decide(plan, saved, now)
}

/// The start of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunStart<'run> {
    /// The saved state.
    pub saved: &'run SavedState,
    /// The read plans, by stream.
    pub read_plans: &'run BTreeMap<String, ReadPlan>,
    /// Start time of this process.
    pub now: DateTime<Utc>,
    /// Points that earlier processes of the run have spent.
    pub spent: u64,
}

/// Runs a plan to its end. Skips streams that have already ended in this run, according to the saved state.
/// Without `durable`, the run saves no state and cannot be resumed.
///
/// # Errors
/// A setup request failed, before any stream ran. The failure of a stream is part of its report.
pub async fn run(
    plan: Plan,
    services: Services,
    start: RunStart<'_>,
    durable: Option<StateSession>,
) -> Result<RunResult> {
    let RunStart { saved, read_plans, .. } = start;
    let pacer = Pacer::new(plan.requests_per_second, plan.concurrency);
    let interval =
        (usize::try_from(plan.checkpoint.size.0).unwrap_or(usize::MAX), plan.checkpoint.every.0);
    let Plan { run, access, setup, teardown, variables, rules, queues, streams, .. } = plan;
    let (quota, plan_notes) = (plan.quota, plan.notes);
    let Services { transport, target, ledger, reporter, cancel, .. } = services;
    for message in plan_notes {
        reporter.report(&Event::Warning { stream: None, message });
    }
    let (jitter, answered) = (Jitter::of(&run.id), AtomicU64::new(0));
    let session = Session::new(setup, rules, variables.clone());
    let ledger = ledger.unwrap_or_else(|| Arc::new(MemoryLedger::default()));
    let budget = quota.map(|quota| {
        PointsBudget::new(quota, ledger, Arc::clone(&reporter), start.now, start.spent)
    });
    let lockout = Lockout::default();
    let client = Client {
        transport,
        pacer,
        access,
        reporter,
        cancel,
        jitter,
        budget,
        answered,
        lockout,
        session,
    };
    let queue_sources = queues.iter().enumerate();
    let queue_sources =
        queue_sources.map(|(at, queue)| QueueSource::new(&queue.name, at, &streams));
    let queue_sources: Vec<QueueSource> = queue_sources.collect();
    let log = queues.iter().map(|queue| match durable {
        Some(_) => Queue::restored(&queue.name, &saved.rest),
        None => Queue::new(&queue.name, false),
    });
    let env = RunContext {
        client,
        target,
        queues: Arc::new(Queues::new(log.collect())),
        queue_sources,
        durable,
        interval,
        variables,
        answered: Arc::default(),
        run,
        clock: (start.now, Instant::now()),
    };
    if let Err(error) = env.client.log_in().await {
        env.client.close().await;
        return Err(error);
    }
    let env = Arc::new(env);
    let mut ran = run_streams(&env, streams, saved, read_plans).await;
    for error in env.client.log_out(&teardown).await {
        let message = format!("a request after the streams failed: {}", error.chain());
        env.client.reporter.report(&Event::Warning { stream: None, message });
    }
    ran.points = env.client.close().await;
    Ok(ran)
}

async fn run_streams(
    env: &Arc<RunContext>,
    streams: Vec<Arc<StreamPlan>>,
    saved: &SavedState,
    read_plans: &BTreeMap<String, ReadPlan>,
) -> RunResult {
    let mut streams = streams;
    // Leave out streams that only feed others and are not needed.
    streams.retain(|stream| {
        let read_plan = read_plans.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        stream.output.is_some() || !read_plan.is_skip()
    });
    let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let (assigned, earlier) = assignment::tasks(env, &streams, saved, read_plans);
    let mut tasks = JoinSet::new();
    for task in assigned {
        tasks.spawn(stream::run(Arc::clone(env), task));
    }
    let mut ended: Vec<StreamResult> = earlier;
    while let Some(result) = tasks.join_next().await {
        match result {
            Ok(stream) => ended.push(stream),
            Err(error) => tracing::error!(%error, "the task of a stream panicked"),
        }
    }
    // The state that a broken stream saved is still there, so the next run can resume it.
    let broken = names.iter().filter(|name| !ended.iter().any(|one| one.report.stream == **name));
    let broken: Vec<StreamResult> = broken.map(|name| StreamResult::broken(name)).collect();
    ended.extend(broken);
    ended.sort_by_key(|stream| names.iter().position(|name| *name == stream.report.stream));
    let open = ended.iter().any(|stream| stream.open);
    let errors = ended.iter_mut().flat_map(|stream| std::mem::take(&mut stream.refused)).collect();
    RunResult {
        streams: ended.into_iter().map(|stream| stream.report).collect(),
        errors,
        open,
        points: None,
    }
}
