//! What a run would do, and cost, if it began now: read from what is remembered, writing nothing.

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
use crate::sync::beginning::Beginning;
use crate::sync::duration::{Hour, Pace};
use crate::sync::resume::GoOn;
use crate::sync::{owner, resume};

/// What a run would ask for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Replication.
    pub replication: String,
    /// When the run would begin.
    pub at: DateTime<Utc>,
    /// The run that has not ended and would be continued; the figures then are those of all of it.
    pub continues: Option<Continued>,
    /// The streams that would be read, parents before children.
    pub streams: Vec<ExpectedStream>,
    /// All streams together.
    pub total: Planned,
    /// What complete readings of all streams by their own requests would ask for.
    pub naive: Baseline,
    /// The present hour of the quota, where one holds and anything is known of it.
    pub hour: Option<Hour>,
    /// How fast what is left of it goes.
    pub pace: Pace,
    /// What the reader should know besides.
    pub notes: Vec<String>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Continued {
    /// Its id.
    pub run_id: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Requests that it has sent, retries included, as far as they are saved.
    pub requests: u64,
    /// Points that it has spent, likewise.
    pub points: u64,
}

/// What is expected of one stream, and its share of what an hour allows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExpectedStream {
    /// What is expected.
    #[serde(flatten)]
    pub expected: StreamEstimate,
    /// Points by those of the quota in an hour, where one holds; else requests by those that the rate
    /// allows in an hour, where there is one. 1 is a whole hour.
    pub hours: Option<f64>,
}

/// Says what a run would do now. `prepare` makes its plan. Takes no lock and changes nothing.
///
/// # Errors
/// The target or the state cannot be reached, or a run would be refused: one that has not ended had
/// other streams than those selected now.
pub async fn forecast(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    services: &Services,
    beginning: Beginning,
) -> Result<Forecast> {
    let mut plan = prepare(beginning.run())?;
    let target = services.target.as_ref();
    target.check().await?;
    let store = match &services.state {
        Some(store) => Arc::clone(store),
        None => target.store(&plan.name)?,
    };
    let mut saved = SavedState::read(store.load().await?)?;
    let standings = owner::standings(&plan, target).await?;
    let lacking = resume::lacking(&plan, &saved, (target, &standings)).await;
    let mut notes = Vec::new();
    for (stream, message) in &lacking {
        saved.invalidate(stream);
        notes.push(format!("{stream}: {message}"));
    }
    if let Err(refusal) = owner::check(&plan, &standings, &saved) {
        notes.push(format!("a run would be refused: {}", refusal.chain()));
    }
    let (mut read_plans, mut continues) = (None, None);
    match resume::go_on(prepare, (&saved, &lacking), target, beginning.now).await? {
        Some(GoOn::With(going)) => {
            let anew = going.anew.iter();
            notes.extend(anew.map(|(name, why)| format!("{name}: {why}")));
            saved = going.saved;
            continues = saved.run.as_ref().map(|open| continued(open, &saved));
            (plan, read_plans) = (going.plan, Some(going.read_plans));
        }
        Some(GoOn::Not(message)) => notes.push(message),
        None => {}
    }
    if continues.is_none() {
        (saved.run, saved.counted) = (None, Vec::new());
        saved.streams.values_mut().for_each(|state| state.open = None);
    }
    if continues.is_none() {
        let census = row_counts::census(&plan, &saved, services, beginning.now).await;
        saved.counted = census.counted;
        if let Some(failure) = census.failure {
            let why = failure.chain();
            notes.push(format!("how much there is was not told, and is assumed: {why}"));
        }
    }
    let read_plans = read_plans.unwrap_or_else(|| run::read_plans(&plan, &saved, beginning.now));
    let expected = estimate::forecast(&plan, &saved, &read_plans, beginning.now);
    let hour = match (&plan.quota, &services.ledger) {
        (Some(quota), Some(ledger)) => {
            let known = hour(quota, ledger.as_ref(), beginning.now).await;
            known.unwrap_or_else(|error| {
                let why = error.chain();
                notes.push(format!("what is spent of this hour is not known: {why}"));
                None
            })
        }
        _ => None,
    };
    let mut forecast = Forecast::new(&plan, (expected, continues), hour, beginning.now);
    forecast.notes.splice(0..0, notes);
    Ok(forecast)
}

/// What the ledger knows of the present hour.
async fn hour(quota: &QuotaPlan, ledger: &dyn Ledger, now: DateTime<Utc>) -> Result<Option<Hour>> {
    let terms = quota.terms();
    let balance = ledger.peek(&quota.connection, LedgerQuery { window: terms.window, now }).await?;
    Ok(balance.map(|balance| Hour::new(&balance, &terms)))
}

impl Forecast {
    /// Puts together what is expected of the streams.
    pub fn new(
        plan: &Plan,
        (expected, continues): (Vec<StreamEstimate>, Option<Continued>),
        hour: Option<Hour>,
        now: DateTime<Utc>,
    ) -> Self {
        let total = planned(&expected).unwrap_or_default();
        let sum = |of: fn(&Baseline) -> u64| expected.iter().map(|one| of(&one.naive)).sum();
        let naive = Baseline { requests: sum(|one| one.requests), points: sum(|one| one.points) };
        let done = continues.as_ref().map_or((0, 0), |run| (run.requests, run.points));
        let left = (total.requests.saturating_sub(done.0), total.points.saturating_sub(done.1));
        let beyond = continues.is_some() && left.0 == 0;
        let untold = "the run has sent as many requests as were expected of it: how much is left cannot be told";
        let notes = beyond.then(|| untold.to_owned()).into_iter().collect();
        let allowed = plan.quota.as_ref().map(|quota| {
            let hourly = quota.budget.of(hour.map_or(quota.per_hour, |hour| hour.limit));
            (hourly, hour.map_or(hourly, |hour| hour.left))
        });
        let rate = (plan.requests_per_second, plan.concurrency);
        let begins = hour.map_or(now, |hour| hour.begins(now));
        let pace = Pace::new(left, rate, allowed, begins);
        let streams = expected.into_iter().map(|expected| {
            let hours = pace.share(&expected);
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
            pace,
            notes,
        }
    }
}

/// What is expected of all streams together; `None` where nothing is foretold.
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

/// Between what all streams together will be. That all of them come to the most that can be expected is not to
/// be expected: what is above the likely is added as independent quantities are, but at least half of it.
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

/// What a run that has not ended has done.
fn continued(open: &OpenRun, saved: &SavedState) -> Continued {
    let spent = open.streams.keys().map(|name| {
        let state = saved.stream(name);
        let going = state.open.as_ref().filter(|progress| progress.run_id == open.id);
        let going = going.map(|progress| (progress.counts.requests, progress.counts.points));
        let ended = state.ended_in(&open.id).map(|last| (last.report.requests, last.report.points));
        going.or(ended).unwrap_or_default()
    });
    let (requests, points) = spent.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Continued { run_id: open.id.clone(), started_at: open.started_at, requests, points }
}
