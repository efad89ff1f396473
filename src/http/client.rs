//! The client of one connection. It paces, authenticates, sends and settles requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::decode::DecodeError;
use crate::error::{Error, Kind, Result};
use crate::hash;
use crate::http::access::Access;
use crate::http::answer::{Answered, is_too_many, said};
use crate::http::call::Call;
use crate::http::exchange::{Request, Response, StatusCode, Transport, TransportError};
use crate::http::lockout::Lockout;
use crate::http::response_rules;
use crate::http::response_rules::Attempt;
use crate::http::session::Session;
use crate::quota::budget::PointsBudget;
use crate::quota::pacing::Pacer;
use crate::quota::request_cost::RequestCost;
use crate::quota::reservations::Reserved;
use crate::report::{Event, PointsReport, Reporter};

/// Sends all requests of one connection.
pub(crate) struct Client {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) pacer: Pacer,
    pub(crate) access: Arc<Access>,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(crate) cancel: CancellationToken,
    pub(crate) jitter: Jitter,
    /// `None` without a quota.
    pub(crate) budget: Option<Arc<PointsBudget>>,
    /// Number of requests answered so far.
    pub(crate) answered: AtomicU64,
    /// The failure that concerns all requests, once it is known.
    pub(crate) lockout: Lockout,
    /// The session that the requests before the streams opened.
    pub(crate) session: Session,
}

/// What a response contained.
#[derive(Clone, Copy)]
enum ResponseContents {
    /// No records: the request failed.
    Nothing,
    /// An unknown number of records: the body could not be read.
    Unread,
    /// This many records.
    Objects(u64),
}

impl Client {
    /// Sends a request once and reads the response.
    pub(crate) async fn try_once<T>(
        &self,
        call: &Call<'_>,
        request: &mut Request,
        read: &(impl Fn(&Response) -> Result<(T, u64), DecodeError> + Send + Sync),
    ) -> Result<(Answered, Option<Result<T, DecodeError>>)> {
        let mut reserved = None;
        let sent = self.send(request, call, &mut reserved).await;
        let answered = match &sent {
            Ok(Ok(response)) if !call.rules.concern(response, call.child) => Some(read(response)),
            _ => None,
        };
        let contents = match &answered {
            Some(Ok((_, objects))) => ResponseContents::Objects(*objects),
            Some(Err(_)) => ResponseContents::Unread,
            None => ResponseContents::Nothing,
        };
        self.settle(call, reserved, &sent, contents);
        Ok((sent?, answered.map(|read| read.map(|(value, _)| value))))
    }

    /// Waits before another attempt. `all`: the server requested the wait, so it applies to all requests.
    pub(crate) async fn wait(&self, wait: Duration, all: bool) -> Result<()> {
        if !all {
            return self.unless_cancelled(tokio::time::sleep(wait)).await;
        }
        if let Some(pause) = self.budget.as_ref().and_then(|budget| budget.rest(wait)) {
            return Err(pause);
        }
        self.pacer.pause(wait);
        Ok(())
    }

    pub(crate) async fn reserve(&self, call: &Call<'_>) -> Result<Option<Reserved>> {
        let Some(budget) = &self.budget else { return Ok(None) };
        self.unless_cancelled(budget.reserve(call.price)).await?.map(Some)
    }

    /// Whether the run is paused because its budget is spent.
    pub(crate) fn is_paused(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_paused())
    }

    /// Releases the points that are left, and reports what was spent.
    pub(crate) async fn close(&self) -> Option<PointsReport> {
        match &self.budget {
            Some(budget) => Some(budget.close().await),
            None => None,
        }
    }

    /// The pause of the run if a 429 requests a longer wait than `max_wait`.
    pub(crate) fn pause(&self, answered: &Answered) -> Option<Error> {
        let response = answered.as_ref().ok().filter(|_| is_too_many(answered))?;
        let wait = response_rules::retry_after(response, Utc::now())?;
        self.budget.as_ref()?.too_long(wait)
    }

    /// Records the cost of an attempt.
    fn settle(
        &self,
        call: &Call<'_>,
        reserved: Option<Reserved>,
        sent: &Result<Answered>,
        contents: ResponseContents,
    ) {
        let response = sent.as_ref().ok().and_then(|sent| sent.as_ref().ok());
        let RequestCost { cost, estimate, .. } = call.price;
        let known = |objects: u64| cost.base + cost.object * objects;
        let points = match (response, &contents) {
            // A 429 costs nothing.
            (Some(one), _) if one.status == StatusCode::TOO_MANY_REQUESTS => Some(0),
            (Some(_), ResponseContents::Nothing) => Some(known(0)),
            (Some(_), ResponseContents::Objects(objects)) => Some(known(*objects)),
            (None, _) if matches!(sent, Ok(Err(TransportError::Connect(_)))) => Some(0),
            // The number of records is unknown: assumes the largest one seen so far.
            (Some(_), ResponseContents::Unread) => estimate.seen().map(known),
            // Without a response, the cost is unknown.
            (None, _) => None,
        };
        if let ResponseContents::Objects(objects) = contents {
            estimate.learn(objects);
        }
        if sent.is_ok() || reserved.is_some() {
            let least = points.unwrap_or(known(0));
            call.stats.points.fetch_add(least, Ordering::Relaxed);
            if call.shared {
                call.stats.shared_points.fetch_add(least, Ordering::Relaxed);
            }
        }
        if let (Some(budget), Some(reserved)) = (&self.budget, reserved) {
            budget.settle(reserved, points, response.map(|one| &one.headers));
        }
    }

    pub(crate) async fn send(
        &self,
        request: &mut Request,
        call: &Call<'_>,
        reserved: &mut Option<Reserved>,
    ) -> Result<Answered> {
        let stats = call.stats;
        for (name, value) in &self.access.headers {
            request.headers.entry(name).or_insert_with(|| value.clone());
        }
        let auth = self.access.auth.authorize(request, self.transport.as_ref());
        // Not cancellable: a refresh token that was used must be replaced in its store.
        auth.await?;
        let _place = self.unless_cancelled(self.pacer.enter()).await?;
        // Reserves last, so that waiting requests reserve no points.
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
            self.pacer.answered(started.elapsed(), pressed.contains(&response.status));
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

    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = T> + Send,
    ) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted()),
            done = work => Ok(done),
        }
    }

    /// A last attempt: the rules then decide without a retry.
    pub(crate) fn last_attempt(&self, child: bool) -> Attempt {
        let (number, random) = (u32::MAX, self.jitter.next());
        Attempt { number, child, random, now: Utc::now(), accepted: false }
    }

    pub(crate) fn note_retry(
        &self,
        call: &Call<'_>,
        answered: &Answered,
        wait: Duration,
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

/// The error of a cancelled run.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the run was stopped")
}

/// Random numbers from 0 (inclusive) to 1 (exclusive) for jitter, seeded with the run id (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Jitter {
    pub(crate) fn of(run_id: &str) -> Self {
        Self(AtomicU64::new(hash::fnv(run_id.bytes())))
    }

    pub(crate) fn next(&self) -> f64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or_default();
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}
