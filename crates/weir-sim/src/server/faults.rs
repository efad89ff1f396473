//! Decides which requests fail, and how.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use hyper::{
    StatusCode,
    header::{self, HeaderName},
};

use crate::api::answer::{IncomingRequest, Reply};
use crate::api::listing::chance;
use crate::api::query::QueryProblem;
use crate::fault_rules::{FaultRule, Faults, RetryAfter, What, When};
use crate::tenant::text::mix;

/// The decision about one request.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) delay: Duration,
    /// Delay in the middle of the body.
    pub(crate) halt: Duration,
    pub(crate) what: Option<What>,
    pub(crate) revoked: bool,
    /// Whether the burst limit rejects it.
    pub(crate) burst: bool,
}

/// Counts requests and decides about each of them.
#[derive(Debug)]
pub(crate) struct Judge {
    faults: Faults,
    seed: u64,
    seen: AtomicU64,
    matched: Vec<AtomicU64>,
    /// Start times of the accepted requests within the last second; at most as many as the limit.
    recent: Mutex<VecDeque<Instant>>,
}

impl Judge {
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        let matched = faults.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { faults, seed, seen: AtomicU64::new(0), matched, recent: Mutex::default() }
    }

    pub(crate) fn decide(&self, call: &IncomingRequest, now: Instant) -> Verdict {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let mut verdict = Verdict {
            revoked: self.faults.revoke_after.is_some_and(|after| number >= after)
                && self.faults.restore_after.is_none_or(|after| number < after),
            burst: self.is_burst(now),
            ..Verdict::default()
        };
        for (at, rule) in self.faults.rules.iter().enumerate() {
            if !holds(rule, call) || !self.strikes(at, rule, call) {
                continue;
            }
            match &rule.what {
                What::Slow(delay) => verdict.delay += *delay,
                What::Halt(halt) => verdict.halt += *halt,
                what if verdict.what.is_none() => verdict.what = Some(what.clone()),
                _ => {}
            }
        }
        verdict
    }

    fn strikes(&self, at: usize, rule: &FaultRule, call: &IncomingRequest) -> bool {
        let number = self.matched[at].fetch_add(1, Ordering::Relaxed) + 1;
        match &rule.when {
            When::Always => true,
            When::First(count) => number <= *count,
            When::Numbers(numbers) => numbers.contains(&number),
            When::Share(share) => chance(mix(mix(self.seed ^ at as u64) ^ number)) < *share,
            When::LimitAbove(bound) => limit_of(call.query).is_some_and(|limit| limit > *bound),
        }
    }

    fn is_burst(&self, now: Instant) -> bool {
        let Some(limit) = self.faults.requests_per_second else { return false };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.front().is_some_and(|start| now - *start >= Duration::from_secs(1)) {
            recent.pop_front();
        }
        if recent.len() as u64 >= u64::from(limit) {
            return true;
        }
        recent.push_back(now);
        false
    }

    /// The response to a request in excess of the burst limit.
    pub(crate) fn burst_reply(&self) -> Reply {
        let limit = self.faults.requests_per_second.unwrap_or(0).to_string();
        too_many(RetryAfter::Seconds(1))
            .with(HeaderName::from_static("x-ratelimit-limit"), &limit)
            .with(HeaderName::from_static("x-ratelimit-remaining"), "0")
            .with(HeaderName::from_static("ratelimit-reason"), "confluence-burst-based")
    }
}

/// The response that replaces that of the API, for faults that have one.
pub(crate) fn reply_for(what: &What, path: &str) -> Option<Reply> {
    match what {
        What::TooMany(after) => Some(too_many(*after)),
        What::Status(code) => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let title = status.canonical_reason().unwrap_or("Error").to_owned();
            let code = title.to_uppercase().replace(' ', "_");
            Some(Reply::error(status, &code, &[QueryProblem { title, detail: None }]))
        }
        What::Missing => {
            let id = named(path).unwrap_or("0");
            Some(Reply::not_found(format!("Content with id: [{id}] not found")))
        }
        What::ExpiredCursor => Some(Reply::bad_request(&[QueryProblem::bad_cursor()], path)),
        What::Malformed => Some(Reply::json(StatusCode::OK, "{\"results\":[{\"id\":\"1\",")),
        What::Slow(_) | What::Halt(_) | What::Reset | What::Truncate | What::RepeatCursor => None,
        What::Deleted | What::Unrenderable(_) => None,
    }
}

/// The ID of the object in a path.
pub(crate) fn named(path: &str) -> Option<&str> {
    path.split('/').rev().find(|part| is_id(part))
}

/// Replaces a response that contains an unrenderable object with an error.
pub(crate) fn unrendered(what: Option<&What>, reply: Reply) -> Reply {
    let Some(What::Unrenderable(id)) = what else { return reply };
    let sign = format!("\"id\":\"{id}\"");
    let holds = reply.body.windows(sign.len()).any(|part| part == sign.as_bytes());
    let failed = || reply_for(&What::Status(500), "");
    if reply.status.is_success() && holds { failed().unwrap_or(reply) } else { reply }
}

fn is_id(part: &str) -> bool {
    let digits = part.strip_prefix("att").unwrap_or(part);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn too_many(after: RetryAfter) -> Reply {
    let problem = QueryProblem { title: "Rate limit exceeded".to_owned(), detail: None };
    let reply = Reply::error(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", &[problem]);
    match after {
        RetryAfter::Silent => reply,
        RetryAfter::Seconds(seconds) => reply.with(header::RETRY_AFTER, &seconds.to_string()),
        RetryAfter::Date(seconds) => {
            let then = SystemTime::from(chrono::Utc::now()) + Duration::from_secs(seconds);
            reply.with(header::RETRY_AFTER, &httpdate::fmt_http_date(then))
        }
    }
}

fn holds(rule: &FaultRule, call: &IncomingRequest) -> bool {
    let part = rule.part.as_str();
    if rule.what == What::ExpiredCursor && !has_cursor(call.query) {
        return false;
    }
    if part.is_empty() || call.path.contains(part) {
        return true;
    }
    part.contains(['?', '=', '&']) && format!("{}?{}", call.path, call.query).contains(part)
}

fn has_cursor(query: &str) -> bool {
    query.split('&').any(|pair| pair.starts_with("cursor="))
}

fn limit_of(query: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix("limit="))?.parse().ok()
}
