//! Runs a plan: slices, queues, fetch, decode, write. All streams run at once; parents feed children
//! while they still list, and one pacer paces every request.

pub(crate) mod assignment;
pub(crate) mod confirm_deletes;
pub(crate) mod loader;
pub(crate) mod markers;
pub mod missing_objects;
pub(crate) mod outcome;
pub mod row_counts;
pub mod services;
pub(crate) mod stream;

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
use crate::run::outcome::StreamResult;
use crate::run::services::Services;

/// What a run came to.
#[derive(Debug, Default)]
pub struct RunResult {
    /// How the streams ended, in the plan's order.
    pub streams: Vec<StreamReport>,
    /// The slices that were refused.
    pub errors: Vec<SliceError>,
    /// Whether work is left that the next run goes on with.
    pub open: bool,
    /// What was spent, where points are counted.
    pub points: Option<PointsReport>,
}

/// A report of a stream of which nothing was read.
pub fn empty_report(stream: &str) -> StreamReport {
    outcome::empty(stream, crate::report::StreamStatus::Done)
}

/// What a run is to read of each stream, by what is remembered of it.
pub fn read_plans(
    plan: &Plan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> BTreeMap<String, ReadPlan> {
    decide::decide(plan, saved, now)
}

/// From where a run starts.
#[derive(Clone, Copy, Debug)]
pub struct RunStart<'run> {
    /// What is remembered.
    pub saved: &'run SavedState,
    /// What is read of each stream, and how.
    pub read_plans: &'run BTreeMap<String, ReadPlan>,
    /// The time.
    pub now: DateTime<Utc>,
    /// Points that were spent before it.
    pub spent: u64,
}

/// Runs a plan to its end. `saved` is what the store holds; streams that it says have ended in this
/// run are passed over. Without `durable` nothing is saved, and what dies is lost.
///
/// # Errors
/// A setup request failed; no stream has run then. A stream's failure is part of its report.
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
    // Whoever only feeds and is not needed has no part in the run.
    streams.retain(|stream| {
        let read_plan = read_plans.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        stream.output.is_some() || !read_plan.is_skip()
    });
    let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let (jobs, earlier) = assignment::jobs(env, &streams, saved, read_plans);
    let mut tasks = JoinSet::new();
    for job in jobs {
        tasks.spawn(stream::run(Arc::clone(env), job));
    }
    let mut ended: Vec<StreamResult> = earlier;
    while let Some(result) = tasks.join_next().await {
        match result {
            Ok(stream) => ended.push(stream),
            Err(error) => tracing::error!(%error, "a stream broke"),
        }
    }
    // What it saved is still there.
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
