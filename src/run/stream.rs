//! One stream from its first slice to its commit.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{task::JoinSet, time::Instant};

use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::links::AssignedRequest;
use crate::extract::pages::page;
use crate::extract::pages::rows::RowBuilder;
use crate::extract::run_context::RunContext;
use crate::extract::workers::{SliceHistory, SliceSource, work};
use crate::http::client::interrupted;
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::progress::ranges::RangeSet;
use crate::progress::saved::{Completeness, Progress, RefusedSlice, StreamState};
use crate::progress::versions::{VersionKind, VersionLog};
use crate::queue;
use crate::queue::{Consumer, Feeder};
use crate::quota::request_cost::ObjectEstimate;
use crate::report::counters::Stats;
use crate::report::{Event, NoticeKind, StreamReport, StreamStatus};
use crate::run::loader::{Loader, LoaderHandle, PendingRows};
use crate::run::outcome::LoadResult;
use crate::run::stream_result::{StreamResult, empty};
use crate::run::{confirm_deletes, outcome};
use crate::write::{CommitInfo, Committed, Deletable, Disposition, Table};

/// A stream to run, with its queues and requests.
pub(crate) struct StreamTask {
    pub(crate) plan: Arc<StreamPlan>,
    pub(crate) read_plan: ReadPlan,
    /// Names of the streams that feed its queues.
    pub(crate) after: Vec<String>,
    /// Saved state of the stream before the run.
    pub(crate) before: StreamState,
    /// Feeders of the queues that the stream feeds, indexed like `Plan::queues`.
    pub(crate) feeders: Vec<Option<Feeder>>,
    /// Queues and shared requests of each request of the read plan; `None` for requests that are not sent.
    pub(crate) requests: Vec<Option<AssignedRequest>>,
    /// The versions to save, of its records or its parents.
    pub(crate) parents: Option<(VersionKind, VersionLog)>,
}

/// Runs one stream. A failure is part of the report.
pub(crate) async fn run(env: Arc<RunContext>, task: StreamTask) -> StreamResult {
    let started = Instant::now();
    let reporter = Arc::clone(&env.client.reporter);
    let plan = Arc::clone(&task.plan);
    let feeder = plan.output.is_none();
    let (stream, after) = (plan.name.clone(), task.after.clone());
    reporter.report(&Event::StreamStarted { stream, feeder, after });
    let notes = if task.read_plan.is_skip() { Vec::new() } else { plan.notes.clone() };
    for message in notes {
        reporter.report(&Event::Warning { stream: Some(plan.name.clone()), message });
    }
    let ended = if task.read_plan.is_skip() {
        nothing_to_do(task)
    } else {
        Box::pin(extract(env, task, started)).await
    };
    reporter.report(&Event::StreamFinished { report: ended.report.clone() });
    ended
}

fn nothing_to_do(task: StreamTask) -> StreamResult {
    for feeder in task.feeders.into_iter().flatten() {
        feeder.finish(Completeness::Complete);
    }
    let object = task.plan.output.as_ref().map(|output| output.table.object.clone());
    let report = StreamReport { object, ..empty(&task.plan.name, StreamStatus::Fresh) };
    StreamResult { report, open: false, refused: Vec::new() }
}

/// Runs all slices, then commits.
async fn extract(env: Arc<RunContext>, task: StreamTask, started: Instant) -> StreamResult {
    let StreamTask { plan, read_plan, before, feeders, requests, parents, .. } = task;
    let resumed = before.open.clone().filter(|open| open.run_id == env.run.id);
    let progress = resumed.clone().unwrap_or_else(|| new_progress(&env, &plan, read_plan));
    let (notices, columns) = (progress.notices.clone(), progress.columns.clone());
    let stats = Arc::new(Stats::resumed(progress.counts, notices, columns));
    let incomplete = !progress.gaps.is_empty() || progress.counts.skipped > 0;
    let page_sizes: Arc<Vec<AtomicU32>> =
        Arc::new(progress.page_sizes.iter().map(|size| (*size).into()).collect());
    let fingerprints = parents.as_ref().is_some_and(|(kind, _)| *kind != VersionKind::Parents);
    let mut loader = Loader {
        read_plan,
        marks: marks(&plan, read_plan),
        writer: None,
        before: before.clone(),
        progress,
        stats: Arc::clone(&stats),
        page_sizes: Arc::clone(&page_sizes),
        queues: Arc::clone(&env.queues),
        settlers: requests.iter().map(|one| settler(one.as_ref())).collect(),
        durable: env.durable.clone(),
        interval: env.interval,
        pending: PendingRows::default(),
        parents,
        replaces: replaced(&plan, read_plan),
        answered: Arc::clone(&env.answered),
        plan: Arc::clone(&plan),
    };
    let ending = outcome::StreamOutcome { plan: &plan, before: &before, run: &env.run, read_plan };
    if let Some(why) = ending.deletes_disabled().filter(|_| read_plan != ReadPlan::Retry) {
        report_deletes_disabled(&env, &stats, &plan.name, why);
    }
    match open(&env, &mut loader, resumed.as_ref()).await {
        Ok(OpenedTable::Ready) => {}
        other => {
            let (outcome, completeness) = unread(&env, &ending, loader, other, incomplete).await;
            finish_feeders(feeders, &outcome.result, completeness);
            return ending.conclude(outcome, &env, started.elapsed());
        }
    }
    let sources = sources(&loader, requests);
    let handle = LoaderHandle::start(loader);
    let shared = Arc::new(StreamContext {
        rows: plan.output.as_ref().map(|output| RowBuilder::new(output, &env.run)),
        fingerprints,
        notes: handle.notes(),
        allowance: Mutex::new(plan.limit),
        page_sizes,
        estimates: read_plan.requests(&plan).iter().map(estimate).collect(),
        any: ObjectEstimate::new(1),
        enough: env.client.cancel.child_token(),
        incomplete: AtomicBool::new(incomplete),
        refusal: Mutex::new(None),
        served: Mutex::default(),
        refused: Mutex::default(),
        stats,
        feeders,
        read_plan,
        plan: Arc::clone(&plan),
        env: Arc::clone(&env),
    });
    page::report(&shared);
    let (sliced, completeness) = run_slices(&shared, sources).await;
    let incomplete = shared.incomplete.load(Ordering::Relaxed);
    let route_refused = sliced.is_err() && is_refused(&shared);
    let refusal = shared.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(shared) = Arc::try_unwrap(shared) else { unreachable!("all workers are joined") };
    let StreamContext { notes, feeders, .. } = shared;
    drop(notes);
    let ended = SlicesResult { result: sliced, completeness, refusal, route_refused };
    let outcome = Box::pin(settle(&env, &ending, handle, ended)).await;
    let skipped = outcome.progress.counts.skipped > 0;
    let completeness =
        ending.completeness(outcome.result.as_ref().map(|_| ()), incomplete || skipped);
    finish_feeders(feeders, &outcome.result, completeness);
    ending.conclude(outcome, &env, started.elapsed())
}

/// Warns that the run will not delete rows, and why.
fn report_deletes_disabled(env: &RunContext, stats: &Stats, stream: &str, why: String) {
    let message = format!("rows of deleted records stay: {why}");
    let stream = Some(stream.to_owned());
    env.client.reporter.report(&Event::Warning { stream, message });
    stats.notice(NoticeKind::DeletesOff, 1, || why);
}

/// The result of a stream that cannot or need not be read, and the completeness of the queues that it feeds.
async fn unread(
    env: &RunContext,
    ending: &outcome::StreamOutcome<'_>,
    loader: Loader,
    opened: Result<OpenedTable>,
    incomplete: bool,
) -> (LoadResult, Completeness) {
    let changes = loader.settled(Deletable::Everything);
    let Loader { progress, .. } = loader;
    match opened {
        Ok(OpenedTable::Ready | OpenedTable::Published) => {
            let completeness = ending.completeness(Ok(()), incomplete);
            // The earlier process did not save the versions that it read, so the next run may read more rows.
            let result = ending.adopt(env, &progress, completeness, changes).await;
            (LoadResult { open: result.is_err(), result, progress }, completeness)
        }
        Ok(OpenedTable::Lost) => {
            let object = ending.plan.output.as_ref().map_or("", |output| &output.table.object);
            let what = format!("the staged rows of an earlier run for `{object}` are missing");
            let hint = "the next run reads the stream from the start";
            let error = Error::new(Kind::Target, what).with_hint(hint);
            let error = ending.give_up(env, &progress, error).await;
            (LoadResult { result: Err(error), progress, open: false }, Completeness::Failed)
        }
        Err(error) => {
            let (open, completeness) =
                (ending.plan.may_pass(&error), ending.completeness(Err(&error), true));
            (LoadResult { result: Err(error), progress, open }, completeness)
        }
    }
}

/// Assumed number of objects per value of a chunk, before the first response.
const OBJECTS_PER_ITEM: u64 = 11;

/// Assumed number of objects of a response, before the first one.
fn estimate(request: &RequestPlan) -> ObjectEstimate {
    let page = u64::from(request.pager.largest_page().unwrap_or(1));
    // A response about a chunk contains the objects and their records.
    match request.kind.covers() {
        Some(_) => ObjectEstimate::guessed(page * OBJECTS_PER_ITEM),
        None => ObjectEstimate::new(page),
    }
}

/// The progress of a stream that begins.
fn new_progress(env: &RunContext, plan: &StreamPlan, read_plan: ReadPlan) -> Progress {
    let requests = read_plan.requests(plan);
    Progress {
        run_id: env.run.id.clone(),
        reach: read_plan.saved(),
        finished: vec![RangeSet::default(); requests.len()],
        page_sizes: requests.iter().map(|one| one.pager.largest_page().unwrap_or(0)).collect(),
        ..Progress::default()
    }
}

/// Whether slices replace all rows of their parents, so that the parents are marked.
fn marks(plan: &StreamPlan, read_plan: ReadPlan) -> bool {
    let route = plan.routes.get(read_plan.route()).filter(|_| !read_plan.sends_changes(plan));
    if route.is_some_and(|route| !route.by_parents) {
        return false;
    }
    let everything = read_plan.is_full() && plan.cursor.as_ref().is_none_or(|c| c.anchor.is_none());
    let merges = plan.output.as_ref().is_some_and(|output| {
        output.table.disposition == Disposition::Merge && output.table.replaces.is_some()
    });
    let some = read_plan.follows_parents() || read_plan == ReadPlan::Retry;
    merges && (everything || some && plan.is_bound_to_parent())
}

/// Name of the marked column: that of the parents; or the key of the rows, if the run does not read unchanged
/// rows or confirms deletes.
fn replaced(plan: &StreamPlan, read_plan: ReadPlan) -> Option<String> {
    let table = &plan.output.as_ref()?.table;
    let confirms = plan.confirm.is_some() && read_plan.is_full();
    let merges = table.disposition == Disposition::Merge;
    if merges && (confirms || read_plan.fetches_by_id(plan)) {
        table.schema.key.first().cloned()
    } else {
        table.replaces.clone()
    }
}

/// The sources of slices, by request.
fn sources(loader: &Loader, requests: Vec<Option<AssignedRequest>>) -> Vec<SliceSource> {
    let Loader { progress, before, plan, read_plan, .. } = loader;
    let gated = read_plan.follows_parents();
    let known = loader.parents.as_ref().map(|(_, read)| read.known()).unwrap_or_default();
    let source = |(number, assigned): (usize, Option<AssignedRequest>)| {
        let assigned = assigned?;
        // From any route, since the routes consume the same queue.
        let same = |one: &&RefusedSlice| plan.own_number(one.request) == plan.own_number(number);
        let refused = before.refused_slices.iter().filter(same).filter(|one| !one.recurs);
        let past = SliceHistory {
            begun: progress.open.iter().filter(|open| open.request == number).cloned().collect(),
            finished: progress.finished.get(number).cloned().unwrap_or_default(),
            failed: refused.filter(|_| gated || *read_plan == ReadPlan::Retry).cloned().collect(),
            known: (gated || plan.bounds_children()).then(|| known.clone()),
        };
        if let Some(fused) = &assigned.links.fused {
            let mut done = past.finished.clone();
            past.begun.iter().for_each(|open| done.insert(open.from, open.to));
            fused.join(&done, &loader.stats);
        }
        if let Some(shared_listing) = &assigned.links.shared_listing {
            shared_listing.join(&loader.stats);
        }
        Some(SliceSource::new(assigned, past, loader.marks))
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

enum OpenedTable {
    Ready,
    /// An earlier process made the rows visible, and was killed before it saved that.
    Published,
    /// The rows that an earlier process staged are missing.
    Lost,
}

async fn open(
    env: &RunContext,
    loader: &mut Loader,
    resumed: Option<&Progress>,
) -> Result<OpenedTable> {
    let Some(output) = &loader.plan.output else { return Ok(OpenedTable::Ready) };
    let staged = resumed.map(|progress| progress.staged);
    let table = Table { replaces: loader.replaces.clone(), ..output.table.clone() };
    report_activity(env, &loader.plan.name, format!("preparing `{}`", table.object));
    loader.writer = env.target.open(&table, staged).await?;
    if loader.writer.is_some() {
        return Ok(OpenedTable::Ready);
    }
    if resumed.is_some_and(|progress| progress.publishing) {
        return Ok(OpenedTable::Published);
    }
    Ok(OpenedTable::Lost)
}

/// Reports an activity of a stream other than a request.
fn report_activity(env: &RunContext, stream: &str, what: String) {
    env.client.reporter.report(&Event::Doing { stream: Some(stream.to_owned()), what });
}

/// How the slices ended.
struct SlicesResult {
    result: Result<()>,
    completeness: Completeness,
    /// The first slice that was refused.
    refusal: Option<String>,
    /// Whether the API refuses the route.
    route_refused: bool,
}

/// Whether a refusal applies to the whole route rather than to single slices.
fn is_refused(shared: &StreamContext) -> bool {
    let refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
    !refused.is_empty() && (shared.reads_changes() || !shared.is_by_parents())
}

fn settler(assigned: Option<&AssignedRequest>) -> Option<queue::Settler> {
    assigned?.consumer.as_ref().map(Consumer::settler)
}

/// Publishes the rows of a stream that was read without an error.
async fn publish(
    env: &RunContext,
    ending: &outcome::StreamOutcome<'_>,
    mut loader: Loader,
    completeness: Completeness,
) -> LoadResult {
    let follows = matches!(loader.parents, Some((VersionKind::Parents, _)));
    if follows && !ending.is_by_parents() && loader.stats.counts().skipped > 0 {
        // Rows of any parent may be missing, so no versions are saved.
        loader.parents = None;
    }
    let info = commit_info(ending, &loader, completeness);
    let progress = loader.progress.clone();
    let after = |progress: &Progress, committed: Option<&Committed>| {
        ending.after(progress, committed, env.now(), completeness)
    };
    if let Some(output) = &ending.plan.output {
        let (rows, object) = (loader.stats.counts().rows, &output.table.object);
        report_activity(env, &ending.plan.name, format!("publishing {rows} rows in `{object}`"));
    }
    match loader.commit(&info, after).await {
        Ok((committed, progress)) => LoadResult { result: Ok(committed), progress, open: false },
        Err(error) if error.kind() == Kind::Shape => {
            // The target rejects these rows, so a resumed run would fail again.
            let error = ending.give_up(env, &progress, error).await;
            LoadResult { open: false, result: Err(error), progress }
        }
        Err(error) => LoadResult { open: true, result: Err(error), progress },
    }
}

fn commit_info(
    ending: &outcome::StreamOutcome<'_>,
    loader: &Loader,
    completeness: Completeness,
) -> CommitInfo {
    ending.commit_info(&loader.progress, loader.marks, &loader.stats.counts(), completeness)
}

/// Commits the rows. After an error, saves the progress if the stream can be resumed, and discards it otherwise.
async fn settle(
    env: &RunContext,
    ending: &outcome::StreamOutcome<'_>,
    handle: LoaderHandle,
    SlicesResult { result: sliced, completeness, refusal, route_refused }: SlicesResult,
) -> LoadResult {
    let (mut loader, loaded) = match handle.finish().await {
        Ok(finished) => finished,
        Err(error) => {
            let progress = Progress::default();
            return LoadResult { result: Err(error), progress, open: true };
        }
    };
    if route_refused {
        loader.route_refused();
    }
    // If the stream is resumed, later responses may still show that such requests are right.
    let loaded = if sliced.is_ok() && loaded.is_ok() {
        loader.settle_doubts(env.client.reporter.as_ref())
    } else {
        loaded
    };
    let healthy = loaded.is_ok();
    // The error of the writer is the cause of the workers' errors, so it is first.
    let result = loaded.and(sliced).and_then(|()| ending.check(&loader, refusal));
    let result = match result {
        Ok(()) if env.client.cancel.is_cancelled() => Err(interrupted()),
        Ok(()) => {
            loader.progress.notices = loader.stats.notices();
            let info = commit_info(ending, &loader, completeness);
            confirm_deletes::ask(env, &mut loader, &info).await
        }
        other => other,
    };
    match result {
        Ok(()) => Box::pin(publish(env, ending, loader, completeness)).await,
        Err(error) if ending.plan.may_pass(&error) => {
            if healthy && let Err(error) = loader.checkpoint().await {
                tracing::warn!(stream = ending.plan.name, error = error.chain(), "not saved");
            }
            LoadResult { result: Err(error), progress: loader.progress, open: true }
        }
        Err(error) => {
            let progress = Progress {
                counts: loader.stats.counts(),
                notices: loader.stats.notices(),
                columns: loader.stats.columns(),
                ..loader.progress.clone()
            };
            let after = ending.failed(&progress, &error, env.now());
            if let Err(error) = loader.discard(after).await {
                tracing::warn!(stream = ending.plan.name, error = error.chain(), "not discarded");
            }
            LoadResult { result: Err(error), progress, open: false }
        }
    }
}

/// Runs the workers of every request until there are no more slices, or one fails. Also returns the completeness
/// of the queues that the stream consumes.
async fn run_slices(
    shared: &Arc<StreamContext>,
    sources: Vec<SliceSource>,
) -> (Result<()>, Completeness) {
    let mut workers = JoinSet::new();
    for source in sources {
        let request = &shared.requests()[source.links.number];
        let single = matches!(request.iterate, Iterate::Once);
        let source = Arc::new(source);
        for _ in 0..if single { 1 } else { shared.plan.concurrency } {
            workers.spawn(work(Arc::clone(shared), Arc::clone(&source)));
        }
    }
    let mut failure: Option<Error> = None;
    let mut completeness = Completeness::Complete;
    while let Some(ended) = workers.join_next().await {
        let ended = ended.unwrap_or_else(|error| {
            Err(Error::new(Kind::Shape, "a worker panicked").because(error))
        });
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
