//! One request until it is answered: paced, authorised, and sent again as the rules say.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::{estimate::Price, hand::Reserved, purse::Purse, stats::Stats};
use crate::decode::DecodeError;
use crate::error::{Error, Kind, Result};
use crate::fetch::{Request, Response, StatusCode, Transport, TransportError, Url};
use crate::hash;
use crate::plan::Access;
use crate::report::{Event, PointsReport, Reporter};
use crate::respond::{self, Attempt, Outcome, Rules, Verdict};
use crate::secret::shown;
use crate::spec::{Meaning, Then};
use crate::throttle::Throttle;

/// Sends all requests of one connection.
pub(super) struct Client {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) throttle: Throttle,
    pub(super) access: Arc<Access>,
    pub(super) reporter: Arc<dyn Reporter>,
    pub(super) cancel: CancellationToken,
    pub(super) jitter: Jitter,
    /// `None` where requests cost nothing.
    pub(super) purse: Option<Arc<Purse>>,
}

/// A request to be sent, perhaps several times.
pub(super) struct Call<'call> {
    /// Stream it is for.
    pub(super) stream: &'call str,
    pub(super) stats: &'call Stats,
    pub(super) rules: &'call Rules,
    /// Whether it belongs to a slice of a child stream.
    pub(super) child: bool,
    pub(super) need: Need,
    /// Whether it is sent for several streams.
    pub(super) shared: bool,
    /// What a try costs, and how many objects may come.
    pub(super) price: Price<'call>,
    /// Makes the request anew for each try.
    pub(super) build: &'call (dyn Fn() -> Result<Request> + Send + Sync),
    /// Asks for a smaller page from now on; `false` when there is none.
    pub(super) shrink: &'call (dyn Fn() -> bool + Send + Sync),
}

/// How much an answer is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// As the rules say.
    Firm,
    /// Another request can take its place: a refusal is no failure, whatever the rules say.
    Tentative,
    /// Not much: it is tried once.
    Idle,
}

/// What came of a request.
pub(super) enum Answer<T> {
    /// A response, read.
    Read(T),
    /// None, but the rules say how to go on.
    Given {
        then: Then,
        /// What it tells about the connection.
        means: Option<Meaning>,
        /// URL without secrets.
        url: Url,
        status: Option<u16>,
        /// What the server said.
        message: String,
    },
}

/// What an answer brought.
#[derive(Clone, Copy)]
enum Brought {
    /// It was no success.
    Nothing,
    /// It could not be read.
    Unread,
    /// So many objects.
    Objects(u64),
}

impl Client {
    /// Sends a request until it is answered or given up; `read` makes use of the response, and counts
    /// its objects.
    ///
    /// # Errors
    /// The rules say that the stream fails, or the run was told to stop.
    pub(super) async fn ask<T>(
        &self,
        call: &Call<'_>,
        read: impl Fn(&Response) -> Result<(T, u64), DecodeError> + Send + Sync,
    ) -> Result<Answer<T>> {
        for number in 1.. {
            let mut request = (call.build)()?;
            let mut reserved = None;
            let sent = self.send(&mut request, call, &mut reserved).await;
            let answered = match &sent {
                Ok(Ok(response)) if !call.rules.concern(response, call.child) => {
                    Some(read(response))
                }
                _ => None,
            };
            let brought = match &answered {
                Some(Ok((_, objects))) => Brought::Objects(*objects),
                Some(Err(_)) => Brought::Unread,
                None => Brought::Nothing,
            };
            self.settle(call, reserved, &sent, brought);
            let answered = match (answered, sent?) {
                (Some(read), Ok(response)) => match read {
                    Ok((value, _)) => return Ok(Answer::Read(value)),
                    Err(DecodeError::Malformed(why)) => {
                        Err(TransportError::Broken(malformed(&response, &why)))
                    }
                    Err(error) => {
                        let what = format!("`{}` was not understood", request.url.path());
                        return Err(Error::new(Kind::Shape, what).because(error));
                    }
                },
                (_, other) => other,
            };
            let outcome = match &answered {
                Ok(response) => Outcome::Response(response),
                Err(error) => Outcome::NoResponse(error),
            };
            let smaller = too_large(&answered, number) && (call.shrink)();
            if smaller && matches!(answered, Err(TransportError::TooLarge(_))) {
                self.note_retry(call, &answered, std::time::Duration::ZERO, number);
                continue;
            }
            let last = if call.need == Need::Idle { u32::MAX } else { number };
            let (child, random) = (call.child, self.jitter.next());
            let attempt = Attempt { number: last, child, random, now: Utc::now() };
            match call.rules.decide(&outcome, &attempt) {
                Verdict::Retry { wait, asked } => {
                    self.note_retry(call, &answered, wait, number);
                    if asked || is_too_many(&answered) {
                        let pause = self.purse.as_ref().and_then(|purse| purse.rest(wait));
                        if let Some(pause) = pause {
                            return Err(pause);
                        }
                        self.throttle.pause(wait);
                    } else {
                        self.unless_cancelled(tokio::time::sleep(wait)).await?;
                    }
                }
                Verdict::Give { means, .. }
                    if call.need == Need::Tentative && is_refused(&answered) =>
                {
                    let (status, message) = said(&answered);
                    let then = Then::SkipSlice;
                    return Ok(Answer::Given { then, means, url: request.url, status, message });
                }
                Verdict::Give { then: Then::Fail, means, hint } => {
                    if let Some(pause) = self.pause(&answered) {
                        return Err(pause);
                    }
                    return Err(failure(&request.url, &answered, means, hint));
                }
                Verdict::Give { then, means, .. } => {
                    let (status, message) = said(&answered);
                    return Ok(Answer::Given { then, means, url: request.url, status, message });
                }
            }
        }
        Err(Error::new(Kind::Unreachable, "the request was tried without end"))
    }

    async fn reserve(&self, call: &Call<'_>) -> Result<Option<Reserved>> {
        let Some(purse) = &self.purse else { return Ok(None) };
        self.unless_cancelled(purse.reserve(call.price)).await?.map(Some)
    }

    /// Whether the run ends before its work is done, since what it may spend is spent.
    pub(super) fn is_paused(&self) -> bool {
        self.purse.as_ref().is_some_and(|purse| purse.is_paused())
    }

    /// Gives points back that are left, and says what was spent.
    pub(super) async fn close(&self) -> Option<PointsReport> {
        match &self.purse {
            Some(purse) => Some(purse.close().await),
            None => None,
        }
    }

    /// The pause of a run whose request is refused for longer than is waited.
    fn pause(&self, answered: &Result<Response, TransportError>) -> Option<Error> {
        let response = answered.as_ref().ok().filter(|_| is_too_many(answered))?;
        let wait = respond::retry_after(response, Utc::now())?;
        self.purse.as_ref()?.too_long(wait)
    }

    /// Counts what a try has cost.
    fn settle(
        &self,
        call: &Call<'_>,
        reserved: Option<Reserved>,
        sent: &Result<Result<Response, TransportError>>,
        brought: Brought,
    ) {
        let response = sent.as_ref().ok().and_then(|sent| sent.as_ref().ok());
        let Price { cost, estimate, .. } = call.price;
        let known = |objects: u64| cost.base + cost.object * objects;
        let points = match (response, &brought) {
            // What is refused for being too much costs nothing.
            (Some(one), _) if one.status == StatusCode::TOO_MANY_REQUESTS => Some(0),
            (Some(_), Brought::Nothing) => Some(known(0)),
            (Some(_), Brought::Objects(objects)) => Some(known(*objects)),
            (None, _) if matches!(sent, Ok(Err(TransportError::Connect(_)))) => Some(0),
            // The body cannot be read: it is taken to have brought what others have at most.
            (Some(_), Brought::Unread) => estimate.seen().map(known),
            // Nobody knows what the server has counted.
            (None, _) => None,
        };
        if let Brought::Objects(objects) = brought {
            estimate.learn(objects);
        }
        if sent.is_ok() || reserved.is_some() {
            let least = points.unwrap_or(known(0));
            call.stats.points.fetch_add(least, Ordering::Relaxed);
            if call.shared {
                call.stats.shared_points.fetch_add(least, Ordering::Relaxed);
            }
        }
        if let (Some(purse), Some(reserved)) = (&self.purse, reserved) {
            purse.settle(reserved, points, response.map(|one| &one.headers));
        }
    }

    async fn send(
        &self,
        request: &mut Request,
        call: &Call<'_>,
        reserved: &mut Option<Reserved>,
    ) -> Result<Result<Response, TransportError>> {
        let stats = call.stats;
        for (name, value) in &self.access.headers {
            request.headers.entry(name).or_insert_with(|| value.clone());
        }
        let auth = self.access.auth.authorize(request, self.transport.as_ref());
        // A refresh token that was used must be replaced where it is kept, whoever wants to stop.
        auth.await?;
        let _place = self.unless_cancelled(self.throttle.enter()).await?;
        // Only what is about to be sent holds points.
        *reserved = self.reserve(call).await?;
        stats.requests.fetch_add(1, Ordering::Relaxed);
        if call.shared {
            stats.shared.fetch_add(1, Ordering::Relaxed);
        }
        let (stream, figures) = (call.stream.to_owned(), stats.figures());
        self.reporter.report(&Event::Progress { stream, figures });
        let started = tokio::time::Instant::now();
        let sent = self.unless_cancelled(self.transport.send(request)).await?;
        if let Ok(response) = &sent {
            let pressed = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
            self.throttle.answered(started.elapsed(), pressed.contains(&response.status));
            let bytes = u64::try_from(response.body.len()).unwrap_or(u64::MAX);
            stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        tracing::debug!(
            url = %request.url,
            status = sent.as_ref().map_or(0, |response| response.status.as_u16()),
            "request"
        );
        Ok(sent)
    }

    pub(super) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = T> + Send,
    ) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            done = work => Ok(done),
        }
    }

    fn note_retry(
        &self,
        call: &Call<'_>,
        answered: &Result<Response, TransportError>,
        wait: std::time::Duration,
        attempt: u32,
    ) {
        call.stats.retries.fetch_add(1, Ordering::Relaxed);
        let (status, message) = said(answered);
        let reason = status.map_or(message.clone(), |status| format!("{status} {message}"));
        self.reporter.report(&Event::Retry {
            stream: call.stream.to_owned(),
            reason,
            wait,
            attempt,
        });
    }
}

/// The error of a run that was told to stop.
pub(super) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the run was told to stop")
}

/// Whether a smaller page may help: the body is beyond our limit, or the server has failed on this one
/// for a while. Every second failure counts, so that a short outage does not make all later pages small.
fn too_large(answered: &Result<Response, TransportError>, number: u32) -> bool {
    let again = number >= 3 && number % 2 == 1;
    match answered {
        Ok(response) => response.status.is_server_error() && again,
        Err(TransportError::TooLarge(_)) => true,
        Err(TransportError::Timeout) => again,
        Err(_) => false,
    }
}

fn is_too_many(answered: &Result<Response, TransportError>) -> bool {
    answered.as_ref().is_ok_and(|response| response.status == StatusCode::TOO_MANY_REQUESTS)
}

/// Whether the server says that it does not serve such a request.
fn is_refused(answered: &Result<Response, TransportError>) -> bool {
    let refusals = [400, 403, 404, 410];
    answered.as_ref().is_ok_and(|response| refusals.contains(&response.status.as_u16()))
}

fn malformed(response: &Response, why: &str) -> String {
    let html = response.body.trim_ascii_start().starts_with(b"<");
    let what =
        if html { "the answer is a page of HTML, not JSON" } else { "the answer is not JSON" };
    format!("{what} ({why})")
}

/// Status and words of an answer that is no success.
fn said(answered: &Result<Response, TransportError>) -> (Option<u16>, String) {
    match answered {
        Ok(response) => (Some(response.status.as_u16()), respond::message(response)),
        Err(error) => (None, shown(&error.to_string())),
    }
}

fn failure(
    url: &Url,
    answered: &Result<Response, TransportError>,
    means: Option<Meaning>,
    hint: Option<String>,
) -> Error {
    let (status, message) = said(answered);
    let place = url.path();
    let (kind, what) = match (status, means) {
        (Some(status), Some(Meaning::Permission)) => {
            (Kind::Permission, format!("`{place}` was refused: {status} {message}"))
        }
        (Some(status), Some(Meaning::Credentials)) => {
            (Kind::Credentials, format!("`{place}` was refused: {status} {message}"))
        }
        (Some(401), None) => (Kind::Credentials, format!("`{place}` was refused: 401 {message}")),
        (Some(status), _) => (Kind::Rejected, format!("`{place}` was refused: {status} {message}")),
        (None, _) => {
            let host = url.host_str().unwrap_or_default();
            (Kind::Unreachable, format!("`{host}` did not answer `{place}`: {message}"))
        }
    };
    let error = Error::new(kind, what);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Numbers from 0 to 1 by which waits are spread out, the same for the same run (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Jitter(AtomicU64);

impl Jitter {
    pub(super) fn of(run_id: &str) -> Self {
        Self(AtomicU64::new(hash::fnv(run_id.bytes())))
    }

    fn next(&self) -> f64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default();
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}
