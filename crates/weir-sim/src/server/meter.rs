//! The hourly points quota: spent points, quota headers, and rejection of requests beyond the quota.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use hyper::{
    StatusCode,
    header::{self, HeaderName},
};

use crate::api::answer::Reply;
use crate::api::query::QueryProblem;
use crate::options::{PointsQuota, QuotaHeaders};

/// Length of a window in milliseconds. Windows start on the UTC hour.
const WINDOW: u64 = 3_600_000;

/// Counts spent points.
#[derive(Debug)]
pub(crate) struct Meter {
    quota: PointsQuota,
    /// Start of the window in epoch milliseconds, and the points spent in it.
    spent: Mutex<(u64, u64)>,
}

impl Meter {
    pub(crate) fn new(quota: PointsQuota) -> Self {
        Self { quota, spent: Mutex::new((0, 0)) }
    }

    /// Charges a response and adds the quota headers, or replaces it with a rejection if no points are left.
    /// A response that costs more than the remaining points is still sent.
    pub(crate) fn charge(&self, reply: Reply, now: u64) -> Reply {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now - now % WINDOW;
        if spent.0 != start {
            *spent = (start, self.quota.others);
        }
        let refused = spent.1 >= self.quota.per_hour;
        if !refused {
            spent.1 += reply.points;
        }
        let left = self.quota.per_hour.saturating_sub(spent.1);
        drop(spent);
        let reply = if refused { refusal(self.quota.headers, start + WINDOW - now) } else { reply };
        self.with_headers(reply, left, start + WINDOW, now)
    }

    fn with_headers(&self, reply: Reply, left: u64, end: u64, now: u64) -> Reply {
        let per_hour = self.quota.per_hour;
        let seconds = (end - now).div_ceil(1000);
        let near = left * 5 < per_hour;
        let end = i64::try_from(end).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
        let end = end.unwrap_or_default();
        let reset = |pattern| end.format(pattern).to_string();
        let older = |reply: Reply, reset: &str| {
            let reply = reply
                .with(HeaderName::from_static("x-ratelimit-limit"), &per_hour.to_string())
                .with(HeaderName::from_static("x-ratelimit-remaining"), &left.to_string())
                .with(HeaderName::from_static("x-ratelimit-reset"), reset);
            if near {
                reply.with(HeaderName::from_static("x-ratelimit-nearlimit"), "true")
            } else {
                reply
            }
        };
        let policy = format!("\"global-app-quota\";q={per_hour};w=3600");
        // The API reports the remaining points only near the limit.
        let state = if near {
            format!("\"global-app-quota\";r={left};t={seconds}")
        } else {
            format!("\"global-app-quota\";t={seconds}")
        };
        match self.quota.headers {
            QuotaHeaders::Standard => reply
                .with(HeaderName::from_static("ratelimit-policy"), &policy)
                .with(HeaderName::from_static("ratelimit"), &state),
            QuotaHeaders::Beta => reply
                .with(HeaderName::from_static("beta-ratelimit-policy"), &policy)
                .with(HeaderName::from_static("beta-ratelimit"), &state),
            QuotaHeaders::Older => older(reply, &reset("%Y-%m-%dT%H:%M:%SZ")),
            QuotaHeaders::OlderShort => older(reply, &reset("%Y-%m-%dT%H:%MZ")),
            QuotaHeaders::Silent => reply,
        }
    }
}

fn refusal(headers: QuotaHeaders, wait: u64) -> Reply {
    let title = "Too Many Requests".to_owned();
    let problem = QueryProblem { title, detail: None };
    let reply = Reply::error(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", &[problem])
        .with(HeaderName::from_static("ratelimit-reason"), "confluence-quota-global-based");
    if headers == QuotaHeaders::Silent {
        return reply;
    }
    reply.with(header::RETRY_AFTER, &wait.div_ceil(1000).to_string())
}
