//! Connection tests, and the lookup of connection fields.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::http::access::{Access, AccessHooks};
use crate::http::exchange::{Request, Transport, TransportError, Url};
use crate::http::response_rules::{Attempt, RequestOutcome, RetryDecision, Rules};
use crate::http::{response_rules, session};
use crate::path::Path;
use crate::plan::{Run, SessionSteps, session_steps};
use crate::secret::shown;
use crate::spec::{Fields, Meaning, Probe, ResponseRule, Spec};
use crate::template::{Expression, Scope, Template, TemplateError, Value};

/// Looks up connection fields that are not set, if the spec declares a lookup for them. Sends no
/// credentials.
pub async fn look_up(spec: &Spec, fields: &mut Fields, transport: &dyn Transport) -> Result<()> {
    let wanted =
        spec.connection.iter().filter_map(|(name, field)| Some((name, field.lookup.as_ref()?)));
    for (name, lookup) in wanted {
        let scope = Arc::new(scope_of(fields));
        let given = fields.open.get(name).is_some_and(|value| !value.is_empty());
        let invalid = |error: TemplateError| Error::input(error.message);
        let when = lookup.when.as_deref().map(Expression::parse).transpose().map_err(invalid)?;
        let needed = when.map_or(Ok(true), |when| when.holds(&scope)).map_err(invalid)?;
        if given || !needed {
            continue;
        }
        let template = Template::parse(&lookup.get).map_err(invalid)?;
        let text = template.render(&scope).map_err(invalid)?;
        let hint = format!("set `{name}` in the connection");
        let failed = |why: String| {
            Error::new(
                Kind::Unreachable,
                format!("`{name}` could not be looked up at `{text}`: {why}"),
            )
            .with_hint(hint.clone())
        };
        let url = Url::parse(&text).map_err(|error| failed(error.to_string()))?;
        let response = transport.send(&Request::get(url)).await;
        let response = response.map_err(|error| failed(error.to_string()))?;
        let body: Option<serde_json::Value> =
            serde_json::from_slice(response.json()).ok().filter(|_| response.status.is_success());
        let path = Path::parse(&lookup.at).map_err(|error| {
            Error::input("the `at` of the spec's lookup is not a valid path").because(error)
        })?;
        let value = body.as_ref().and_then(|body| path.find(body)).and_then(|value| value.as_str());
        let value = value.ok_or_else(|| {
            failed(format!("{} {}", response.status.as_u16(), response_rules::message(&response)))
        })?;
        fields.open.insert(name.clone(), value.to_owned());
    }
    Ok(())
}

fn scope_of(fields: &Fields) -> Scope {
    let open = fields.open.iter();
    Scope::new(open.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect())
}

/// The result of a connection test.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Whether the API accepts the connection.
    pub ok: bool,
    /// The kind of the result.
    pub finding: TestFinding,
    /// The requested URL, without secrets.
    pub url: String,
    /// HTTP status of the response; `None` if there was no response.
    pub status: Option<u16>,
    /// What happened, as shown to users.
    pub message: String,
    /// How to fix it, as shown to users.
    pub hint: Option<String>,
}

/// The kinds of results of a connection test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestFinding {
    /// The API accepts it.
    Accepted,
    /// The host does not exist, refuses connections, or is not the API.
    WrongHost,
    /// The API rejects the credentials.
    WrongCredentials,
    /// The API accepts the credentials, but they lack a permission.
    NoPermission,
    /// The host's certificate is not trusted.
    NotTrusted,
    /// A firewall or proxy blocks the request.
    BlockedEgress,
    /// The API has a temporary problem.
    Trouble,
}

/// Tests a connection: sends the `setup` requests, the spec's test request and the `teardown` requests, each
/// once.
pub async fn probe(
    spec: &Spec,
    fields: &Fields,
    hooks: &AccessHooks,
    transport: &dyn Transport,
) -> Result<Diagnosis> {
    let access = Access::new(spec, fields, hooks)?;
    let client = TestClient { access: &access, transport };
    let test = spec.probe().ok_or_else(|| {
        let what = format!(
            "`{}` has no `test`, and no stream that can be requested without parents",
            spec.name
        );
        Error::input(what).with_hint("add to the spec: test: { get: /me }")
    })?;
    let now = Utc::now();
    let run = Run { id: now.format("%Y%m%d%H%M%S").to_string(), started_at: now };
    let SessionSteps { before, after, mut variables } = session_steps(spec, fields, &run)?;
    let rules = rules_of(spec.responses.iter())?;
    for step in &before {
        let scope = Arc::new(Scope::new(variables.clone()));
        let request = session::step_request(step, &access.base_url, &scope)?;
        let (diagnosis, body) = client.send(request, &rules, !step.capture.is_empty()).await?;
        if !diagnosis.ok {
            return Ok(diagnosis);
        }
        let captured = session::captured(step, &body);
        let what = "a `setup` request failed";
        variables.extend(captured.map_err(|error| error.within(what))?);
    }
    let scope = Arc::new(Scope::new(variables));
    let request = Request::get(probe_url(&test, &access, &scope)?);
    let rules = rules_of(test.responses.iter().chain(&spec.responses))?;
    let (mut diagnosis, _) = client.send(request, &rules, true).await?;
    let refused = diagnosis.finding == TestFinding::WrongCredentials;
    if refused && before.iter().any(|step| !step.capture.is_empty()) {
        diagnosis.message = format!(
            "{}; the `setup` requests succeeded, so the `test` request may lack a value that they capture",
            diagnosis.message
        );
    }
    for step in &after {
        let request = session::step_request(step, &access.base_url, &scope)?;
        client.send(request, &rules, false).await?;
    }
    Ok(diagnosis)
}

fn rules_of<'rule>(rules: impl IntoIterator<Item = &'rule ResponseRule>) -> Result<Rules> {
    Rules::new(rules, Duration::ZERO)
        .map_err(|error| Error::input("a response rule has an invalid path").because(error))
}

/// Sends the requests of a test.
struct TestClient<'test> {
    access: &'test Access,
    transport: &'test dyn Transport,
}

impl TestClient<'_> {
    /// Sends a request once. Returns the diagnosis and the body of the response.
    async fn send(
        &self,
        mut request: Request,
        rules: &Rules,
        wants_json: bool,
    ) -> Result<(Diagnosis, Vec<u8>)> {
        for (name, value) in &self.access.headers {
            request.headers.entry(name).or_insert_with(|| value.clone());
        }
        self.access.auth.authorize(&mut request, self.transport).await?;
        let sent = self.transport.send(&request).await;
        let url = request.url;
        let (finding, status, message, hint) = match &sent {
            Ok(response)
                if response.status.is_success()
                    && (!wants_json || is_json(response.json()))
                    && !rules.concern(response, false) =>
            {
                (TestFinding::Accepted, Some(response.status.as_u16()), "accepted".to_owned(), None)
            }
            Ok(response) => {
                let (means, hint) = means(rules, &RequestOutcome::Response(response));
                let finding = judge(response.status.as_u16(), means, &response.body);
                (finding, Some(response.status.as_u16()), response_rules::message(response), hint)
            }
            Err(error) => {
                let (means, hint) = means(rules, &RequestOutcome::NoResponse(error));
                let finding = match means {
                    Some(Meaning::Egress) => TestFinding::BlockedEgress,
                    _ if error.is_blocked() => TestFinding::BlockedEgress,
                    _ if matches!(error, TransportError::Certificate(_)) => TestFinding::NotTrusted,
                    _ => TestFinding::WrongHost,
                };
                let hint = hint.or_else(|| error.hint().map(str::to_owned));
                (finding, None, shown(&error.to_string()), hint)
            }
        };
        let hint = hint.or_else(|| usual_hint(finding, &url));
        let ok = finding == TestFinding::Accepted;
        let body = sent.map(|response| response.json().to_vec()).unwrap_or_default();
        Ok((Diagnosis { ok, finding, url: url.to_string(), status, message, hint }, body))
    }
}

fn probe_url(test: &Probe, access: &Access, scope: &Arc<Scope>) -> Result<Url> {
    let invalid = |error: TemplateError| {
        Error::input(format!("the `test` request cannot be built: {}", error.message))
            .with_hint("add to the spec: test: { get: /me }")
    };
    let path =
        Template::parse(&test.get).and_then(|path| path.render_path(scope)).map_err(invalid)?;
    let mut url = Url::parse(&format!("{}{path}", access.base_url))
        .map_err(|error| Error::input("the spec's `test` is not a valid URL").because(error))?;
    for (name, values) in &test.query {
        for value in &values.0 {
            let value =
                Template::parse(value).and_then(|value| value.render(scope)).map_err(invalid)?;
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(url)
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// The meaning and the hint that the rules give for an outcome after the last retry.
fn means(rules: &Rules, outcome: &RequestOutcome<'_>) -> (Option<Meaning>, Option<String>) {
    let last = Attempt {
        number: u32::MAX,
        child: false,
        random: 0.5,
        now: DateTime::UNIX_EPOCH,
        accepted: false,
    };
    match rules.decide(outcome, &last) {
        RetryDecision::GiveUp { means, hint, .. } => (means, hint),
        RetryDecision::Retry { .. } => (None, None),
    }
}

fn judge(status: u16, means: Option<Meaning>, body: &[u8]) -> TestFinding {
    match (means, status) {
        (Some(Meaning::Credentials), _) => TestFinding::WrongCredentials,
        (Some(Meaning::Permission), _) => TestFinding::NoPermission,
        (Some(Meaning::Egress), _) | (None, 407) => TestFinding::BlockedEgress,
        (None, 401) => TestFinding::WrongCredentials,
        (None, 403) if is_json(body) => TestFinding::NoPermission,
        // APIs respond with JSON. An HTML page with status 403 is the response of a proxy or firewall.
        (None, 403) => TestFinding::BlockedEgress,
        (None, 429 | 500..) => TestFinding::Trouble,
        (None, _) => TestFinding::WrongHost,
    }
}

fn usual_hint(finding: TestFinding, url: &Url) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    match finding {
        TestFinding::Accepted | TestFinding::NotTrusted => None,
        TestFinding::WrongHost => {
            Some(format!("check that `{host}` is the host of your site and that it is reachable"))
        }
        TestFinding::WrongCredentials => Some("replace the credentials".to_owned()),
        TestFinding::NoPermission => {
            Some("grant access to these credentials, or use others".to_owned())
        }
        TestFinding::BlockedEgress => Some(format!(
            "allow this machine to reach `{host}`: check firewall, proxy and allow-list"
        )),
        TestFinding::Trouble => Some("the API responds with errors; try again later".to_owned()),
    }
}
