//! The requests before and after the streams: what they capture, and how it is replaced once the API takes it no
//! longer.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::Mutex;

use crate::http::exchange::{HeaderName, Method};
use crate::http::request::BodyPlan;
use crate::path::Path;
use crate::template::Template;
use crate::http::answer::{Answer, Answered};
use crate::http::request;
use crate::http::client::{Call, Client, Need};
use crate::quota::request_cost::{Estimate, Price};
use crate::report::counters::Stats;
use crate::decode;
use crate::error::{Error, Kind, Result};
use crate::http::exchange::{Request, StatusCode};
use crate::quota::cost::Cost;
use crate::http::response_rules::{Outcome, Rules, Verdict};
use crate::secret::hide_passing;
use crate::spec::{Meaning, Then};
use crate::template::{Live, Scope, Value, from_json};

/// A request before or after the streams, compiled.
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
    /// Variables to set from the answer.
    pub capture: Vec<(String, Path)>,
}

/// Renewals in a row that helped nothing, after which the session is not blamed any more.
const FUTILE: u32 = 3;

/// What the requests before the streams brought.
#[derive(Default)]
pub(crate) struct Session {
    steps: Vec<StepPlan>,
    rules: Rules,
    /// Values that templates see besides those that are captured.
    variables: BTreeMap<String, Value>,
    captured: Live,
    /// Times that the requests were sent, from 1; 0 before.
    number: AtomicU64,
    /// The latest number with which a request of a stream was answered.
    accepted: AtomicU64,
    /// Renewals in a row after which the same request was refused again.
    futile: AtomicU32,
    renewing: Mutex<()>,
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

impl Client {
    /// Sends the requests before the streams.
    pub(crate) async fn log_in(&self) -> Result<()> {
        let captured = self.begin_session().await;
        let captured =
            captured.map_err(|error| error.within("a request before the streams failed"))?;
        self.session.captured.replace(captured);
        self.session.number.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Whether an answer says that the session is over: its credentials are not taken.
    pub(crate) fn is_over(&self, call: &Call<'_>, answered: &Answered) -> bool {
        let Ok(response) = answered else { return false };
        if self.session.steps.is_empty() || call.need == Need::Session {
            return false;
        }
        let attempt = self.last_attempt(call.child);
        match call.rules.decide(&Outcome::Response(response), &attempt) {
            Verdict::Give { means: Some(Meaning::Credentials), .. } => true,
            Verdict::Give { then: Then::Fail, means: None, .. } => {
                response.status == StatusCode::UNAUTHORIZED
            }
            _ => false,
        }
    }

    /// Replaces a session that is over; `false` where that would not help: it was never good for anything, or
    /// new ones are refused as well.
    ///
    /// # Errors
    /// The API gives no other. No request is sent any more then.
    pub(crate) fn renew(
        &self,
        over: u64,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + '_>> {
        Box::pin(async move {
            let session = &self.session;
            let _turn = self.unless_cancelled(session.renewing.lock()).await?;
            if session.number() != over {
                return Ok(true);
            }
            if !session.is_accepted() || session.futile.load(Ordering::Relaxed) >= FUTILE {
                return Ok(false);
            }
            match self.begin_session().await {
                Ok(captured) => {
                    session.captured.replace(captured);
                    session.number.fetch_add(1, Ordering::Release);
                    Ok(true)
                }
                Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Paused) => {
                    Err(error)
                }
                Err(error) => {
                    let what = "the session has expired, and a request for a new one failed";
                    Err(self.lockout.know(&error.within(what)))
                }
            }
        })
    }

    /// Takes note that a request was refused in a session that was made for it.
    pub(crate) fn note_futile(&self) {
        self.session.futile.fetch_add(1, Ordering::Relaxed);
    }

    async fn begin_session(&self) -> Result<BTreeMap<String, Value>> {
        let mut captured = BTreeMap::new();
        let mut variables = self.session.variables.clone();
        for step in &self.session.steps {
            let new = self.perform(step, &Scope::new(variables.clone())).await?;
            variables.extend(new.clone());
            captured.extend(new);
        }
        Ok(captured)
    }

    /// Sends the requests after the streams; returns the failures.
    pub(crate) async fn log_out(&self, steps: &[StepPlan]) -> Vec<Error> {
        let scope = self.session.seen_by(Scope::new(self.session.variables.clone()));
        let mut failures = Vec::new();
        for step in steps {
            failures.extend(self.perform(step, &scope).await.err());
        }
        failures
    }

    async fn perform(&self, step: &StepPlan, scope: &Scope) -> Result<BTreeMap<String, Value>> {
        let scope = Arc::new(scope.clone());
        let stats = Stats::default();
        let call = Call {
            need: Need::Session,
            leaves: false,
            shared: false,
            price: Price { cost: Cost::default(), estimate: &Estimate::new(0), page: None },
            stream: "setup",
            stats: &stats,
            rules: &self.session.rules,
            child: false,
            build: &|| step_request(step, &self.access.base_url, &scope),
            shrink: &|| false,
            narrow: &|| false,
        };
        let answer = self.ask(&call, |response| Ok((response.json().to_vec(), 0)));
        match answer.await? {
            Answer::Read(body) => captured(step, &body),
            Answer::Failed(failed) => Err(failed.error),
            Answer::Given { message, .. } => Err(Error::new(Kind::Rejected, message)),
        }
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
