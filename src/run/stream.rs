//! One stream from its first slice to its commit.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{task::JoinSet, time::Instant};

use crate::error::{Error, Kind, Result};
use crate::extract::context::Shared;
use crate::extract::links::AssignedRequest;
use crate::extract::pages::rows::RowBuilder;
use crate::extract::run_context::Env;
use crate::extract::workers::{Past, Source, work};
use crate::http::client::interrupted;
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan;
use crate::progress::ranges::RangeSet;
use crate::progress::saved::{Completeness, Progress, Reach, RefusedSlice, StreamState, Way};
use crate::progress::versions::{VersionKind, VersionLog};
use crate::queue;
use crate::queue::{Consumer, Feeder};
use crate::quota::request_cost::ObjectEstimate;
use crate::report::counters::Stats;
use crate::report::{Event, NoticeKind, StreamReport, StreamStatus};
use crate::run::loader::{Keeper, Loader, Pending};
use crate::run::outcome::{Ended, Outcome};
use crate::run::{confirm_deletes, outcome};
use crate::write::{Committed, Deletable, Disposition, Table};

/// A stream and its places in the queues.
pub(crate) struct Job {
    pub(crate) plan: Arc<StreamPlan>,
    pub(crate) way: Way,
    /// The streams whose values it needs.
    pub(crate) after: Vec<String>,
    /// What is remembered of it.
    pub(crate) before: StreamState,
    /// Per queue of the plan the feeder, where this stream feeds it.
    pub(crate) feeders: Vec<Option<Feeder>>,
    /// Per request of its reach where it stands among others; `None` for those that are not sent.
    pub(crate) requests: Vec<Option<AssignedRequest>>,
    /// What is remembered of it, or its parents.
    pub(crate) parents: Option<(VersionKind, VersionLog)>,
}

/// Runs one stream; its failure is part of the report.
pub(crate) async fn run(env: Arc<Env>, job: Job) -> Ended {
    let started = Instant::now();
    let reporter = Arc::clone(&env.client.reporter);
    let plan = Arc::clone(&job.plan);
    let feeder = plan.output.is_none();
    let (stream, after) = (plan.name.clone(), job.after.clone());
    reporter.report(&Event::StreamStarted { stream, feeder, after });
    let notes = if job.way.reach == Reach::Nothing { Vec::new() } else { plan.notes.clone() };
    for message in notes {
        reporter.report(&Event::Warning { stream: Some(plan.name.clone()), message });
    }
    let ended = if job.way.reach == Reach::Nothing {
        nothing_to_do(job)
    } else {
        Box::pin(extract(env, job, started)).await
    };
    reporter.report(&Event::StreamFinished { report: ended.report.clone() });
    ended
}

fn nothing_to_do(job: Job) -> Ended {
    for feeder in job.feeders.into_iter().flatten() {
        feeder.finish(Completeness::Complete);
    }
    let object = job.plan.output.as_ref().map(|output| output.table.object.clone());
    let report = StreamReport { object, ..outcome::empty(&job.plan.name, StreamStatus::Fresh) };
    Ended { report, open: false, refused: Vec::new() }
}

/// Runs all slices, then commits.
async fn extract(env: Arc<Env>, job: Job, started: Instant) -> Ended {
    let Job { plan, way, before, feeders, requests, parents, .. } = job;
    let reach = way.reach;
    let going_on = before.open.clone().filter(|open| open.run_id == env.run.id);
    let progress = going_on.clone().unwrap_or_else(|| begun_now(&env, &plan, reach));
    let columns = progress.columns.clone();
    let stats = Arc::new(Stats::resumed(progress.counts, progress.notices.clone(), columns));
    let incomplete = !progress.gaps.is_empty() || progress.counts.skipped > 0;
    let page_sizes = progress.page_sizes.iter().map(|size| AtomicU32::new(*size));
    let page_sizes = Arc::new(page_sizes.collect::<Vec<_>>());
    let remembers = parents.as_ref().map(|(about, _)| *about);
    let mut keeper = Keeper {
        way,
        marks: marks(&plan, way),
        writer: None,
        before: before.clone(),
        progress,
        stats: Arc::clone(&stats),
        page_sizes: Arc::clone(&page_sizes),
        queues: Arc::clone(&env.queues),
        settlers: requests.iter().map(|one| settler(one.as_ref())).collect(),
        durable: env.durable.clone(),
        interval: env.interval,
        pending: Pending::default(),
        parents,
        replaces: replaced(&plan, way),
        answered: Arc::clone(&env.answered),
        plan: Arc::clone(&plan),
    };
    let ending = outcome::Ending { plan: &plan, before: &before, run: &env.run, way };
    if let Some(why) = ending.deletes_disabled().filter(|_| reach != Reach::Failed) {
        tell_deletes_off(&env, &stats, (&plan.name, why));
    }
    match open(&env, &mut keeper, going_on.as_ref()).await {
        Ok(Opened::Ready) => {
            let (stream, figures) = (plan.name.clone(), stats.figures());
            env.client.reporter.report(&Event::Progress { stream, figures });
        }
        other => {
            let (outcome, completeness) = unread(&env, &ending, keeper, other, incomplete).await;
            finish_feeders(feeders, &outcome.result, completeness);
            return ending.conclude(outcome, &env, started.elapsed());
        }
    }
    let sources = sources(&keeper, requests);
    let loader = Loader::start(keeper);
    let shared = Arc::new(Shared {
        rows: plan.output.as_ref().map(|output| RowBuilder::new(output, &env.run)),
        looks: matches!(remembers, Some(VersionKind::Fingerprints | VersionKind::Overwritten)),
        notes: loader.notes(),
        allowance: Mutex::new(plan.limit),
        page_sizes,
        estimates: read_plan::requests(&plan, reach).iter().map(estimate).collect(),
        any: ObjectEstimate::new(1),
        enough: env.client.cancel.child_token(),
        incomplete: AtomicBool::new(incomplete),
        refusal: Mutex::new(None),
        served: Mutex::default(),
        refused: Mutex::default(),
        stats,
        feeders,
        way,
        plan: Arc::clone(&plan),
        env: Arc::clone(&env),
    });
    let (sliced, completeness) = run_slices(&shared, sources).await;
    let incomplete = shared.incomplete.load(Ordering::Relaxed);
    let route_refused = sliced.is_err() && is_refused(&shared);
    let refusal = shared.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // All workers are gone, so that this is the only hold on what they shared.
    let Ok(shared) = Arc::try_unwrap(shared) else { unreachable!("the workers have been joined") };
    let Shared { notes, feeders, .. } = shared;
    drop(notes);
    let ended = Sliced { result: sliced, completeness, refusal, route_refused };
    let outcome = settle(&env, &ending, loader, ended).await;
    let skipped = outcome.progress.counts.skipped > 0;
    let completeness =
        ending.completeness(outcome.result.as_ref().map(|_| ()), incomplete || skipped);
    finish_feeders(feeders, &outcome.result, completeness);
    ending.conclude(outcome, &env, started.elapsed())
}

/// Tells that rows which are gone stay, and why.
fn tell_deletes_off(env: &Env, stats: &Stats, (stream, why): (&str, String)) {
    let message = format!("rows that are gone stay: {why}");
    let stream = Some(stream.to_owned());
    env.client.reporter.report(&Event::Warning { stream, message });
    stats.notice(NoticeKind::DeletesOff, 1, || why);
}

/// What a stream came to of which nothing can, or need, be read; and what its children may rely on.
async fn unread(
    env: &Env,
    ending: &outcome::Ending<'_>,
    keeper: Keeper,
    opened: Result<Opened>,
    incomplete: bool,
) -> (Outcome, Completeness) {
    let changes = keeper.settled(Deletable::Everything);
    let Keeper { progress, .. } = keeper;
    match opened {
        Ok(Opened::Ready | Opened::Published) => {
            let completeness = ending.completeness(Ok(()), incomplete);
            // What the rows before concluded is not known any more: at worst too much is asked.
            let result = ending.adopt(env, &progress, completeness, changes).await;
            (Outcome { open: result.is_err(), result, progress }, completeness)
        }
        Ok(Opened::Lost) => {
            let object = ending.plan.output.as_ref().map_or("", |output| &output.table.object);
            let what = format!("what an earlier run had staged for `{object}` is gone");
            let hint = "the next run reads the stream anew";
            let error = Error::new(Kind::Target, what).with_hint(hint);
            let error = ending.give_up(env, &progress, error).await;
            (Outcome { result: Err(error), progress, open: false }, Completeness::Failed)
        }
        Err(error) => {
            let (open, completeness) =
                (ending.plan.may_pass(&error), ending.completeness(Err(&error), true));
            (Outcome { result: Err(error), progress, open }, completeness)
        }
    }
}

/// Objects and records that come with each value of a chunk, before any was seen.
const FOUND: u64 = 11;

/// What an answer may bring before there was any.
fn estimate(request: &RequestPlan) -> ObjectEstimate {
    let page = u64::from(request.pager.largest_page().unwrap_or(1));
    // An object of a chunk comes with its records.
    match request.routed.covers {
        Some(_) => ObjectEstimate::guessed(page * FOUND),
        None => ObjectEstimate::new(page),
    }
}

/// The progress of a stream of which nothing is read.
fn begun_now(env: &Env, plan: &StreamPlan, reach: Reach) -> Progress {
    let requests = read_plan::requests(plan, reach);
    Progress {
        run_id: env.run.id.clone(),
        reach,
        finished: vec![RangeSet::default(); requests.len()],
        page_sizes: requests.iter().map(|one| one.pager.largest_page().unwrap_or(0)).collect(),
        ..Progress::default()
    }
}

/// Whether slices replace all rows of their parents, so that these are marked.
fn marks(plan: &StreamPlan, way: Way) -> bool {
    let reach = way.reach;
    let route = plan.routes.get(way.route).filter(|_| read_plan::has_own_requests(plan, reach));
    if route.is_some_and(|route| !route.by_parents) {
        return false;
    }
    let everything =
        reach == Reach::Complete && plan.cursor.as_ref().is_none_or(|c| c.anchor.is_none());
    let merges = plan.output.as_ref().is_some_and(|output| {
        output.table.disposition == Disposition::Merge && output.table.replaces.is_some()
    });
    let some = read_plan::is_gated(plan, reach) || reach == Reach::Failed;
    merges && (everything || some && plan.is_bound_to_parent())
}

/// Column that names what is marked in a run: the parents, or the rows themselves where those that have not
/// changed are not read, or where rows that did not come are asked for.
fn replaced(plan: &StreamPlan, way: Way) -> Option<String> {
    let table = &plan.output.as_ref()?.table;
    let confirms = plan.confirm.is_some() && way.reach == Reach::Complete;
    let merges = table.disposition == Disposition::Merge;
    if merges && (confirms || read_plan::fetches(plan, way)) {
        table.schema.key.first().cloned()
    } else {
        table.replaces.clone()
    }
}

/// Where the requests of a stream get their slices.
fn sources(keeper: &Keeper, requests: Vec<Option<AssignedRequest>>) -> Vec<Source> {
    let Keeper { progress, before, plan, way, .. } = keeper;
    let reach = way.reach;
    let gated = read_plan::is_gated(plan, reach);
    let known = keeper.parents.as_ref().map(|(_, read)| read.known()).unwrap_or_default();
    let source = |(number, assigned): (usize, Option<AssignedRequest>)| {
        let assigned = assigned?;
        // Of whatever route they were: they are about values of the same queue.
        let same = |one: &&RefusedSlice| plan.own_number(one.request) == plan.own_number(number);
        let failed = before.refused_slices.iter().filter(same).filter(|one| !one.recurs);
        let past = Past {
            begun: progress.open.iter().filter(|open| open.request == number).cloned().collect(),
            finished: progress.finished.get(number).cloned().unwrap_or_default(),
            failed: failed.filter(|_| gated || reach == Reach::Failed).cloned().collect(),
            known: (gated || plan.bounds_children()).then(|| known.clone()),
        };
        if let Some(seat) = &assigned.links.seat {
            let mut done = past.finished.clone();
            past.begun.iter().for_each(|open| done.insert(open.from, open.to));
            seat.sit(&done, &keeper.stats);
        }
        if let Some(walker) = &assigned.links.walker {
            walker.sit(&keeper.stats);
        }
        Some(Source::new(assigned, past, keeper.marks))
    };
    requests.into_iter().enumerate().filter_map(source).collect()
}

fn finish_feeders(
    feeders: Vec<Option<Feeder>>,
    result: &Result<Option<Committed>>,
    completeness: Completeness,
) {
    let completeness =
        if result.is_ok() { completeness } else { completeness.max(Completeness::Interrupted) };
    for feeder in feeders.into_iter().flatten() {
        feeder.finish(completeness);
    }
}

enum Opened {
    Ready,
    /// An earlier process had made the rows visible, and died before it could say so.
    Published,
    /// What an earlier process had staged is gone.
    Lost,
}

async fn open(env: &Env, keeper: &mut Keeper, going_on: Option<&Progress>) -> Result<Opened> {
    let Some(output) = &keeper.plan.output else { return Ok(Opened::Ready) };
    let staged = going_on.map(|progress| progress.staged);
    let table = Table { replaces: keeper.replaces.clone(), ..output.table.clone() };
    doing(env, &keeper.plan.name, format!("preparing `{}`", table.object));
    keeper.writer = env.target.open(&table, staged).await?;
    if keeper.writer.is_some() {
        return Ok(Opened::Ready);
    }
    if going_on.is_some_and(|progress| progress.publishing) {
        return Ok(Opened::Published);
    }
    Ok(Opened::Lost)
}

/// Tells what a stream does that is no request.
fn doing(env: &Env, stream: &str, what: String) {
    env.client.reporter.report(&Event::Doing { stream: Some(stream.to_owned()), what });
}

/// How the slices ended.
struct Sliced {
    result: Result<()>,
    completeness: Completeness,
    /// The first slice that was refused.
    refusal: Option<String>,
    /// Whether the API refuses the route.
    route_refused: bool,
}

/// Whether a route was refused that cannot be left for single slices.
fn is_refused(shared: &Shared) -> bool {
    let refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
    !refused.is_empty() && (shared.reads_changes() || !shared.is_by_parents())
}

fn settler(company: Option<&AssignedRequest>) -> Option<queue::Settler> {
    company?.consumer.as_ref().map(Consumer::settler)
}

/// Commits, or keeps or forgets what was done.
async fn settle(
    env: &Env,
    ending: &outcome::Ending<'_>,
    loader: Loader,
    Sliced { result: sliced, completeness, refusal, route_refused }: Sliced,
) -> Outcome {
    let (mut keeper, loaded) = match loader.finish().await {
        Ok(finished) => finished,
        Err(error) => {
            let progress = Progress::default();
            return Outcome { result: Err(error), progress, open: true };
        }
    };
    if route_refused {
        keeper.route_refused();
    }
    // A stream that has not ended may still show that such requests are answered.
    let loaded = if sliced.is_ok() && loaded.is_ok() {
        keeper.settle_doubts(env.client.reporter.as_ref())
    } else {
        loaded
    };
    let healthy = loaded.is_ok();
    // A writer's own error says more than that of the worker who found it gone.
    let result = loaded.and(sliced).and_then(|()| ending.check(&keeper, refusal));
    let result = match result {
        Ok(()) if env.client.cancel.is_cancelled() => Err(interrupted()),
        Ok(()) => {
            keeper.progress.notices = keeper.stats.notices();
            let seen =
                ending.seen(&keeper.progress, keeper.marks, &keeper.stats.counts(), completeness);
            confirm_deletes::ask(env, &mut keeper, &seen).await
        }
        other => other,
    };
    match result {
        Ok(()) => {
            let follows = matches!(keeper.parents, Some((VersionKind::Parents, _)));
            if follows && !ending.is_by_parents() && keeper.stats.counts().skipped > 0 {
                // Rows of any parent may be missing.
                keeper.parents = None;
            }
            let seen =
                ending.seen(&keeper.progress, keeper.marks, &keeper.stats.counts(), completeness);
            let progress = keeper.progress.clone();
            let after = |progress: &Progress, committed: Option<&Committed>| {
                ending.after(progress, committed, env.now(), completeness)
            };
            if let Some(output) = &ending.plan.output {
                let (rows, object) = (keeper.stats.counts().rows, &output.table.object);
                doing(env, &ending.plan.name, format!("publishing {rows} rows in `{object}`"));
            }
            match keeper.commit(&seen, after).await {
                Ok((committed, progress)) => {
                    Outcome { result: Ok(committed), progress, open: false }
                }
                Err(error) if error.kind() == Kind::Shape => {
                    // The target refuses these rows: the next run reads others.
                    let error = ending.give_up(env, &progress, error).await;
                    Outcome { open: false, result: Err(error), progress }
                }
                Err(error) => Outcome { open: true, result: Err(error), progress },
            }
        }
        Err(error) if ending.plan.may_pass(&error) => {
            if healthy && let Err(error) = keeper.checkpoint().await {
                tracing::warn!(stream = ending.plan.name, error = error.chain(), "not saved");
            }
            Outcome { result: Err(error), progress: keeper.progress, open: true }
        }
        Err(error) => {
            let progress = Progress {
                counts: keeper.stats.counts(),
                notices: keeper.stats.notices(),
                columns: keeper.stats.columns(),
                ..keeper.progress.clone()
            };
            let after = ending.failed(&progress, (&error, env.now()));
            if let Err(error) = keeper.discard(after).await {
                tracing::warn!(stream = ending.plan.name, error = error.chain(), "not discarded");
            }
            Outcome { result: Err(error), progress, open: false }
        }
    }
}

/// Runs the workers of every request until there are no more slices, or one fails. Returns what can be
/// said of the queues too.
async fn run_slices(shared: &Arc<Shared>, sources: Vec<Source>) -> (Result<()>, Completeness) {
    let mut workers = JoinSet::new();
    for source in sources {
        let Some(request) = shared.requests().get(source.links.number) else { continue };
        let single = matches!(request.iterate, Iterate::Once);
        let source = Arc::new(source);
        for _ in 0..if single { 1 } else { shared.plan.concurrency } {
            workers.spawn(work(Arc::clone(shared), Arc::clone(&source)));
        }
    }
    let mut failure: Option<Error> = None;
    let mut completeness = Completeness::Complete;
    while let Some(ended) = workers.join_next().await {
        let ended = ended
            .unwrap_or_else(|error| Err(Error::new(Kind::Shape, "a worker broke").because(error)));
        match ended {
            Ok(own) => completeness = completeness.max(own),
            Err(error) => {
                shared.enough.cancel();
                let known = failure.as_ref().is_some_and(|first| first.kind() != Kind::Target);
                if !known {
                    failure = Some(error);
                }
            }
        }
    }
    (failure.map_or(Ok(()), Err), completeness)
}
