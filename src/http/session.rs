//! The requests before and after the streams, and the values that they capture. Expired ones are renewed.

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

/// Number of consecutive useless renewals after which weir stops renewing the session.
pub(crate) const FUTILE: u32 = 3;

/// The session that the requests before the streams opened.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) steps: Vec<StepPlan>,
    pub(crate) rules: Rules,
    /// Template variables besides the captured values.
    pub(crate) variables: BTreeMap<String, Value>,
    pub(crate) captured: Live,
    /// Number of the session, from 1; 0 before the first one.
    pub(crate) number: AtomicU64,
    /// Number of the latest session in which a stream's request was answered.
    pub(crate) accepted: AtomicU64,
    /// Number of consecutive renewals after which the same request was rejected again.
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

    /// Number of the current session.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The scope with the captured values.
    pub(crate) fn seen_by(&self, scope: Scope) -> Scope {
        scope.with_live(&self.captured)
    }

    /// Records that a request was answered in a session. `renewed`: the session was renewed for it.
    pub(crate) fn accept(&self, number: u64, renewed: bool) {
        self.accepted.fetch_max(number, Ordering::Relaxed);
        if renewed {
            self.futile.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a request was answered in the current session.
    pub(crate) fn is_accepted(&self) -> bool {
        let accepted = self.accepted.load(Ordering::Relaxed);
        !self.steps.is_empty() && accepted > 0 && accepted >= self.number()
    }
}

/// Builds a request before or after the streams.
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

/// Captures the values from the response to such a request. No output shows them from then on.
///
/// # Errors
/// The response has no value at a declared path.
pub fn captured(step: &StepPlan, body: &[u8]) -> Result<BTreeMap<String, Value>> {
    let mut captured = BTreeMap::new();
    for (name, path) in &step.capture {
        let value = decode::value_at(body, path).ok_or_else(|| {
            Error::new(Kind::Shape, format!("the response has no value at `{path}` for `{name}`"))
        })?;
        // The value may be a session token. It is hidden only until it is renewed.
        match &value {
            serde_json::Value::String(text) => hide_passing(text),
            value => hide_passing(&value.to_string()),
        }
        captured.insert(name.clone(), from_json(&value));
    }
    Ok(captured)
}
