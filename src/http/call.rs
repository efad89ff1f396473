//! A request to be sent, perhaps several times.

use crate::error::Result;
use crate::http::exchange::Request;
use crate::http::response_rules::Rules;
use crate::quota::request_cost::RequestCost;
use crate::report::counters::Stats;

/// A request to be sent, perhaps several times.
#[derive(Clone, Copy)]
pub(crate) struct Call<'call> {
    /// Stream it is for.
    pub(crate) stream: &'call str,
    pub(crate) stats: &'call Stats,
    pub(crate) rules: &'call Rules,
    /// Whether it belongs to a slice of a child stream.
    pub(crate) child: bool,
    pub(crate) need: Need,
    /// Whether the stream may go on without what is asked for: a failure that concerns it alone is then
    /// `Answer::Failed`.
    pub(crate) leaves: bool,
    /// Whether it is sent for several streams.
    pub(crate) shared: bool,
    /// What a try costs, and how many objects may come.
    pub(crate) price: RequestCost<'call>,
    /// Makes the request anew for each try.
    pub(crate) build: &'call (dyn Fn() -> Result<Request> + Send + Sync),
    /// Asks for a smaller page from now on; `false` when there is none.
    pub(crate) shrink: &'call (dyn Fn() -> bool + Send + Sync),
    /// Asks for a smaller page this time, since all tries are used up; `false` when there is none.
    pub(crate) narrow: &'call (dyn Fn() -> bool + Send + Sync),
}

/// How much an answer is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// As the rules say.
    Firm,
    /// As the rules say; no session is renewed for it.
    Session,
    /// Another request can take its place: a refusal is no failure, whatever the rules say.
    Tentative,
    /// Not much: it is tried once.
    Idle,
}
