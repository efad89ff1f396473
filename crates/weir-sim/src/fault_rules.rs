//! What goes wrong, and when.

use std::time::Duration;

/// What goes wrong in a tenant.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Rules; of those that hold for a request, delays add up and the first other fault wins.
    pub rules: Vec<Fault>,
    /// Answers to more requests than this in any second with 429.
    pub requests_per_second: Option<u32>,
    /// The credentials are no longer good after this many requests.
    pub revoke_after: Option<u64>,
    /// They are good again after this many requests.
    pub restore_after: Option<u64>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Part of the path and query of the requests it holds for; empty: all of them.
    pub part: String,
    /// Which of those go wrong.
    pub when: When,
    /// How they go wrong.
    pub what: What,
}

/// Which requests go wrong, among those that a rule holds for.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// All.
    Always,
    /// The first so many.
    First(u64),
    /// These, counted from 1.
    Numbers(Vec<u64>),
    /// This share of them, 0 to 1, by the tenant's seed.
    Share(f64),
    /// Those whose `limit` is larger than this.
    LimitAbove(u64),
}

/// How a request goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// 429, with or without word when to come back.
    TooMany(RetryAfter),
    /// This status with a short body: any 5xx, or 403. For 404 see [`What::Missing`].
    Status(u16),
    /// 404 that names an object, as for one that is gone or not to be seen.
    Missing,
    /// The answer takes this much longer.
    Slow(Duration),
    /// Half of the answer's body comes at once, the rest this much later; in process all of it does.
    Halt(Duration),
    /// The connection is reset before any answer.
    Reset,
    /// The connection ends in the middle of the body.
    Truncate,
    /// The page's `next` has the cursor of the page itself: following it never ends.
    RepeatCursor,
    /// 200 with a body that is not JSON.
    Malformed,
    /// The cursor in the request is not valid any more: 400. Holds for requests with one only.
    ExpiredCursor,
    /// The object that the path names is deleted just before the request is answered, for good.
    Deleted,
    /// 500 whenever the object with this id is in the answer, with its body or without: the site cannot
    /// render it. To hold for bodies alone, the rule's part is `body-format=`.
    Unrenderable(String),
}

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Not at all.
    Silent,
    /// In so many seconds.
    Seconds(u64),
    /// At a date of HTTP, so many seconds from now by the wall clock.
    Date(u64),
}
