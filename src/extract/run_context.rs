//! The context that all streams of a run share.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::extract::answered_kinds::AnsweredKinds;
use crate::http::client::Client;
use crate::plan::{Run, StreamPlan};
use crate::progress::session::StateSession;
use crate::queue::Queues;
use crate::template::{Scope, Value};
use crate::write::Target;

/// A queue and its parent streams, for messages.
pub(crate) struct QueueSource {
    pub(crate) queue: String,
    pub(crate) streams: Vec<String>,
}

impl QueueSource {
    pub(crate) fn new(queue: &str, number: usize, streams: &[Arc<StreamPlan>]) -> Self {
        let feeds = |stream: &&Arc<StreamPlan>| {
            let requests = stream.requests.iter().chain(&stream.changes);
            requests.flat_map(|request| &request.feeds).any(|feed| feed.queue == number)
        };
        let streams = streams.iter().filter(feeds).map(|stream| stream.name.clone()).collect();
        Self { queue: queue.to_owned(), streams }
    }
}

impl fmt::Display for QueueSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams: Vec<String> = self.streams.iter().map(|name| format!("`{name}`")).collect();
        match streams.as_slice() {
            [stream] => write!(formatter, "the parent stream {stream}, which feeds")?,
            _ => write!(formatter, "one of the streams {}, which feed", streams.join(", "))?,
        }
        write!(formatter, " `{}`,", self.queue)
    }
}

/// The context that all streams of a run share.
pub(crate) struct RunContext {
    pub(crate) client: Client,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) run: Run,
    pub(crate) queues: Arc<Queues>,
    /// Per queue its name and its parent streams.
    pub(crate) queue_sources: Vec<QueueSource>,
    pub(crate) durable: Option<StateSession>,
    pub(crate) interval: (usize, Duration),
    pub(crate) variables: BTreeMap<String, Value>,
    /// Kinds of requests that the API has answered.
    pub(crate) answered: Arc<AnsweredKinds>,
    /// The time at an instant. In tests the instant follows simulated time.
    pub(crate) clock: (DateTime<Utc>, Instant),
}

impl RunContext {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.clock.1.elapsed()).unwrap_or(TimeDelta::zero());
        self.clock.0 + passed
    }

    /// The values that templates of a stream can use in every slice.
    pub(crate) fn scope(&self, plan: &StreamPlan) -> Scope {
        self.client.session.seen_by(Self::scope_of(&self.variables, plan))
    }

    pub(crate) fn scope_of(shared: &BTreeMap<String, Value>, plan: &StreamPlan) -> Scope {
        let mut variables = shared.clone();
        variables.extend(plan.variables.clone());
        Scope::new(variables)
    }
}
