//! Asks an API how many records there are, where no run has shown it.
//!
//! Nothing depends on the answers but what a first run is expected to cost, and its routes: each question
//! is asked once, and one that fails is passed over.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};
use crate::extract::run_context::RunContext;
use crate::http::answer::Answer;
use crate::http::call::{Call, Need};
use crate::http::client::{Client, Jitter};
use crate::http::exchange::{Request, Url};
use crate::http::lockout::Lockout;
use crate::http::request;
use crate::http::session::Session;
use crate::plan::{CountPlan, Plan, StreamPlan};
use crate::planner::decide;
use crate::progress::saved::{RecordCount, SavedState};
use crate::quota::budget::PointsBudget;
use crate::quota::cost::QuotaPlan;
use crate::quota::ledger::MemoryLedger;
use crate::quota::pacing::Pacer;
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::quota::terms::OnBudget;
use crate::report::counters::Stats;
use crate::run::services::Services;

/// Time for all the questions together.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an API says of how many records there are.
#[derive(Debug, Default)]
pub struct RowCounts {
    /// What was asked and answered.
    pub counted: Vec<RecordCount>,
    /// Why something was not answered, the first time.
    pub failure: Option<Error>,
    /// Points that it has cost.
    pub points: u64,
}

/// Asks how many records the streams have that are to be read and of which nothing is learnt.
pub async fn census(
    plan: &Plan,
    saved: &SavedState,
    services: &Services,
    now: DateTime<Utc>,
) -> RowCounts {
    let questions = questions(plan, saved, now);
    if questions.is_empty() {
        return RowCounts::default();
    }
    let cancel = services.cancel.child_token();
    let client = client(plan, services, cancel.clone(), now);
    let asking = ask(plan, &client, questions);
    tokio::pin!(asking);
    let mut census = tokio::select! {
        census = &mut asking => census,
        () = tokio::time::sleep(PATIENCE) => {
            // Ended rather than dropped: a token may be on its way that must be kept.
            cancel.cancel();
            asking.await
        }
    };
    census.points = client.close().await.map_or(0, |points| points.spent);
    census
}

/// The streams that are asked, each with how.
fn questions<'plan>(
    plan: &'plan Plan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> Vec<(&'plan StreamPlan, &'plan CountPlan)> {
    let unknown = |stream: &StreamPlan| {
        let state = saved.streams.get(&stream.name);
        stream.limit.is_none() && state.is_none_or(|state| state.full_read.route.is_empty())
    };
    let streams = plan.streams.iter().filter(|stream| stream.count.is_some() && unknown(stream));
    let mut asked: Vec<(&StreamPlan, &CountPlan)> =
        streams.filter_map(|stream| Some((stream.as_ref(), stream.count.as_ref()?))).collect();
    if !asked.is_empty() {
        let read_plans = decide::decide(plan, saved, now);
        asked.retain(|(stream, _)| {
            read_plans.get(&stream.name).is_some_and(|read_plan| !read_plan.is_skip())
        });
    }
    asked
}

/// A client that neither waits for points nor tells anybody.
fn client(
    plan: &Plan,
    services: &Services,
    cancel: CancellationToken,
    now: DateTime<Utc>,
) -> Client {
    let ledger = services.ledger.clone().unwrap_or_else(|| Arc::new(MemoryLedger::default()));
    let reporter = Arc::clone(&services.reporter);
    let budget = plan.quota.clone().map(|quota| {
        let quota = QuotaPlan { on_budget: OnBudget::Pause, ..quota };
        PointsBudget::new(quota, ledger, Arc::clone(&reporter), now, 0)
    });
    Client {
        transport: Arc::clone(&services.transport),
        pacer: Pacer::new(plan.requests_per_second, plan.concurrency),
        access: Arc::clone(&plan.access),
        reporter,
        cancel,
        jitter: Jitter::of(&plan.run.id),
        budget,
        answered: AtomicU64::new(0),
        lockout: Lockout::default(),
        session: Session::default(),
    }
}

/// Asks one question after the other. A stream that asks for what was asked already has its answer.
async fn ask(plan: &Plan, client: &Client, questions: Vec<(&StreamPlan, &CountPlan)>) -> RowCounts {
    let mut census = RowCounts::default();
    let mut asked: Vec<Url> = Vec::new();
    for (stream, count) in questions {
        let url = match url_of(plan, client, stream, count) {
            Ok(url) if asked.contains(&url) => continue,
            Ok(url) => url,
            Err(error) => {
                census.failure.get_or_insert(error);
                continue;
            }
        };
        match number(client, stream, count, &url).await {
            Ok(Some(records)) => {
                census.counted.push(RecordCount { streams: count.of.clone(), records });
            }
            Ok(None) => {
                let what = format!("`{}` tells no number of records", url.path());
                census.failure.get_or_insert(Error::new(Kind::Shape, what));
            }
            Err(error) => {
                tracing::debug!(stream = stream.name, error = error.chain(), "not counted");
                let lost = !matches!(error.kind(), Kind::Rejected | Kind::Permission);
                census.failure.get_or_insert(error);
                if lost {
                    break;
                }
            }
        }
        asked.push(url);
    }
    // The turn of the next request, which is the run's.
    client.unless_cancelled(client.pacer.enter()).await.map(drop).ok();
    census
}

fn url_of(plan: &Plan, client: &Client, stream: &StreamPlan, count: &CountPlan) -> Result<Url> {
    let scope = Arc::new(RunContext::scope_of(&plan.variables, stream));
    let path = count.path.render_path(&scope).map_err(|error| request::unfilled(&error))?;
    request::url_of(&client.access.base_url, &path, &count.query, &scope)
}

/// What the API answers; `None` when that is no number.
async fn number(
    client: &Client,
    stream: &StreamPlan,
    count: &CountPlan,
    url: &Url,
) -> Result<Option<u64>> {
    let (stats, estimate) = (Stats::default(), ObjectEstimate::new(1));
    let call = Call {
        stream: &stream.name,
        stats: &stats,
        rules: &stream.rules,
        child: false,
        need: Need::Idle,
        leaves: false,
        shared: false,
        price: RequestCost { cost: stream.cost, estimate: &estimate, page: None },
        build: &|| Ok(Request::get(url.clone())),
        shrink: &|| false,
        narrow: &|| false,
    };
    let answer = client.ask(&call, |response| {
        let body: Option<serde_json::Value> = serde_json::from_slice(response.json()).ok();
        Ok((body.as_ref().and_then(|body| count.at.find(body)?.as_u64()), 1))
    });
    match answer.await? {
        Answer::Read(number) => Ok(number),
        Answer::Failed(failed) => Err(failed.error),
        Answer::Given { message, .. } => Err(Error::new(Kind::Rejected, message)),
    }
}
