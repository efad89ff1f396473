//! A simulated Confluence Cloud tenant: the same answers in process and over a socket.
//!
//! A tenant is a function of [`Options`]: its seed and sizes decide every byte. [`Simulator`] is a
//! [`Transport`] without a socket, which obeys tokio's (perhaps paused) time; [`serve()`] puts the
//! very same state machine behind HTTP/1.1. It knows `GET` only and nothing changes in a tenant.

mod answer;
mod auth;
mod content;
mod faults;
mod ids;
mod listing;
mod lists;
mod log;
mod options;
mod out;
mod parts;
mod query;
mod routes;
mod serve;
mod single;
mod tenant;
mod text;
mod truth;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::fetch::{Request, Response, Transport, TransportError, header};

use answer::{Call, Reply};
use faults::Judge;
use log::Log;
use tenant::Tenant;

pub use faults::{Fault, Faults, RetryAfter, What, When};
pub use log::{Counters, LoggedRequest};
pub use options::{CUSTOM_CONTENT_TYPES, Children, Credentials, Options};
pub use routes::{Form, Parameter, ROUTES, Route};
pub use serve::serve;
pub use truth::{STREAMS, Wanted};

/// Requests that the log keeps in process unless told otherwise.
const LOG_ENTRIES: usize = 1_000_000;

/// A simulated tenant. Clones share the tenant, its faults' counts and its log.
#[derive(Clone, Debug)]
pub struct Simulator {
    world: Arc<World>,
}

#[derive(Debug)]
struct World {
    tenant: Tenant,
    judge: Judge,
    log: Log,
}

/// Which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Face {
    Process,
    Socket,
}

/// What goes back.
#[derive(Debug)]
enum Outcome {
    Whole(Reply),
    /// Only half of the body, then the connection ends.
    Truncated(Reply),
    /// The connection is reset.
    Reset,
}

impl Simulator {
    /// A tenant made from these options.
    pub fn new(options: Options) -> Self {
        let judge = Judge::new(options.faults.clone(), options.seed);
        let world = World { tenant: Tenant::new(options), judge, log: Log::default() };
        Self { world: Arc::new(world) }
    }

    /// The options it was made from; counts are lowered where a tenant without spaces or without
    /// pages and blog posts cannot have them.
    pub fn options(&self) -> &Options {
        &self.world.tenant.options
    }

    /// The requests so far, in the order of arrival, as far as the log keeps them.
    pub fn log(&self) -> Vec<LoggedRequest> {
        self.world.log.entries()
    }

    /// Empties the log; counters go on.
    pub fn clear_log(&self) {
        self.world.log.clear();
    }

    /// Sums over all requests so far.
    pub fn counters(&self) -> Counters {
        self.world.log.counters()
    }

    /// The most requests that were in flight at once.
    pub fn max_in_flight(&self) -> usize {
        self.world.log.max_in_flight()
    }

    /// The rows that the stream of this name must bring with its default filters, without bodies:
    /// each as the API prints the object, with its parent's id added (`page_id`, `space_id` …)
    /// where the object itself does not hold it. `None` when no stream has this name.
    pub fn truth(&self, stream: &str) -> Option<Vec<serde_json::Map<String, serde_json::Value>>> {
        self.truth_of(stream, &Wanted::default())
    }

    /// Like [`Simulator::truth`], for other statuses or with bodies.
    pub fn truth_of(
        &self,
        stream: &str,
        wanted: &Wanted,
    ) -> Option<Vec<serde_json::Map<String, serde_json::Value>>> {
        self.world.tenant.truth(stream, wanted)
    }

    async fn exchange(&self, call: &Call<'_>, face: Face) -> Outcome {
        let World { tenant, judge, log } = self.world.as_ref();
        let now = Instant::now();
        let flight = log.arrive(now);
        let verdict = judge.decide(call, now);
        let delay = tenant.options.latency + verdict.delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let capacity = match (tenant.options.log_entries, face) {
            (Some(entries), _) => entries,
            (None, Face::Process) => LOG_ENTRIES,
            (None, Face::Socket) => 0,
        };
        if verdict.what == Some(What::Reset) {
            flight.land(call, None, capacity);
            return Outcome::Reset;
        }
        let faulty = verdict.what.as_ref().and_then(|what| faults::reply_for(what, call.path));
        let reply = match faulty {
            Some(reply) => reply,
            None if verdict.burst => judge.burst_reply(),
            None => {
                let repeat = verdict.what == Some(What::RepeatCursor);
                tenant.answer(call, verdict.revoked, repeat)
            }
        };
        flight.land(call, Some(&reply), capacity);
        if verdict.what == Some(What::Truncate) {
            return Outcome::Truncated(reply);
        }
        Outcome::Whole(reply)
    }
}

#[async_trait]
impl Transport for Simulator {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let call = Call {
            method: &request.method,
            path: request.url.path(),
            query: request.url.query().unwrap_or_default(),
            authorization: request
                .headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok()),
        };
        match self.exchange(&call, Face::Process).await {
            Outcome::Whole(reply) => Ok(response(reply)),
            Outcome::Truncated(_) => {
                Err(TransportError::Broken("the body ended before its length".to_owned()))
            }
            Outcome::Reset => Err(TransportError::Broken("connection reset by peer".to_owned())),
        }
    }
}

fn response(reply: Reply) -> Response {
    let Reply { status, headers, body, rows: _, points: _ } = reply;
    Response { status, headers, body }
}
