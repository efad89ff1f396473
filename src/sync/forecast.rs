//! What a run would do, and cost, if it began now: read from what is remembered, writing nothing.

use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;

use super::{
    Beginning,
    past::{self, GoOn},
};
use crate::engine::{self, Expected, Naive, OpenRun, Recall};
use crate::error::Result;
use crate::plan::{Plan, Run};
use crate::report::Planned;
use crate::state::Store;
use crate::write::Target;

/// Seconds that an answer is taken to need, where only the requests under way are limited.
const ANSWER: f64 = 0.2;

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
    pub naive: Naive,
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
    pub expected: Expected,
    /// Points by those of the quota in an hour, where one holds; else requests by those that the rate
    /// allows in an hour, where there is one. 1 is a whole hour.
    pub hours: Option<f64>,
}

/// How fast a run goes, if nobody else uses the connection and the API is not slower than usual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Requests a second that may be sent.
    pub requests_per_second: Option<f64>,
    /// Requests that may be under way at once.
    pub concurrency: u32,
    /// Points that may be spent in an hour; `None` where no quota holds.
    pub points_per_hour: Option<u64>,
    /// Seconds that the requests take, the quota aside.
    pub seconds: f64,
    /// Seconds within which answers must come for that.
    pub answer_seconds: f64,
    /// Hours of the quota whose points are needed, the last one perhaps in part.
    pub hours: u64,
    /// When the run would be over, the quota included.
    pub until: DateTime<Utc>,
}

/// Says what a run would do now. `prepare` makes its plan; `state` is where the state is kept, when not
/// with the target. Takes no lock and changes nothing.
///
/// # Errors
/// The target or the state cannot be reached, or a run would be refused: one that has not ended had
/// other streams than those selected now.
pub async fn forecast(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    (target, state): (&dyn Target, Option<Arc<dyn Store>>),
    beginning: Beginning,
) -> Result<Forecast> {
    let mut plan = prepare(beginning.run())?;
    target.check().await?;
    let store = match state {
        Some(store) => store,
        None => target.store(&plan.name)?,
    };
    let mut recall = Recall::read(store.load().await?)?;
    let lacking = past::lacking(&plan, &recall, target).await;
    let mut notes = Vec::new();
    for (stream, message) in &lacking {
        recall.distrust(stream);
        notes.push(format!("{stream}: {message}"));
    }
    let (mut ways, mut continues) = (None, None);
    if let Some(open) = recall.run.as_ref().filter(|open| !open.retry) {
        match past::go_on(prepare, open, &lacking)? {
            GoOn::With(again, then) => {
                continues = Some(continued(open, &recall));
                (plan, ways) = (*again, Some(then));
            }
            GoOn::Not(message) => notes.push(message),
        }
    }
    if continues.is_none() {
        recall.run = None;
        recall.streams.values_mut().for_each(|state| state.open = None);
    }
    let ways = ways.unwrap_or_else(|| engine::ways(&plan, &recall, beginning.now));
    let expected = engine::forecast(&plan, &recall, &ways, beginning.now);
    Ok(Forecast { notes, ..Forecast::new(&plan, expected, continues, beginning.now) })
}

impl Forecast {
    /// Puts together what is expected of the streams.
    pub fn new(
        plan: &Plan,
        expected: Vec<Expected>,
        continues: Option<Continued>,
        now: DateTime<Utc>,
    ) -> Self {
        let total = planned(&expected).unwrap_or_default();
        let sum = |of: fn(&Naive) -> u64| expected.iter().map(|one| of(&one.naive)).sum();
        let naive = Naive { requests: sum(|one| one.requests), points: sum(|one| one.points) };
        let done = continues.as_ref().map_or((0, 0), |run| (run.requests, run.points));
        let left = (total.requests.saturating_sub(done.0), total.points.saturating_sub(done.1));
        let per_hour = plan.quota.as_ref().map(|quota| quota.budget.of(quota.per_hour));
        let rate = (plan.requests_per_second, plan.concurrency);
        let pace = Pace::new(left, rate, per_hour, now);
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
            pace,
            notes: Vec::new(),
        }
    }
}

/// What is expected of all streams together; `None` where nothing is foretold.
pub(super) fn planned(expected: &[Expected]) -> Option<Planned> {
    let planned = Planned {
        requests: expected.iter().map(|one| one.requests).sum(),
        points: expected.iter().map(|one| one.points).sum(),
        assumed: expected.iter().any(|one| one.assumed),
    };
    (!expected.is_empty()).then_some(planned)
}

/// What a run that has not ended has done.
fn continued(open: &OpenRun, recall: &Recall) -> Continued {
    let spent = open.streams.keys().map(|name| {
        let state = recall.stream(name);
        let going = state.open.as_ref().filter(|progress| progress.run_id == open.id);
        let going = going.map(|progress| (progress.counts.requests, progress.counts.points));
        let ended = state.ended_in(&open.id).map(|last| (last.report.requests, last.report.points));
        going.or(ended).unwrap_or_default()
    });
    let (requests, points) = spent.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Continued { run_id: open.id.clone(), started_at: open.started_at, requests, points }
}

impl Pace {
    /// The pace of so many requests and points, from `now` on, at a rate and with so many under way.
    pub fn new(
        (requests, points): (u64, u64),
        (requests_per_second, concurrency): (Option<f64>, u32),
        points_per_hour: Option<u64>,
        now: DateTime<Utc>,
    ) -> Self {
        let requests_per_second = requests_per_second.filter(|rate| *rate > 0.0);
        let places = f64::from(concurrency.max(1));
        let interval = requests_per_second.map_or(0.0, f64::recip).max(ANSWER / places);
        let least = if requests == 0 { 0.0 } else { ANSWER };
        let seconds = (interval * float(requests)).max(least);
        let allowed = points_per_hour.filter(|points| *points > 0);
        let hours = allowed.map_or(0, |allowed| points.div_ceil(allowed));
        let whole = allowed.map_or(seconds, |allowed| {
            let rate = if seconds > 0.0 { float(points) / seconds } else { 0.0 };
            waited((float(points), rate), float(allowed), seconds_left(now))
        });
        let until = now.checked_add_signed(span(whole.max(seconds)));
        Self {
            requests_per_second,
            concurrency,
            points_per_hour,
            seconds,
            answer_seconds: interval * places,
            hours,
            until: until.unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }

    /// A stream's share of what an hour allows.
    pub fn share(&self, expected: &Expected) -> Option<f64> {
        match (self.points_per_hour, self.requests_per_second) {
            (Some(points), _) => Some(float(expected.points) / float(points.max(1))),
            (None, Some(rate)) => Some(float(expected.requests) / (rate * 3600.0)),
            (None, None) => None,
        }
    }
}

/// Seconds in which points are spent of which an hour allows so many, when the present hour has so many
/// seconds left.
fn waited((points, rate): (f64, f64), allowed: f64, left: f64) -> f64 {
    let first = allowed.min(rate * left);
    if points <= first || rate <= 0.0 {
        return if rate > 0.0 { points / rate } else { 0.0 };
    }
    let hourly = allowed.min(rate * 3600.0);
    let whole = ((points - first) / hourly).ceil() - 1.0;
    left + whole * 3600.0 + (points - first - whole * hourly) / rate
}

/// Seconds until the next UTC hour begins.
fn seconds_left(now: DateTime<Utc>) -> f64 {
    let begun = now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now);
    (TimeDelta::hours(1) - (now - begun)).as_seconds_f64()
}

fn span(seconds: f64) -> TimeDelta {
    let span = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a forecast is read by its first digits")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(requests: u64, points: u64, rate: Option<f64>, allowed: Option<u64>) -> Pace {
        let now = "2026-10-01T09:40:00Z".parse().unwrap();
        Pace::new((requests, points), (rate, 5), allowed, now)
    }

    fn until(pace: &Pace) -> String {
        pace.until.format("%H:%M:%S").to_string()
    }

    #[test]
    fn requests_go_at_the_rate_or_as_fast_as_answers_come() {
        let paced = pace(600, 0, Some(10.0), None);
        assert_eq!((paced.seconds, paced.answer_seconds), (60.0, 0.5));
        assert_eq!((until(&paced).as_str(), paced.hours), ("09:41:00", 0));
        for rate in [None, Some(0.0), Some(1000.0)] {
            let unpaced = pace(600, 0, rate, None);
            assert_eq!((unpaced.seconds, unpaced.answer_seconds), (24.0, 0.2), "{rate:?}");
        }
    }

    #[test]
    fn what_an_hour_does_not_allow_waits_for_the_next_one() {
        // 20 points a second: 24,000 in the 20 minutes that are left, 72,000 in a whole hour.
        let table = [
            (65_000, 1_000, "09:40:50", 1),
            (65_000, 24_000, "10:00:00", 1),
            // The first hour is too short for its points, the second is enough.
            (65_000, 25_000, "10:00:50", 1),
            (10_000, 10_000, "09:48:20", 1),
            (10_000, 11_000, "10:00:50", 2),
            (10_000, 20_000, "10:08:20", 2),
            (10_000, 21_000, "11:00:50", 3),
        ];
        for (allowed, points, end, hours) in table {
            let pace = pace(points / 2, points, Some(10.0), Some(allowed));
            assert_eq!((until(&pace).as_str(), pace.hours), (end, hours), "{points} of {allowed}");
        }
    }

    #[test]
    fn nothing_and_very_much_are_paced_as_well() {
        assert_eq!(until(&pace(0, 0, Some(10.0), Some(100))), "09:40:00");
        let pace = pace(u64::MAX, u64::MAX, Some(0.001), Some(1));
        assert!(pace.until >= "2026-10-01T09:40:00Z".parse::<DateTime<Utc>>().unwrap());
    }
}
