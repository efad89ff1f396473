//! A request with the context that retries need.

use crate::error::Result;
use crate::http::exchange::Request;
use crate::http::response_rules::Rules;
use crate::quota::request_cost::RequestCost;
use crate::report::counters::Stats;

/// A request with the context that retries need.
#[derive(Clone, Copy)]
pub(crate) struct Call<'call> {
    /// Name of the stream that sends it.
    pub(crate) stream: &'call str,
    pub(crate) stats: &'call Stats,
    pub(crate) rules: &'call Rules,
    /// Whether it belongs to a slice of a child stream.
    pub(crate) child: bool,
    pub(crate) need: Need,
    /// Whether the stream may continue without the response. A failure that concerns this request alone is
    /// then `Answer::Failed` instead of an error.
    pub(crate) leaves: bool,
    /// Whether it is sent for several streams.
    pub(crate) shared: bool,
    /// The cost of an attempt.
    pub(crate) price: RequestCost<'call>,
    /// Builds the request for each attempt.
    pub(crate) build: &'call (dyn Fn() -> Result<Request> + Send + Sync),
    /// Reduces the page size from now on; `false` if it cannot be reduced.
    pub(crate) shrink: &'call (dyn Fn() -> bool + Send + Sync),
    /// Reduces the page size for this page, after its last attempt; `false` if it cannot be reduced.
    pub(crate) narrow: &'call (dyn Fn() -> bool + Send + Sync),
}

/// How a failed attempt is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// By the rules.
    Firm,
    /// By the rules, without renewing the session.
    Session,
    /// Another request can replace it: a refusal is not a failure, regardless of the rules.
    Tentative,
    /// Without a retry: the response is optional.
    Idle,
}
