//! Runs a plan: slices, queues, fetch, decode, write. All streams run at once; parents feed children
//! while they still list, and one throttle paces every request.

mod anew;
mod answer;
mod assemble;
mod client;
mod confirm;
mod count;
mod doubt;
mod ending;
mod estimate;
mod forecast;
mod fusion;
mod hand;
mod keys;
mod listing;
mod load;
mod lockout;
mod marks;
mod opening;
mod outlook;
mod page;
mod parents;
mod pricing;
mod probe;
mod progress;
mod purse;
mod queue;
mod reach;
mod refused;
mod rows;
mod session;
mod shared;
mod slice;
mod source;
mod spans;
mod split;
mod state;
mod stats;
mod stream;
mod walks;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::fetch::Transport;
use crate::ledger::{Ledger, Memory};
use crate::plan::{Iterate, Plan, Run, StreamPlan};
use crate::report::{Event, PointsReport, Reporter, SliceError, StreamReport};
use crate::state::{Lock, Store};
use crate::template::{Scope, Value};
use crate::throttle::Throttle;
use crate::write::Target;

use client::{Client, Jitter};
use doubt::AnsweredKinds;
use lockout::Lockout;
use parents::{About, KnownLooks, Read};
use purse::Purse;
use queue::{Queue, Queues};
use session::Session;
use source::Company;
use spans::Spans;
use stream::{Ended, Job};

pub use anew::anew;
pub use count::{Census, census};
pub use doubt::Doubt;
pub use forecast::{Expected, Naive, forecast};
pub use reach::{range, writes_all};
pub use session::{captured, step_request};
pub use state::{
    Changes, Counted, Counts, FailedSlice, LastRun, Learnt, OpenListing, OpenRun, OpenSlice,
    OpenStream, Progress, Reach, Recall, StreamState, Supply, Way,
};

/// What a run needs from outside.
#[derive(Clone)]
pub struct Services {
    /// Way to the API.
    pub transport: Arc<dyn Transport>,
    /// Way to the target.
    pub target: Arc<dyn Target>,
    /// Where the state is kept; `None`: with the target.
    pub state: Option<Arc<dyn Store>>,
    /// Where points are counted; `None`: in this process alone.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Who is told what happens.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop.
    pub cancel: CancellationToken,
}

/// Where a run saves what it has done.
#[derive(Clone)]
pub struct Durable {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The right to save.
    pub lock: Arc<dyn Lock>,
    /// Whether the store is the target's own, so that rows and state are saved in one step.
    pub at_home: bool,
}

impl Durable {
    fn check(&self) -> Result<()> {
        if self.lock.is_held() {
            return Ok(());
        }
        Err(Error::target("the lock on the replication's state was lost")
            .with_hint("run again: it continues from what was saved last"))
    }
}

/// What all streams of a run share.
struct Env {
    client: Client,
    target: Arc<dyn Target>,
    run: Run,
    queues: Arc<Queues>,
    queue_names: Vec<String>,
    durable: Option<Durable>,
    interval: (usize, Duration),
    variables: BTreeMap<String, Value>,
    /// Kinds of requests that were answered.
    answered: Arc<AnsweredKinds>,
    /// The time at an instant: simulated time passes as well.
    clock: (DateTime<Utc>, Instant),
}

impl Env {
    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.clock.1.elapsed()).unwrap_or(TimeDelta::zero());
        self.clock.0 + passed
    }

    /// The values that a stream's templates see in every slice.
    fn scope(&self, plan: &StreamPlan) -> Scope {
        self.client.session.seen_by(Self::scope_of(&self.variables, plan))
    }

    fn scope_of(shared: &BTreeMap<String, Value>, plan: &StreamPlan) -> Scope {
        let mut variables = shared.clone();
        variables.extend(plan.variables.clone());
        Scope::new(variables)
    }
}

/// What a run came to.
#[derive(Debug, Default)]
pub struct Ran {
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
    ending::empty(stream, crate::report::StreamStatus::Done)
}

/// What a run is to read of each stream, by what is remembered of it.
pub fn ways(plan: &Plan, recall: &Recall, now: DateTime<Utc>) -> BTreeMap<String, Way> {
    reach::decide(plan, recall, now)
}

/// From where a run starts.
#[derive(Clone, Copy, Debug)]
pub struct Start<'run> {
    /// What is remembered.
    pub recall: &'run Recall,
    /// What is read of each stream, and how.
    pub ways: &'run BTreeMap<String, Way>,
    /// The time.
    pub now: DateTime<Utc>,
    /// Points that were spent before it.
    pub spent: u64,
}

/// Runs a plan to its end. `recall` is what the store holds; streams that it says have ended in this
/// run are passed over. Without `durable` nothing is saved, and what dies is lost.
///
/// # Errors
/// A setup request failed; no stream has run then. A stream's failure is part of its report.
pub async fn run(
    plan: Plan,
    services: Services,
    start: Start<'_>,
    durable: Option<Durable>,
) -> Result<Ran> {
    let Start { recall, ways, .. } = start;
    let throttle = Throttle::new(plan.requests_per_second, plan.concurrency);
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
    let ledger = ledger.unwrap_or_else(|| Arc::new(Memory::default()));
    let clock = (start.now, start.spent);
    let purse = quota.map(|quota| Purse::new(quota, ledger, Arc::clone(&reporter), clock));
    let lockout = Lockout::default();
    let client = Client {
        transport,
        throttle,
        access,
        reporter,
        cancel,
        jitter,
        purse,
        answered,
        lockout,
        session,
    };
    let names: Vec<String> = queues.into_iter().map(|queue| queue.name).collect();
    let log = names.iter().map(|name| match durable {
        Some(_) => Queue::restored(name, &recall.rest),
        None => Queue::new(name, false),
    });
    let env = Env {
        client,
        target,
        queues: Arc::new(Queues::new(log.collect())),
        queue_names: names,
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
    let mut ran = run_streams(&env, streams, recall, ways).await;
    for error in env.client.log_out(&teardown).await {
        let message = format!("a request after the streams failed: {}", error.chain());
        env.client.reporter.report(&Event::Warning { stream: None, message });
    }
    ran.points = env.client.close().await;
    Ok(ran)
}

async fn run_streams(
    env: &Arc<Env>,
    streams: Vec<Arc<StreamPlan>>,
    recall: &Recall,
    ways: &BTreeMap<String, Way>,
) -> Ran {
    let mut streams = streams;
    // Whoever only feeds and is not needed has no part in the run.
    streams.retain(|stream| {
        let way = ways.get(&stream.name).copied().unwrap_or_default();
        stream.output.is_some() || way.reach != Reach::Nothing
    });
    let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let (jobs, earlier) = jobs(env, &streams, recall, ways);
    let mut tasks = JoinSet::new();
    for job in jobs {
        tasks.spawn(stream::run(Arc::clone(env), job));
    }
    let mut ended: Vec<Ended> = earlier;
    while let Some(result) = tasks.join_next().await {
        match result {
            Ok(stream) => ended.push(stream),
            Err(error) => tracing::error!(%error, "a stream broke"),
        }
    }
    // What it saved is still there.
    let broken = names.iter().filter(|name| !ended.iter().any(|one| one.report.stream == **name));
    let broken: Vec<Ended> = broken.map(|name| Ended::broken(name)).collect();
    ended.extend(broken);
    ended.sort_by_key(|stream| names.iter().position(|name| *name == stream.report.stream));
    let open = ended.iter().any(|stream| stream.open);
    let errors = ended.iter_mut().flat_map(|stream| std::mem::take(&mut stream.refused)).collect();
    Ran {
        streams: ended.into_iter().map(|stream| stream.report).collect(),
        errors,
        open,
        points: None,
    }
}

/// Gives every stream its places in the queues, before any of them runs; and what those that have
/// ended in this run came to.
fn jobs(
    env: &Env,
    streams: &[Arc<StreamPlan>],
    recall: &Recall,
    ways: &BTreeMap<String, Way>,
) -> (Vec<Job>, Vec<Ended>) {
    let queues = &env.queues.all;
    let way = |plan: &StreamPlan| ways.get(&plan.name).copied().unwrap_or_default();
    let going = streams.iter().filter(|plan| {
        let ended = recall.stream(&plan.name).ended_in(&env.run.id).is_some();
        !ended && way(plan).reach != Reach::Nothing
    });
    let going: Vec<_> = going.map(|plan| (Arc::clone(plan), way(plan))).collect();
    let mut seats = fusion::seats(&going);
    let mut walkers = walks::places(&going);
    // By the start of the run, so that all its processes ask for the same pages.
    let openings = opening::sizes(&going, recall, env.run.started_at);
    let (mut jobs, mut earlier) = (Vec::new(), Vec::new());
    for plan in streams {
        let before = recall.stream(&plan.name);
        let way = way(plan);
        let feeds = |number: usize| {
            let mut active = reach::active(plan, way).flat_map(|(_, request)| &request.feeds);
            active.any(|feed| feed.queue == number)
        };
        let fed = queues.iter().enumerate().map(|(number, queue)| feeds(number).then_some(queue));
        if let Some(last) = before.ended_in(&env.run.id) {
            fed.flatten().for_each(|queue| queue.ended(last.supply));
            let report = StreamReport { earlier: true, ..last.report.clone() };
            let refused = before.failed.iter().map(|failed| failed.error.clone()).collect();
            earlier.push(Ended { report, open: false, refused });
            continue;
        }
        let going_on = before.open.as_ref().filter(|open| open.run_id == env.run.id);
        let mut company: Vec<Option<Company>> = Vec::new();
        company.resize_with(reach::requests(plan, way.reach).len(), || None);
        for (number, request) in reach::active(plan, way) {
            let Some(place) = company.get_mut(number) else { continue };
            let mut done = Spans::default();
            if let Some(open) = going_on {
                done = open.finished.get(number).cloned().unwrap_or_default();
                let begun = open.open.iter().filter(|slice| slice.request == number);
                begun.for_each(|slice| done.insert(slice.from, slice.to));
            }
            let consumed = match request.iterate {
                Iterate::Queue { queue, .. } => queues.get(queue),
                _ => None,
            };
            let watched = request.parent_in.iter();
            let watched = watched.filter_map(|(at, _)| Some((*at, queues.get(*at)?.watch())));
            *place = Some(Company {
                consumer: consumed.map(|queue| queue.consumer(done)),
                seat: seats.remove(&(plan.name.clone(), number)),
                walker: walkers.remove(&(plan.name.clone(), number)),
                watches: watched.collect(),
                opening: openings.get(&(plan.name.clone(), number)).copied(),
            });
        }
        jobs.push(Job {
            after: feeders_of(streams, plan, way),
            company,
            feeders: fed.map(|queue| queue.map(Queue::feeder)).collect(),
            parents: reach::remembers(plan, way).map(|about| {
                let going_on = going_on.is_some();
                (about, Read::restored((about, &plan.name), &recall.rest, going_on))
            }),
            looks: known_looks(plan, way, recall),
            plan: Arc::clone(plan),
            way,
            before,
        });
    }
    (jobs, earlier)
}

/// The streams that feed the queues which a stream needs.
fn feeders_of(streams: &[Arc<StreamPlan>], plan: &StreamPlan, way: Way) -> Vec<String> {
    let needed = reach::active(plan, way).flat_map(|(_, request)| reach::queues(request));
    let needed: Vec<usize> = needed.collect();
    let feeds = |stream: &&Arc<StreamPlan>| {
        let mut feeds = stream.requests.iter().flat_map(|request| &request.feeds);
        stream.name != plan.name && feeds.any(|feed| needed.contains(&feed.queue))
    };
    streams.iter().filter(feeds).map(|stream| stream.name.clone()).collect()
}

/// How the records of a stream looked whose rows need not be asked for. Rows that were read or written
/// otherwise do not stay.
fn known_looks(plan: &StreamPlan, way: Way, recall: &Recall) -> Option<KnownLooks> {
    let holds = recall.streams.get(&plan.name).is_some_and(|before| before.holds_for(plan));
    let looks = reach::fetches(plan, way) && reach::remembers(plan, way) == Some(About::Looks);
    (holds && looks).then(|| KnownLooks::restored(&plan.name, &recall.rest))
}
