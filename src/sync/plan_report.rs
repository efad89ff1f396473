//! The plan of the next run with its estimated cost, computed from the saved state without changing it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::Result;
use crate::plan::{Plan, Run};
use crate::planner::estimate;
use crate::planner::estimate::{Baseline, StreamEstimate};
use crate::progress::saved::{OpenRun, SavedState};
use crate::quota::account::LedgerQuery;
use crate::quota::cost::QuotaPlan;
use crate::quota::ledger::Ledger;
use crate::report::Planned;
use crate::run;
use crate::run::row_counts;
use crate::run::services::Services;
use crate::sync::duration::{DurationEstimate, Hour, HourlyPoints, SpeedLimits};
use crate::sync::resume::Resume;
use crate::sync::run_options::RunOptions;
use crate::sync::{owner, resume};

/// The plan of the next run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    /// Replication.
    pub replication: String,
    /// Assumed start time of the run.
    pub at: DateTime<Utc>,
    /// The unfinished run that would be resumed. The figures are then for the whole run.
    pub continues: Option<Continued>,
    /// The streams to read, parents before children.
    pub streams: Vec<ExpectedStream>,
    /// Totals of all streams.
    pub total: Planned,
    /// The cost of full reads of all streams by their default routes.
    pub naive: Baseline,
    /// The current hour of the points quota; `None` without a quota, or if the ledger has no entry.
    pub hour: Option<Hour>,
    /// The estimated duration of the remaining work.
    #[serde(rename = "pace")]
    pub duration: DurationEstimate,
    /// Notes, as shown to users.
    pub notes: Vec<String>,
}

/// An unfinished run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Continued {
    /// Its ID.
    pub run_id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Requests that it has sent, retries included, according to the saved state.
    pub requests: u64,
    /// Points that it has spent, according to the saved state.
    pub points: u64,
}

/// The estimate of one stream, and its share of an hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedStream {
    /// The estimate.
    #[serde(flatten)]
    pub expected: StreamEstimate,
    /// Its points as a share of the hourly points quota. Without a quota, its requests as a share of those
    /// that the rate limit allows per hour. 1 is a whole hour; `None` without either limit.
    pub hours: Option<f64>,
}

/// Estimates the next run. `prepare` makes its plan. Takes no lock and changes nothing.
///
/// # Errors
/// The target or the state cannot be reached, or an unfinished run has other streams than those selected
/// now.
pub async fn estimate_run(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    services: &Services,
    options: RunOptions,
) -> Result<PlanReport> {
    let mut plan = prepare(options.run())?;
    let target = services.target.as_ref();
    target.check().await?;
    let store = match &services.state {
        Some(store) => Arc::clone(store),
        None => target.store(&plan.name)?,
    };
    let mut saved = SavedState::read(store.load().await?)?;
    let existing_tables = owner::existing_tables(&plan, target).await?;
    let missing = resume::missing_data(&plan, &saved, target, &existing_tables).await;
    let mut notes = Vec::new();
    for (stream, message) in &missing {
        saved.invalidate(stream);
        notes.push(format!("{stream}: {message}"));
    }
    if let Err(refusal) = owner::check(&plan, &existing_tables, &saved) {
        notes.push(format!("a run would be refused: {}", refusal.chain()));
    }
    let (mut read_plans, mut continues) = (None, None);
    match resume::resume(prepare, &saved, &missing, target, options.now).await? {
        Some(Resume::Yes(resumed)) => {
            let restarts = resumed.restarts.iter();
            notes.extend(restarts.map(|(name, why)| format!("{name}: {why}")));
            saved = resumed.saved;
            continues = saved.run.as_ref().map(|open| continued(open, &saved));
            (plan, read_plans) = (resumed.plan, Some(resumed.read_plans));
        }
        Some(Resume::No(message)) => notes.push(message),
        None => {}
    }
    if continues.is_none() {
        (saved.run, saved.counted) = (None, Vec::new());
        saved.streams.values_mut().for_each(|state| state.open = None);
    }
    if continues.is_none() {
        let counts = row_counts::request_counts(&plan, &saved, services, options.now).await;
        saved.counted = counts.counted;
        if let Some(failure) = counts.failure {
            let why = failure.chain();
            notes.push(format!(
                "the number of records could not be requested and is assumed: {why}"
            ));
        }
    }
    let read_plans = read_plans.unwrap_or_else(|| run::read_plans(&plan, &saved, options.now));
    let expected = estimate::estimate_streams(&plan, &saved, &read_plans, options.now);
    let hour = match (&plan.quota, &services.ledger) {
        (Some(quota), Some(ledger)) => {
            let known = hour(quota, ledger.as_ref(), options.now).await;
            known.unwrap_or_else(|error| {
                let why = error.chain();
                notes.push(format!("the points spent in this hour are unknown: {why}"));
                None
            })
        }
        _ => None,
    };
    let mut report = PlanReport::new(&plan, expected, continues, hour, options.now);
    report.notes.splice(0..0, notes);
    Ok(report)
}

/// Reads the current hour from the ledger.
async fn hour(quota: &QuotaPlan, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<Option<Hour>> {
    let terms = quota.terms();
    let balance = ledger.peek(&quota.connection, LedgerQuery { window: terms.window, now }).await?;
    Ok(balance.map(|balance| Hour::new(&balance, &terms)))
}

impl PlanReport {
    /// Combines the estimates of the streams.
    pub fn new(
        plan: &Plan,
        expected: Vec<StreamEstimate>,
        continues: Option<Continued>,
        hour: Option<Hour>,
        now: DateTime<Utc>,
    ) -> Self {
        let total = planned(&expected).unwrap_or_default();
        let sum = |of: fn(&Baseline) -> u64| expected.iter().map(|one| of(&one.naive)).sum();
        let naive = Baseline { requests: sum(|one| one.requests), points: sum(|one| one.points) };
        let (sent, spent) = continues.as_ref().map_or((0, 0), |run| (run.requests, run.points));
        let requests = total.requests.saturating_sub(sent);
        let points = total.points.saturating_sub(spent);
        let beyond = continues.is_some() && requests == 0;
        let unknown = "the run has already sent the estimated number of requests; the remaining work is unknown";
        let notes = beyond.then(|| unknown.to_owned()).into_iter().collect();
        let allowed = plan.quota.as_ref().map(|quota| {
            let hourly = quota.budget.of(hour.map_or(quota.per_hour, |hour| hour.limit));
            HourlyPoints { allowed: hourly, left: hour.map_or(hourly, |hour| hour.left) }
        });
        let limits = SpeedLimits {
            requests_per_second: plan.requests_per_second,
            concurrency: plan.concurrency,
            points: allowed,
        };
        let begins = hour.map_or(now, |hour| hour.begins(now));
        let duration = DurationEstimate::new(requests, points, limits, begins);
        let streams = expected.into_iter().map(|expected| {
            let hours = duration.share(&expected);
            ExpectedStream { expected, hours }
        });
        Self {
            replication: plan.name.clone(),
            at: now,
            continues,
            streams: streams.collect(),
            total,
            naive,
            hour,
            duration,
            notes,
        }
    }
}

/// The totals of all streams; `None` without estimates.
pub(crate) fn planned(expected: &[StreamEstimate]) -> Option<Planned> {
    let planned = Planned {
        requests: expected.iter().map(|one| one.requests).sum(),
        points: expected.iter().map(|one| one.points).sum(),
        assumed: expected.iter().any(|one| one.assumed),
        requests_range: range(expected, |one| (one.requests, one.requests_range)),
        points_range: range(expected, |one| (one.points, one.points_range)),
    };
    (!expected.is_empty()).then_some(planned)
}

/// The likely range of the totals. It is unlikely that all streams reach their upper bounds. The differences
/// between estimates and upper bounds are therefore added as independent quantities (root of the sum of
/// squares), but at least half of their sum.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "counts far below 2^52"
)]
fn range(expected: &[StreamEstimate], of: fn(&StreamEstimate) -> (u64, [u64; 2])) -> [u64; 2] {
    let (mut least, mut likely, mut above, mut squares) = (0, 0, 0.0, 0.0_f64);
    for (figure, [low, high]) in expected.iter().map(of) {
        let more = high.saturating_sub(figure) as f64;
        (least, likely) = (least + low, likely + figure);
        (above, squares) = (above + more, squares + more * more);
    }
    [least, likely + f64::max(squares.sqrt(), above / 2.0).ceil() as u64]
}

/// The requests and points of an unfinished run.
fn continued(open: &OpenRun, saved: &SavedState) -> Continued {
    let spent = open.streams.keys().map(|name| {
        let state = saved.stream(name);
        let resumed = state.open.as_ref().filter(|progress| progress.run_id == open.id);
        let resumed = resumed.map(|progress| (progress.counts.requests, progress.counts.points));
        let ended = state.ended_in(&open.id).map(|last| (last.report.requests, last.report.points));
        resumed.or(ended).unwrap_or_default()
    });
    let (requests, points) = spent.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Continued { run_id: open.id.clone(), started_at: open.started_at, requests, points }
}
