//! How fast a run goes: by the rate of its requests, and by what an hour allows of the quota.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;

use crate::planner::estimate::StreamEstimate;
use crate::quota::account::Balance;
use crate::quota::terms::Terms;

/// Seconds that an answer is taken to need, where only the requests under way are limited.
const ANSWER: f64 = 0.2;

/// What is known of the quota in the present hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Points in an hour.
    pub limit: u64,
    /// Who says so.
    pub limit_from: LimitFrom,
    /// Points that all runs of the connection have spent or hold, and others by the API's word.
    pub spent: u64,
    /// Points that a run of this replication may still spend.
    pub left: u64,
    /// The API takes no requests before this time.
    pub hold: Option<DateTime<Utc>>,
}

/// Who says how many points an hour has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitFrom {
    /// The API, in the headers of an answer.
    Api,
    /// The spec.
    Spec,
}

impl Hour {
    /// What an account says to a run under these terms.
    pub fn new(balance: &Balance, terms: &Terms) -> Self {
        let limit = balance.limit.unwrap_or(terms.per_window);
        let next = balance.not_before.is_some_and(|hold| hold >= balance.end);
        Self {
            limit,
            limit_from: if balance.limit.is_some() { LimitFrom::Api } else { LimitFrom::Spec },
            spent: balance.taken + balance.external_spend,
            left: if next { terms.budget.of(limit) } else { balance.left(terms) },
            hold: balance.not_before,
        }
    }

    /// When a run may send its first request.
    pub fn begins(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.hold.map_or(now, |hold| hold.max(now))
    }
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
    /// Hours over which the points are spread, the present one among them.
    pub hours: u64,
    /// When the run would be over, the quota included.
    pub until: DateTime<Utc>,
}

impl Pace {
    /// The pace of so many requests and points, from `now` on, at a rate and with so many under way; of
    /// the points, so many may be spent in an hour, and so many in the present one.
    pub fn new(
        (requests, points): (u64, u64),
        (requests_per_second, concurrency): (Option<f64>, u32),
        quota: Option<(u64, u64)>,
        now: DateTime<Utc>,
    ) -> Self {
        let requests_per_second = requests_per_second.filter(|rate| *rate > 0.0);
        let places = f64::from(concurrency.max(1));
        let interval = requests_per_second.map_or(0.0, f64::recip).max(ANSWER / places);
        let least = if requests == 0 { 0.0 } else { ANSWER };
        let seconds = (interval * float(requests)).max(least);
        let allowed = quota.filter(|(hourly, _)| *hourly > 0);
        let hours = allowed.map_or(0, |(hourly, left)| match points.saturating_sub(left) {
            _ if points == 0 => 0,
            later => 1 + later.div_ceil(hourly),
        });
        let whole = allowed.map_or(seconds, |(hourly, left)| {
            let rate = if seconds > 0.0 { float(points) / seconds } else { 0.0 };
            let allowed = (float(hourly), float(left));
            waited((float(points), rate), allowed, seconds_left(now))
        });
        let until = now.checked_add_signed(span(whole.max(seconds)));
        Self {
            requests_per_second,
            concurrency,
            points_per_hour: quota.map(|(hourly, _)| hourly),
            seconds,
            answer_seconds: interval * places,
            hours,
            until: until.unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }

    /// A stream's share of what an hour allows.
    pub fn share(&self, expected: &StreamEstimate) -> Option<f64> {
        match (self.points_per_hour, self.requests_per_second) {
            (Some(points), _) => Some(float(expected.points) / float(points.max(1))),
            (None, Some(rate)) => Some(float(expected.requests) / (rate * 3600.0)),
            (None, None) => None,
        }
    }
}

/// Seconds in which points are spent of which an hour allows so many, and the present one so many more,
/// when it has so many seconds left.
fn waited((points, rate): (f64, f64), (allowed, first): (f64, f64), left: f64) -> f64 {
    let first = first.min(rate * left);
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
    use crate::quota::terms::BudgetLimit;

    fn pace(requests: u64, points: u64, rate: Option<f64>, allowed: Option<u64>) -> Pace {
        let now = "2026-10-01T09:40:00Z".parse().unwrap();
        Pace::new((requests, points), (rate, 5), allowed.map(|allowed| (allowed, allowed)), now)
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
    fn what_is_spent_of_the_present_hour_waits_for_the_next_one() {
        let now = "2026-10-01T09:40:00Z".parse().unwrap();
        // 20 points a second, 10,000 an hour.
        let table = [
            (1_000, 1_000, "09:40:50", 1),
            (1_000, 400, "10:00:30", 2),
            (1_000, 0, "10:00:50", 2),
            (12_000, 1_000, "11:00:50", 3),
            (0, 0, "09:40:00", 0),
        ];
        for (points, left, end, hours) in table {
            let pace = Pace::new((points / 2, points), (Some(10.0), 5), Some((10_000, left)), now);
            let told = (until(&pace), pace.hours);
            assert_eq!(told, (end.to_owned(), hours), "{points} of {left}");
        }
    }

    #[test]
    fn an_hour_knows_what_is_left_for_a_run() {
        let terms = Terms { budget: BudgetLimit::Share(0.5), ..Terms::hourly(1_000) };
        let now: DateTime<Utc> = "2026-10-01T09:40:00Z".parse().unwrap();
        let end = "2026-10-01T10:00:00Z".parse().unwrap();
        let balance =
            Balance { taken: 300, external_spend: 100, limit: None, end, not_before: None };
        let hour = Hour::new(&balance, &terms);
        assert_eq!((hour.limit, hour.limit_from, hour.spent), (1_000, LimitFrom::Spec, 400));
        assert_eq!((hour.left, hour.begins(now)), (200, now));
        let told = Balance { limit: Some(5_000), ..balance };
        let hour = Hour::new(&told, &terms);
        assert_eq!((hour.limit, hour.limit_from, hour.left), (5_000, LimitFrom::Api, 2_200));
        // Who is to be left alone until the next hour has all of it then.
        let held = Balance { not_before: Some(end + TimeDelta::minutes(5)), ..told };
        let hour = Hour::new(&held, &terms);
        assert_eq!((hour.left, hour.begins(now)), (2_500, end + TimeDelta::minutes(5)));
    }

    #[test]
    fn nothing_and_very_much_are_paced_as_well() {
        assert_eq!(until(&pace(0, 0, Some(10.0), Some(100))), "09:40:00");
        let pace = pace(u64::MAX, u64::MAX, Some(0.001), Some(1));
        assert!(pace.until >= "2026-10-01T09:40:00Z".parse::<DateTime<Utc>>().unwrap());
    }
}
