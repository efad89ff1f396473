//! Rules for injected faults.

use std::time::Duration;

/// The injected faults of a tenant.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The rules. If several apply to a request, delays add up, and the first other fault takes effect.
    pub rules: Vec<FaultRule>,
    /// Burst limit: requests in excess of this many within one second get a 429.
    pub requests_per_second: Option<u32>,
    /// The credentials are rejected after this many requests.
    pub revoke_after: Option<u64>,
    /// The credentials are accepted again after this many requests.
    pub restore_after: Option<u64>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRule {
    /// Part of the path and query of the requests that the rule applies to; empty for all requests.
    pub part: String,
    /// Which of those requests fail.
    pub when: When,
    /// How they fail.
    pub what: What,
}

/// Which requests fail, among those that a rule applies to.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// All requests.
    Always,
    /// The first requests, up to this number.
    First(u64),
    /// The requests with these numbers, counted from 1.
    Numbers(Vec<u64>),
    /// A share of the requests, from 0 to 1, chosen by the tenant's seed.
    Share(f64),
    /// Requests whose `limit` is larger than this.
    LimitAbove(u64),
}

/// How a request fails.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// 429, with or without a `Retry-After` header.
    TooMany(RetryAfter),
    /// This status with a short body: any 5xx, or 403. For 404, see [`What::Missing`].
    Status(u16),
    /// 404 that names an object, as for a deleted or hidden object.
    Missing,
    /// The response is delayed by this time.
    Slow(Duration),
    /// Half of the response body is sent at once, the rest after this delay. In process, the whole response is
    /// delayed.
    Halt(Duration),
    /// The connection is reset before the response.
    Reset,
    /// The connection ends in the middle of the body.
    Truncate,
    /// The `next` link has the cursor of the page itself, so that following it never ends.
    RepeatCursor,
    /// 200 with a body that is not JSON.
    Malformed,
    /// The cursor in the request has expired: 400. Applies only to requests with a cursor.
    ExpiredCursor,
    /// The object in the path is permanently deleted just before the response.
    Deleted,
    /// 500 if the response contains the object with this ID, because the site cannot render it. To apply
    /// only to responses with bodies, set the rule's part to `body-format=`.
    Unrenderable(String),
}

/// The `Retry-After` header of a 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// No header.
    Silent,
    /// A delay in seconds.
    Seconds(u64),
    /// An HTTP date, this many seconds from now by the wall clock.
    Date(u64),
}
