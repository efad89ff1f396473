//! Runs a plan: slices, queues, fetch, decode, write. All streams run at once; parents feed children
//! while they still list, and one throttle paces every request.

mod client;
mod keys;
mod load;
mod queue;
mod rows;
mod slice;
mod stats;
mod stream;

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::fetch::{Request, Transport};
use crate::plan::{Iterate, Plan, Run, StepPlan, StreamPlan};
use crate::report::{Reporter, SliceError, StreamReport};
use crate::respond::Rules;
use crate::template::{Scope, Value, from_json};
use crate::throttle::Throttle;
use crate::write::Target;

use client::{Answer, Call, Client};
use queue::Queue;
use stats::Stats;
use stream::{Ended, Job};

/// What a run needs from outside.
#[derive(Clone)]
pub struct Services {
    /// Way to the API.
    pub transport: Arc<dyn Transport>,
    /// Way to the target.
    pub target: Arc<dyn Target>,
    /// Who is told what happens.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop.
    pub cancel: CancellationToken,
}

/// What all streams of a run share.
struct Env {
    client: Client,
    target: Arc<dyn Target>,
    run: Run,
    /// Names of the queues.
    queues: Vec<String>,
    variables: BTreeMap<String, Value>,
}

impl Env {
    /// The values that a stream's templates see in every slice.
    fn scope(&self, plan: &StreamPlan) -> Scope {
        let mut variables = self.variables.clone();
        variables.extend(plan.variables.clone());
        Scope::new(variables)
    }
}

/// How the streams of a plan ended, in the plan's order, and the slices that were refused.
pub type Ran = (Vec<StreamReport>, Vec<SliceError>);

/// Runs a plan to its end.
///
/// # Errors
/// A setup request failed; no stream has run then. A stream's failure is part of its report.
pub async fn run(plan: Plan, services: Services) -> Result<Ran> {
    let Plan { run, access, setup, teardown, variables, rules, queues, streams, .. } = plan;
    let throttle = Throttle::new(plan.requests_per_second, plan.concurrency);
    let Services { transport, target, reporter, cancel } = services;
    let client = Client { transport, throttle, access, reporter, cancel };
    let mut env = Env { client, target, run, queues, variables };
    env.variables = prepare(&env, &setup, &rules).await?;
    let env = Arc::new(env);
    let ran = run_streams(&env, streams).await;
    for step in &teardown {
        if let Err(error) = perform(&env, step, &rules, &env.variables).await {
            let message = format!("a request after the streams failed: {}", error.chain());
            let warning = crate::report::Event::Warning { stream: None, message };
            env.client.reporter.report(&warning);
        }
    }
    Ok(ran)
}

async fn run_streams(env: &Arc<Env>, streams: Vec<Arc<StreamPlan>>) -> Ran {
    let names: Vec<String> = streams.iter().map(|stream| stream.name.clone()).collect();
    let mut tasks = JoinSet::new();
    for job in jobs(env, streams) {
        tasks.spawn(stream::run(Arc::clone(env), job));
    }
    let mut ended: Vec<Ended> = Vec::new();
    while let Some(result) = tasks.join_next().await {
        match result {
            Ok(stream) => ended.push(stream),
            Err(error) => tracing::error!(%error, "a stream broke"),
        }
    }
    ended.sort_by_key(|stream| names.iter().position(|name| *name == stream.report.stream));
    let errors = ended.iter_mut().flat_map(|stream| std::mem::take(&mut stream.errors)).collect();
    (ended.into_iter().map(|stream| stream.report).collect(), errors)
}

/// Gives every stream its places in the queues, before any of them runs.
fn jobs(env: &Env, streams: Vec<Arc<StreamPlan>>) -> Vec<Job> {
    let queues: Vec<Arc<Queue>> = env.queues.iter().map(|_| Queue::new()).collect();
    let mut jobs = Vec::new();
    for plan in streams {
        let feeds = |number: usize| {
            let mut feeds = plan.requests.iter().flat_map(|request| &request.feeds);
            feeds.any(|(_, queue)| *queue == number)
        };
        let feeders = queues.iter().enumerate();
        let feeders =
            feeders.map(|(number, queue)| feeds(number).then(|| queue.feeder())).collect();
        let consumers = plan.requests.iter().map(|request| match &request.iterate {
            Iterate::Queue { queue, .. } => queues.get(*queue).map(Queue::consumer),
            _ => None,
        });
        jobs.push(Job { consumers: consumers.collect(), feeders, plan: Arc::clone(&plan) });
    }
    jobs
}

/// Sends the requests before the streams; returns all variables, those they captured included.
async fn prepare(env: &Env, setup: &[StepPlan], rules: &Rules) -> Result<BTreeMap<String, Value>> {
    let mut variables = env.variables.clone();
    for step in setup {
        let captured = perform(env, step, rules, &variables)
            .await
            .map_err(|error| error.within("a request before the streams failed"))?;
        variables.extend(captured);
    }
    Ok(variables)
}

async fn perform(
    env: &Env,
    step: &StepPlan,
    rules: &Rules,
    variables: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>> {
    let scope = Arc::new(Scope::new(variables.clone()));
    let build = || {
        let path = step.path.render_path(&scope).map_err(|error| slice::unfilled(&error))?;
        let url = slice::url_of(&env.client.access.base_url, &path, &step.query, &scope)?;
        let mut request = Request::get(url);
        request.method = step.method.clone();
        slice::add_body(&mut request, step.body.as_ref(), &scope)?;
        slice::add_headers(&mut request, &step.headers, &scope)?;
        Ok(request)
    };
    let stats = Stats::default();
    let call = Call {
        stream: "setup",
        stats: &stats,
        rules,
        child: false,
        build: &build,
        shrink: &|| false,
    };
    let answer = env.client.ask(&call, |response| {
        Ok(serde_json::from_slice(&response.body).unwrap_or(serde_json::Value::Null))
    });
    let body: serde_json::Value = match answer.await? {
        Answer::Read(body) => body,
        Answer::Given { message, .. } => return Err(Error::new(Kind::Rejected, message)),
    };
    let mut captured = BTreeMap::new();
    for (name, path) in &step.capture {
        let value = path.find(&body).ok_or_else(|| {
            Error::new(Kind::Shape, format!("the answer has nothing at `{path}` for `{name}`"))
        })?;
        captured.insert(name.clone(), from_json(value));
    }
    Ok(captured)
}
