//! Sends a request until it is answered or given up: retries by the rules, renewal of expired sessions, and
//! failures that concern all requests.

use std::{
    collections::BTreeMap,
    mem::discriminant,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use chrono::Utc;

use crate::decode::DecodeError;
use crate::error::{Error, Kind, Result};
use crate::http::answer::{
    Answer, Answered, Cause, FailedRequest, cause_of, failure, is_heavy, is_refused, is_too_heavy,
    is_too_many, said, unreadable,
};
use crate::http::call::{Call, Need};
use crate::http::client::Client;
use crate::http::exchange::{Request, Response, StatusCode, TransportError, Url};
use crate::http::lockout::{FailureContext, Suspicion, is_html, suspicion};
use crate::http::response_rules::{Attempt, RequestOutcome, RetryDecision};
use crate::http::session::{FUTILE, StepPlan, captured, step_request};
use crate::quota::cost::PointRates;
use crate::quota::request_cost::{ObjectEstimate, RequestCost};
use crate::report::counters::Stats;
use crate::spec::{Meaning, Then};
use crate::template::{Scope, Value};

/// A request after its last attempt.
struct GivenUp {
    url: Url,
    answered: Answered,
    /// Number of requests answered when it was first sent.
    before: u64,
}

impl Client {
    /// Sends a request until it is answered or given up. `read` parses the response and counts its records.
    ///
    /// # Errors
    /// The stream fails according to the rules, or the run was cancelled.
    pub(crate) async fn ask<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Response) -> Result<(T, u64), DecodeError> + Send + Sync,
    ) -> Result<Answer<T>> {
        let before = self.answered.load(Ordering::Relaxed);
        let (mut number, mut renewed) = (0, false);
        loop {
            number += 1;
            if let Some(error) = self.lockout.error() {
                return Err(error);
            }
            let session = self.session.number();
            let mut request = (call.build)()?;
            let (sent, read) = self.try_once(call, &mut request, &read).await?;
            let answered = match (sent, read) {
                (Ok(_), Some(Ok(value))) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    if call.need != Need::Session {
                        self.session.accept(session, renewed);
                    }
                    return Ok(Answer::Read(value));
                }
                (Ok(response), Some(Err(DecodeError::Malformed(why)))) => {
                    Err(unreadable(&response, &why))
                }
                (Ok(_), Some(Err(error))) => {
                    let what =
                        format!("the response to `{}` was not understood", request.url.path());
                    return Err(Error::new(Kind::Shape, what).because(error));
                }
                (sent, _) => sent,
            };
            if self.is_over(call, &answered) {
                if renewed {
                    self.note_futile();
                } else if self.renew(session).await? {
                    self.note_retry(call, &answered, Duration::ZERO, number);
                    renewed = true;
                    continue;
                }
            }
            let smaller = is_too_heavy(&answered, number) && (call.shrink)();
            if smaller && matches!(answered, Err(TransportError::TooLarge(_))) {
                self.note_retry(call, &answered, Duration::ZERO, number);
                continue;
            }
            let verdict = match self.decide(call, &answered, number).await? {
                RetryDecision::Retry { wait, asked } => {
                    self.note_retry(call, &answered, wait, number);
                    self.wait(wait, asked || is_too_many(&answered)).await?;
                    continue;
                }
                RetryDecision::GiveUp { .. } if is_heavy(&answered) && (call.narrow)() => {
                    // Each page size has two attempts.
                    self.note_retry(call, &answered, Duration::ZERO, number);
                    number = 1;
                    continue;
                }
                verdict @ RetryDecision::GiveUp { .. } => verdict,
            };
            let given = GivenUp { url: request.url, answered, before };
            return self.given(call, given, verdict).await;
        }
    }

    /// Applies the rules to a failed attempt. The response for a single object does not prove that the
    /// credentials are wrong: if the API accepts them elsewhere, rules that blame them do not apply.
    async fn decide(
        &self,
        call: &Call<'_>,
        answered: &Answered,
        number: u32,
    ) -> Result<RetryDecision> {
        let outcome = match answered {
            Ok(response) => RequestOutcome::Response(response),
            Err(error) => RequestOutcome::NoResponse(error),
        };
        let number = if call.need == Need::Idle { u32::MAX } else { number };
        let (child, random) = (call.child, self.jitter.next());
        let attempt = Attempt { number, child, random, now: Utc::now(), accepted: false };
        let verdict = call.rules.decide(&outcome, &attempt);
        let accuses =
            matches!(verdict, RetryDecision::GiveUp { means: Some(Meaning::Credentials), .. });
        if accuses && child && self.is_accepted(call).await? {
            return Ok(call.rules.decide(&outcome, &Attempt { accepted: true, ..attempt }));
        }
        Ok(verdict)
    }

    /// The answer for a request that is given up.
    async fn given<T>(
        &self,
        call: &Call<'_>,
        GivenUp { url, answered, before }: GivenUp,
        verdict: RetryDecision,
    ) -> Result<Answer<T>> {
        let RetryDecision::GiveUp { then, means, hint } = verdict else {
            return Err(Error::new(Kind::Unreachable, "the request was retried without end"));
        };
        let (status, message) = said(&answered);
        if call.need == Need::Tentative && is_refused(&answered) {
            let then = if then == Then::Gone { then } else { Then::SkipSlice };
            return Ok(Answer::Given { then, means, url, status, message });
        }
        if then != Then::Fail {
            return Ok(Answer::Given { then, means, url, status, message });
        }
        if let Some(pause) = self.pause(&answered) {
            return Err(pause);
        }
        let error = failure(&url, &answered, means, hint);
        let failed = FailureContext { url: &url, answered: &answered, before, error: &error };
        if call.leaves
            && let Some(error) = self.locked_out(call, failed).await?
        {
            return Err(error);
        }
        let accused = call.child && call.leaves && error.kind() == Kind::Credentials;
        let cause = if accused && self.is_accepted(call).await? {
            // The API accepts the credentials, except for this object.
            Some(Cause::Refused)
        } else {
            cause_of(&answered, &url).filter(|_| call.leaves && means.is_none())
        };
        let Some(cause) = cause else { return Err(error) };
        // If the API answers no request at all, this request is not the cause.
        let alone = cause == Cause::Heavy && self.answered.load(Ordering::Relaxed) == before;
        if alone && !self.is_accepted(call).await? {
            return Err(error);
        }
        Ok(Answer::Failed(Box::new(FailedRequest { error, url, status, message, cause })))
    }
}

/// Sessions.
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

    /// Whether a response states that the session has expired: the API rejects its credentials.
    pub(crate) fn is_over(&self, call: &Call<'_>, answered: &Answered) -> bool {
        let Ok(response) = answered else { return false };
        if self.session.steps.is_empty() || call.need == Need::Session {
            return false;
        }
        let attempt = self.last_attempt(call.child);
        match call.rules.decide(&RequestOutcome::Response(response), &attempt) {
            RetryDecision::GiveUp { means: Some(Meaning::Credentials), .. } => true,
            RetryDecision::GiveUp { then: Then::Fail, means: None, .. } => {
                response.status == StatusCode::UNAUTHORIZED
            }
            _ => false,
        }
    }

    /// Replaces an expired session. Returns `false` if that would not help: the API never accepted the session,
    /// or it rejected new sessions as well.
    ///
    /// # Errors
    /// The API does not open a new session. No further requests are sent.
    pub(crate) fn renew(
        &self,
        over: u64,
    ) -> Pin<Box<dyn Future<Output = Result<bool>> + Send + '_>> {
        Box::pin(async move {
            let session = &self.session;
            let _guard = self.unless_cancelled(session.renewing.lock()).await?;
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

    /// Counts a session that was renewed for a request and rejected again.
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

    /// Sends the requests after the streams. Returns the failures.
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
            price: RequestCost {
                cost: PointRates::default(),
                estimate: &ObjectEstimate::new(0),
                page: None,
            },
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

/// Failures that concern all requests.
impl Client {
    /// The error of all streams, if a request was given up for a reason that concerns them all.
    pub(crate) async fn locked_out(
        &self,
        call: &Call<'_>,
        refused: FailureContext<'_>,
    ) -> Result<Option<Error>> {
        let now = self.answered.load(Ordering::Relaxed);
        let Some(suspicion) = suspicion(&refused, now) else { return Ok(None) };
        let _guard = self.unless_cancelled(self.lockout.testing.lock()).await?;
        if let Some(error) = self.lockout.error() {
            return Ok(Some(error));
        }
        let all = match suspicion {
            Suspicion::Credentials => {
                !self.session.is_accepted() && self.test(call).await? == Some(false)
            }
            Suspicion::Alike => self.fails_alike(call, &refused).await?,
            Suspicion::Host => true,
        };
        if !all {
            return Ok(None);
        }
        let begin = match suspicion {
            Suspicion::Credentials => "the API does not accept the credentials: ",
            Suspicion::Alike => "all requests fail in the same way: ",
            Suspicion::Host => "",
        };
        let error = refused.error;
        let what = format!("{begin}{} (requested for `{}`)", error.chain(), call.stream);
        let all = Error::new(error.kind(), what);
        let all = match error.hint() {
            Some(hint) => all.with_hint(hint),
            None => all,
        };
        Ok(Some(self.lockout.know(&all)))
    }

    /// Whether the API accepts the credentials, according to the connection test.
    pub(crate) async fn is_accepted(&self, call: &Call<'_>) -> Result<bool> {
        Ok(self.test(call).await? == Some(true))
    }

    /// Whether the API accepts the credentials, according to the connection test; `None` if its result is
    /// inconclusive, or the spec has no test.
    fn test<'ask>(
        &'ask self,
        call: &'ask Call<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<bool>>> + Send + 'ask>> {
        Box::pin(async move {
            let Some(test) = self.test_url() else { return Ok(None) };
            let build = || Ok(Request::get(test.clone()));
            match self.ask(&testing(call, &build), |_| Ok(((), 1))).await {
                Ok(Answer::Read(())) => Ok(Some(true)),
                Ok(_) => Ok(None),
                Err(error) => match error.kind() {
                    Kind::Interrupted | Kind::Paused => Err(error),
                    Kind::Credentials => Ok(Some(false)),
                    _ => Ok(None),
                },
            }
        })
    }

    /// URL of the connection test.
    fn test_url(&self) -> Option<Url> {
        let test = self.access.test.as_ref()?;
        let scope = self.session.seen_by(test.scope());
        test.url(&self.access.base_url, &Arc::new(scope))
    }

    /// Whether the connection test, sent once, fails like another request. `false` if both have the same path,
    /// because the test would prove nothing.
    async fn fails_alike(&self, call: &Call<'_>, refused: &FailureContext<'_>) -> Result<bool> {
        let Some(test) = self.test_url().filter(|test| test.path() != refused.url.path()) else {
            return Ok(false);
        };
        let build = || Ok(Request::get(test.clone()));
        let read = |response: &Response| {
            let other = || DecodeError::NotJson("something else".to_owned());
            is_json(response).then_some(((), 1)).ok_or_else(other)
        };
        let mut request = build()?;
        let (sent, read) = self.try_once(&testing(call, &build), &mut request, &read).await?;
        let result = match (sent, read) {
            (Ok(response), Some(Err(_))) => Err(unreadable(&response, "not JSON")),
            (sent, _) => sent,
        };
        Ok(match (refused.answered, &result) {
            (Ok(one), Ok(other)) => one.status == other.status && is_html(other),
            (Err(one), Err(other)) => discriminant(one) == discriminant(other),
            _ => false,
        })
    }
}

/// A call for the connection test.
fn testing<'call>(
    call: &Call<'call>,
    build: &'call (dyn Fn() -> Result<Request> + Send + Sync),
) -> Call<'call> {
    Call {
        child: false,
        need: Need::Session,
        leaves: false,
        price: RequestCost { page: None, ..call.price },
        build,
        shrink: &|| false,
        narrow: &|| false,
        ..*call
    }
}

fn is_json(response: &Response) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(response.json()).is_ok()
}
