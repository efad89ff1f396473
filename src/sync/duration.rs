//! The estimated duration of a run, limited by the request rate and the hourly points quota.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::Serialize;

use crate::planner::estimate::StreamEstimate;
use crate::quota::account::Balance;
use crate::quota::terms::Terms;

/// Assumed response time in seconds, if only the concurrency limits the requests.
const RESPONSE_SECONDS: f64 = 0.2;

/// The points quota in the current hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// Points per hour.
    pub limit: u64,
    /// The origin of the limit.
    pub limit_from: LimitFrom,
    /// Points that all runs of the connection have spent or reserved, and, as reported by the API, other
    /// clients.
    pub spent: u64,
    /// Points that a run of this replication may still spend.
    pub left: u64,
    /// No request may be sent before this time, as the API requested.
    pub hold: Option<DateTime<Utc>>,
}

/// The origin of the hourly limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitFrom {
    /// Headers of a response.
    Api,
    /// The spec.
    Spec,
}

impl Hour {
    /// The current hour for a run under these terms.
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

/// The limits on the speed of a run.
#[derive(Clone, Copy, Debug)]
pub struct SpeedLimits {
    /// Rate limit in requests per second, if any.
    pub requests_per_second: Option<f64>,
    /// Maximum number of requests in flight.
    pub concurrency: u32,
    /// The points budget; `None` without a quota.
    pub points: Option<HourlyPoints>,
}

/// The points that a run may spend.
#[derive(Clone, Copy, Debug)]
pub struct HourlyPoints {
    /// Points per hour.
    pub allowed: u64,
    /// Points left in the current hour.
    pub left: u64,
}

/// The estimated duration of a run, if no other client uses the connection and the API has its usual
/// speed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DurationEstimate {
    /// Rate limit in requests per second, if any.
    pub requests_per_second: Option<f64>,
    /// Maximum number of requests in flight.
    pub concurrency: u32,
    /// Points that may be spent per hour; `None` without a quota.
    pub points_per_hour: Option<u64>,
    /// Seconds that the requests take, apart from waits for points.
    pub seconds: f64,
    /// Maximum response time in seconds for this duration.
    pub answer_seconds: f64,
    /// Number of clock hours in which points are spent, including the current one.
    pub hours: u64,
    /// Estimated end of the run, waits for points included.
    pub until: DateTime<Utc>,
}

impl DurationEstimate {
    /// Estimates how long a run that starts at `now` takes for this many requests and points.
    pub fn new(requests: u64, points: u64, limits: SpeedLimits, now: DateTime<Utc>) -> Self {
        let SpeedLimits { requests_per_second, concurrency, points: quota } = limits;
        let requests_per_second = requests_per_second.filter(|rate| *rate > 0.0);
        let places = f64::from(concurrency.max(1));
        let interval = requests_per_second.map_or(0.0, f64::recip).max(RESPONSE_SECONDS / places);
        let least = if requests == 0 { 0.0 } else { RESPONSE_SECONDS };
        let seconds = (interval * float(requests)).max(least);
        let allowed = quota.filter(|quota| quota.allowed > 0);
        let hours = allowed.map_or(0, |quota| match points.saturating_sub(quota.left) {
            _ if points == 0 => 0,
            later => 1 + later.div_ceil(quota.allowed),
        });
        let whole = allowed.map_or(seconds, |quota| {
            let rate = if seconds > 0.0 { float(points) / seconds } else { 0.0 };
            spending_seconds(float(points), rate, quota, seconds_left(now))
        });
        let until = now.checked_add_signed(span(whole.max(seconds)));
        Self {
            requests_per_second,
            concurrency,
            points_per_hour: quota.map(|quota| quota.allowed),
            seconds,
            answer_seconds: interval * places,
            hours,
            until: until.unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }

    /// A stream's share of an hour's points, or of an hour's requests without a quota.
    pub fn share(&self, expected: &StreamEstimate) -> Option<f64> {
        match (self.points_per_hour, self.requests_per_second) {
            (Some(points), _) => Some(float(expected.points) / float(points.max(1))),
            (None, Some(rate)) => Some(float(expected.requests) / (rate * 3600.0)),
            (None, None) => None,
        }
    }
}

/// Seconds to spend `points` at `rate` points per second, if the current hour has `left` seconds left.
fn spending_seconds(points: f64, rate: f64, quota: HourlyPoints, left: f64) -> f64 {
    let first = float(quota.left).min(rate * left);
    if points <= first || rate <= 0.0 {
        return if rate > 0.0 { points / rate } else { 0.0 };
    }
    let hourly = float(quota.allowed).min(rate * 3600.0);
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

#[expect(clippy::cast_precision_loss, reason = "only the first digits of an estimate matter")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::terms::BudgetLimit;

    fn pace(
        requests: u64,
        points: u64,
        rate: Option<f64>,
        allowed: Option<u64>,
    ) -> DurationEstimate {
        let now = "2026-10-01T09:40:00Z".parse().unwrap();
        let points_limit = allowed.map(|allowed| HourlyPoints { allowed, left: allowed });
        DurationEstimate::new(requests, points, limits(rate, points_limit), now)
    }

    fn limits(requests_per_second: Option<f64>, points: Option<HourlyPoints>) -> SpeedLimits {
        SpeedLimits { requests_per_second, concurrency: 5, points }
    }

    fn until(pace: &DurationEstimate) -> String {
        pace.until.format("%H:%M:%S").to_string()
    }

    #[test]
    fn the_rate_or_the_concurrency_limits_the_requests() {
        let paced = pace(600, 0, Some(10.0), None);
        assert_eq!((paced.seconds, paced.answer_seconds), (60.0, 0.5));
        assert_eq!((until(&paced).as_str(), paced.hours), ("09:41:00", 0));
        for rate in [None, Some(0.0), Some(1000.0)] {
            let unpaced = pace(600, 0, rate, None);
            assert_eq!((unpaced.seconds, unpaced.answer_seconds), (24.0, 0.2), "{rate:?}");
        }
    }

    #[test]
    fn points_beyond_the_quota_wait_for_the_next_hour() {
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
    fn points_spent_in_this_hour_delay_the_run() {
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
            let limits = limits(Some(10.0), Some(HourlyPoints { allowed: 10_000, left }));
            let pace = DurationEstimate::new(points / 2, points, limits, now);
            let found = (until(&pace), pace.hours);
            assert_eq!(found, (end.to_owned(), hours), "{points} of {left}");
        }
    }

    #[test]
    fn an_hour_computes_the_points_left_for_a_run() {
        let terms = Terms { budget: BudgetLimit::Share(0.5), ..Terms::hourly(1_000) };
        let now: DateTime<Utc> = "2026-10-01T09:40:00Z".parse().unwrap();
        let end = "2026-10-01T10:00:00Z".parse().unwrap();
        let balance =
            Balance { taken: 300, external_spend: 100, limit: None, end, not_before: None };
        let hour = Hour::new(&balance, &terms);
        assert_eq!((hour.limit, hour.limit_from, hour.spent), (1_000, LimitFrom::Spec, 400));
        assert_eq!((hour.left, hour.begins(now)), (200, now));
        let reported = Balance { limit: Some(5_000), ..balance };
        let hour = Hour::new(&reported, &terms);
        assert_eq!((hour.limit, hour.limit_from, hour.left), (5_000, LimitFrom::Api, 2_200));
        // A wait into the next hour leaves the whole budget of that hour.
        let delayed = Balance { not_before: Some(end + TimeDelta::minutes(5)), ..reported };
        let hour = Hour::new(&delayed, &terms);
        assert_eq!((hour.left, hour.begins(now)), (2_500, end + TimeDelta::minutes(5)));
    }

    #[test]
    fn zero_and_very_large_amounts_have_an_estimate() {
        assert_eq!(until(&pace(0, 0, Some(10.0), Some(100))), "09:40:00");
        let pace = pace(u64::MAX, u64::MAX, Some(0.001), Some(1));
        assert!(pace.until >= "2026-10-01T09:40:00Z".parse::<DateTime<Utc>>().unwrap());
    }
}
