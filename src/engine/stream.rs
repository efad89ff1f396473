//! One stream from its first slice to its commit.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use tokio::{sync::Mutex as AsyncMutex, task::JoinSet, time::Instant};

use super::{
    Env,
    client::interrupted,
    load::Loader,
    queue::{Consumer, Feeder, Supply},
    rows::RowBuilder,
    slice::{self, Shared},
    stats::Stats,
};
use crate::error::{Error, Kind, Result};
use crate::plan::{Iterate, StreamPlan};
use crate::report::{Event, SliceError, StreamReport, StreamStatus};
use crate::template::{Scope, Value};
use crate::write::{Ending, Seen};

/// A stream and its places in the queues.
pub(super) struct Job {
    pub(super) plan: Arc<StreamPlan>,
    /// Per queue of the plan the feeder, where this stream feeds it.
    pub(super) feeders: Vec<Option<Feeder>>,
    /// Per request the consumer, where it consumes a queue.
    pub(super) consumers: Vec<Option<Consumer>>,
}

/// What a stream came to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) report: StreamReport,
    pub(super) errors: Vec<SliceError>,
}

/// Runs one stream; its failure is part of the report.
pub(super) async fn run(env: Arc<Env>, job: Job) -> Ended {
    let Job { plan, feeders, consumers } = job;
    let started = Instant::now();
    let feeder = plan.output.is_none();
    let reporter = Arc::clone(&env.client.reporter);
    reporter.report(&Event::StreamStarted { stream: plan.name.clone(), feeder });
    for message in plan.notes.clone() {
        reporter.report(&Event::Warning { stream: Some(plan.name.clone()), message });
    }
    let mut shared = Shared {
        rows: plan.output.as_ref().map(|output| RowBuilder::new(output, &env.run)),
        batches: None,
        allowance: Mutex::new(plan.limit),
        page_sizes: plan
            .requests
            .iter()
            .map(|request| AtomicU32::new(request.pager.largest_page().unwrap_or(0)))
            .collect(),
        enough: env.client.cancel.child_token(),
        errors: Mutex::new(Vec::new()),
        stats: Stats::default(),
        feeders,
        plan: Arc::clone(&plan),
        env,
    };
    let (shared, outcome) = match open(&shared).await {
        Ok(loader) => {
            shared.batches = loader.as_ref().map(Loader::batches);
            extract(shared, consumers, loader).await
        }
        Err(error) => (shared, Err(error)),
    };
    let ended = conclude(shared, &outcome, started);
    reporter.report(&Event::StreamFinished { report: ended.report.clone() });
    ended
}

/// What became of the rows: where they are, and how many; nothing for a feeder.
type Outcome = Result<Option<(String, u64)>>;

async fn open(shared: &Shared) -> Result<Option<Loader>> {
    let Some(output) = &shared.plan.output else { return Ok(None) };
    let writer = shared.env.target.open(&output.table, None).await?;
    let writer = writer.ok_or_else(|| Error::target("the table cannot be opened"))?;
    Ok(Some(Loader::start(writer, output.table.schema.staged())))
}

/// Runs all slices, then commits.
async fn extract(
    shared: Shared,
    consumers: Vec<Option<Consumer>>,
    loader: Option<Loader>,
) -> (Shared, Outcome) {
    let shared = Arc::new(shared);
    let sliced = run_slices(&shared, consumers).await;
    // All workers are gone, so that this is the only hold on what they shared.
    let Ok(mut shared) = Arc::try_unwrap(shared) else {
        unreachable!("the workers have been joined")
    };
    shared.batches = None;
    let outcome = finish(&shared, sliced, loader).await;
    (shared, outcome)
}

/// Fails a stream that lacks what was asked for by name.
fn check_min_rows(shared: &Shared) -> Result<()> {
    let (plan, rows) = (&shared.plan, shared.stats.rows.load(Ordering::Relaxed));
    if rows >= plan.min_rows || plan.limit.is_some() {
        return Ok(());
    }
    let what = format!("there are {rows} rows, but the inputs ask for {} by name", plan.min_rows);
    Err(Error::new(Kind::Rejected, what)
        .with_hint("look for misspelt or removed names in the inputs"))
}

async fn finish(shared: &Shared, sliced: Result<()>, loader: Option<Loader>) -> Outcome {
    let sliced = sliced.and_then(|()| check_min_rows(shared));
    let Some(loader) = loader else {
        sliced?;
        return Ok(None);
    };
    let writer = loader.finish().await;
    // A writer's own error says more than that of the worker who found it gone.
    let writer = match (sliced, writer) {
        (_, Err(error)) => return Err(error),
        (Err(error), Ok(_)) => return Err(error),
        (Ok(()), Ok(writer)) => writer,
    };
    if shared.env.client.cancel.is_cancelled() {
        return Err(interrupted());
    }
    let (done, skipped) = (&shared.stats.done, &shared.stats.skipped);
    let skipped = skipped.load(Ordering::Relaxed);
    if skipped > 0 && done.load(Ordering::Relaxed) == 0 {
        let errors = shared.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let first = errors.first().map(|error| error.message.clone()).unwrap_or_default();
        let what = format!("all {skipped} slices were refused: {first}");
        return Err(Error::new(Kind::Credentials, what)
            .with_hint("the credentials may lack a permission for this stream"));
    }
    let ending = Ending { seen: Seen::Some, at: shared.env.run.started_at };
    let committed = writer.commit(&ending, &[]).await?;
    Ok(Some((committed.object, committed.rows)))
}

/// Runs the workers of every request until there are no more slices, or one fails.
async fn run_slices(shared: &Arc<Shared>, consumers: Vec<Option<Consumer>>) -> Result<()> {
    let mut workers = JoinSet::new();
    for (number, consumer) in consumers.into_iter().enumerate() {
        let Some(request) = shared.plan.requests.get(number) else { continue };
        let single = matches!(request.iterate, Iterate::Once);
        let source = Arc::new(Source { consumer, next: AsyncMutex::new(0), number });
        for _ in 0..if single { 1 } else { shared.plan.concurrency } {
            workers.spawn(work(Arc::clone(shared), Arc::clone(&source)));
        }
    }
    let mut failure: Option<Error> = None;
    while let Some(ended) = workers.join_next().await {
        let ended = ended
            .unwrap_or_else(|error| Err(Error::new(Kind::Shape, "a worker broke").because(error)));
        if let Err(error) = ended {
            shared.enough.cancel();
            let known = failure.as_ref().is_some_and(|first| first.kind() != Kind::Target);
            if !known {
                failure = Some(error);
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Where the workers of one request get their slices.
struct Source {
    consumer: Option<Consumer>,
    /// Number of the next slice of a list or range.
    next: AsyncMutex<usize>,
    number: usize,
}

/// Takes slices and runs them until there are none.
async fn work(shared: Arc<Shared>, source: Arc<Source>) -> Result<()> {
    let base = shared.env.scope(&shared.plan);
    loop {
        let scope = tokio::select! {
            biased;
            () = shared.env.client.cancel.cancelled() => return Err(interrupted()),
            () = shared.enough.cancelled() => return Ok(()),
            scope = next_slice(&shared, &source, &base) => scope,
        };
        match scope {
            Some(scope) => slice::run(&shared, source.number, scope).await?,
            None => return check_supply(&shared, &source),
        }
    }
}

/// Variables of the next slice; `None` after the last.
async fn next_slice(shared: &Shared, source: &Source, base: &Scope) -> Option<Scope> {
    let request = shared.plan.requests.get(source.number)?;
    let mut next = source.next.lock().await;
    let number = *next;
    let scope = match &request.iterate {
        Iterate::Once => (number == 0).then(|| base.clone()),
        Iterate::Queue { chunk, variable, .. } => {
            let values = source.consumer.as_ref()?.next(chunk.unwrap_or(1)).await?;
            let mut values = values.iter().map(|value| Value::from(value.as_ref()));
            let value = if chunk.is_some() { values.collect() } else { values.next()? };
            Some(base.with(Arc::clone(variable), value))
        }
        Iterate::Values { values, variable } => {
            values.get(number).map(|value| base.with(Arc::clone(variable), value.clone()))
        }
        Iterate::Range { from, to, step, variable } => {
            let offset = i64::try_from(number).ok()?.checked_mul(*step)?;
            let value = from.checked_add(offset).filter(|value| value <= to)?;
            Some(base.with(Arc::clone(variable), Value::from(value)))
        }
    };
    *next += 1;
    scope
}

/// A stream whose parent failed must not pass for whole.
fn check_supply(shared: &Shared, source: &Source) -> Result<()> {
    match source.consumer.as_ref().map(Consumer::supply) {
        None | Some(Supply::Complete) => Ok(()),
        Some(Supply::Partial) => {
            shared.stats.incomplete.store(true, Ordering::Relaxed);
            Ok(())
        }
        Some(Supply::Failed) => {
            let request = shared.plan.requests.get(source.number);
            let queue = request.and_then(|request| match request.iterate {
                Iterate::Queue { queue, .. } => shared.env.queues.get(queue),
                _ => None,
            });
            let queue = queue.map(String::as_str).unwrap_or_default();
            Err(Error::new(Kind::Rejected, format!("what feeds `{queue}` failed"))
                .with_hint("see the parent stream's error"))
        }
    }
}

/// Tells the children how this stream ended, and draws its report up.
fn conclude(shared: Shared, outcome: &Outcome, started: Instant) -> Ended {
    let Shared { plan, stats, feeders, errors, env, .. } = shared;
    let incomplete = stats.incomplete.load(Ordering::Relaxed);
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    for feeder in feeders.into_iter().flatten() {
        feeder.finish(match outcome {
            Err(_) => Supply::Failed,
            Ok(_) if incomplete => Supply::Partial,
            Ok(_) => Supply::Complete,
        });
    }
    let cancelled = env.client.cancel.is_cancelled();
    let (status, error) = match outcome {
        Ok(Some(_)) => (StreamStatus::Done, None),
        Ok(None) => (StreamStatus::Fed, None),
        Err(error) if cancelled || error.kind() == Kind::Interrupted => {
            (StreamStatus::Interrupted, None)
        }
        Err(error) => (StreamStatus::Failed, Some(error)),
    };
    let committed = outcome.as_ref().ok().and_then(Option::as_ref);
    let rows = match committed {
        Some((_, rows)) => *rows,
        None if status == StreamStatus::Fed => read(&stats.rows),
        None => 0,
    };
    let report = StreamReport {
        status,
        object: committed.map(|(object, _)| object.clone()),
        rows,
        requests: read(&stats.requests),
        retries: read(&stats.retries),
        bytes: read(&stats.bytes),
        duplicates: read(&stats.duplicates),
        misfits: read(&stats.misfits),
        skipped: read(&stats.skipped),
        complete: outcome.is_ok() && !incomplete,
        seconds: started.elapsed().as_secs_f64(),
        error: error.map(Error::chain),
        hint: error.and_then(|error| error.hint().map(str::to_owned)),
        stream: plan.name.clone(),
    };
    Ended { report, errors: errors.into_inner().unwrap_or_else(PoisonError::into_inner) }
}
