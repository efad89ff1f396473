//! The requests before and after the streams: what they capture, and how it is replaced once the API takes it no
//! longer.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::Mutex;

use crate::decode;
use crate::error::{Error, Kind, Result};
use crate::http::exchange::{HeaderName, Method, Request};
use crate::http::request;
use crate::http::request::BodyPlan;
use crate::http::response_rules::Rules;
use crate::path::Path;
use crate::secret::hide_passing;
use crate::template::{Live, Scope, Template, Value, from_json};

/// A request sent before or after the streams, compiled.
#[derive(Debug)]
pub struct StepPlan {
    /// Method.
    pub method: Method,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// Headers.
    pub headers: Vec<(HeaderName, Template)>,
    /// Body.
    pub body: Option<BodyPlan>,
    /// Variables to set from the response.
    pub capture: Vec<(String, Path)>,
}

/// Renewals in a row that helped nothing, after which the session is not blamed any more.
pub(crate) const FUTILE: u32 = 3;

/// What the requests before the streams brought.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) rules: Rules,
    /// Values that templates see besides those that are captured.
    pub(crate) variables: BTreeMap<String, Value>,
    pub(crate) captured: Live,
    /// Times that the requests were sent, from 1; 0 before.
    pub(crate) number: AtomicU64,
    /// The latest number with which a request of a stream was answered.
    pub(crate) accepted: AtomicU64,
    /// Renewals in a row after which the same request was refused again.
    pub(crate) futile: AtomicU32,
    pub(crate) renewing: Mutex<()>,
}

impl Session {
    pub(crate) fn new(
        steps: Vec<StepPlan>,
        rules: Rules,
        variables: BTreeMap<String, Value>,
    ) -> Self {
        Self { steps, rules, variables, ..Self::default() }
    }

    /// Number of the present session.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The scope with what was captured last.
    pub(crate) fn seen_by(&self, scope: Scope) -> Scope {
        scope.with_live(&self.captured)
    }

    /// Takes note that a request was answered in a session, which was `renewed` for it.
    pub(crate) fn accept(&self, number: u64, renewed: bool) {
        self.accepted.fetch_max(number, Ordering::Relaxed);
        if renewed {
            self.futile.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a request was answered in the present session.
    pub(crate) fn is_accepted(&self) -> bool {
        let accepted = self.accepted.load(Ordering::Relaxed);
        !self.steps.is_empty() && accepted > 0 && accepted >= self.number()
    }
}

/// A request before or after the streams, filled in.
///
/// # Errors
/// A template has no value.
pub fn step_request(step: &StepPlan, base_url: &str, scope: &Arc<Scope>) -> Result<Request> {
    let path = step.path.render_path(scope).map_err(|error| request::unfilled(&error))?;
    let url = request::url_of(base_url, &path, &step.query, scope)?;
    let mut request = Request::get(url);
    request.method = step.method.clone();
    request::add_body(&mut request, step.body.as_ref(), scope)?;
    request::add_headers(&mut request, &step.headers, scope)?;
    Ok(request)
}

/// What is captured from the answer to such a request; no output shows it from now on.
///
/// # Errors
/// There is nothing where the spec says.
pub fn captured(step: &StepPlan, body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let mut captured = BTreeMap::new();
    for (name, path) in &step.capture {
        let value = decode::value_at(body, path).ok_or_else(|| {
            Error::new(Kind::Shape, format!("the answer has nothing at `{path}` for `{name}`"))
        })?;
        // A session's token, for all that is known: it may be renewed.
        match &value {
            serde_json::Value::String(text) => hide_passing(text),
            value => hide_passing(&value.to_string()),
        }
        captured.insert(name.clone(), from_json(&value));
    }
    Ok(captured)
}
