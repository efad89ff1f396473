//! Asks the API for the number of records of streams that no run has read in full.
//!
//! Only the estimate and the routes of a first run depend on the counts. Each request is sent once, and failures
//! are ignored.

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

/// Maximum time for all requests together.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Record counts of the API.
#[derive(Debug, Default)]
pub struct RowCounts {
    /// The counts that the API returned.
    pub counted: Vec<RecordCount>,
    /// The first failure.
    pub failure: Option<Error>,
    /// Points that the requests cost.
    pub points: u64,
}

/// Requests the record counts of the streams that the run reads and that no run has read in full.
pub async fn request_counts(
    plan: &Plan,
    saved: &SavedState,
    services: &Services,
    now: DateTime<Utc>,
) -> RowCounts {
    let requests = count_requests(plan, saved, now);
    if requests.is_empty() {
        return RowCounts::default();
    }
    let cancel = services.cancel.child_token();
    let client = client(plan, services, cancel.clone(), now);
    let asking = ask(plan, &client, requests);
    tokio::pin!(asking);
    let mut counts = tokio::select! {
        counts = &mut asking => counts,
        () = tokio::time::sleep(TIMEOUT) => {
            // Cancels the requests instead of dropping them: a refreshed token in flight must be saved.
            cancel.cancel();
            asking.await
        }
    };
    counts.points = client.close().await.map_or(0, |points| points.spent);
    counts
}

/// The streams to count, with their count requests.
fn count_requests<'plan>(
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

/// A client that does not wait for points.
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

/// Sends the requests one after the other, and each URL only once.
async fn ask(plan: &Plan, client: &Client, requests: Vec<(&StreamPlan, &CountPlan)>) -> RowCounts {
    let mut counts = RowCounts::default();
    let mut asked: Vec<Url> = Vec::new();
    for (stream, count) in requests {
        let url = match url_of(plan, client, stream, count) {
            Ok(url) if asked.contains(&url) => continue,
            Ok(url) => url,
            Err(error) => {
                counts.failure.get_or_insert(error);
                continue;
            }
        };
        match number(client, stream, count, &url).await {
            Ok(Some(records)) => {
                counts.counted.push(RecordCount { streams: count.of.clone(), records });
            }
            Ok(None) => {
                let what = format!("the response of `{}` has no number of records", url.path());
                counts.failure.get_or_insert(Error::new(Kind::Shape, what));
            }
            Err(error) => {
                tracing::debug!(stream = stream.name, error = error.chain(), "not counted");
                let lost = !matches!(error.kind(), Kind::Rejected | Kind::Permission);
                counts.failure.get_or_insert(error);
                if lost {
                    break;
                }
            }
        }
        asked.push(url);
    }
    // Waits for the pacer, so that the first request of the run keeps the rate limit, too.
    client.unless_cancelled(client.pacer.enter()).await.map(drop).ok();
    counts
}

fn url_of(plan: &Plan, client: &Client, stream: &StreamPlan, count: &CountPlan) -> Result<Url> {
    let scope = Arc::new(RunContext::scope_of(&plan.variables, stream));
    let path = count.path.render_path(&scope).map_err(|error| request::unfilled(&error))?;
    request::url_of(&client.access.base_url, &path, &count.query, &scope)
}

/// The number of records; `None` if the response has none.
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
