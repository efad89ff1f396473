//! A bounded log of requests, and cheap counters.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use hyper::Method;

use crate::api::answer::{IncomingRequest, Reply};

/// A request and its outcome.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// Number of the request, from 1, in the order of arrival.
    pub sequence: u64,
    /// When it arrived.
    pub started: Instant,
    /// When its response was ready, delays included.
    pub finished: Instant,
    /// Method.
    pub method: Method,
    /// Path, including the gateway's prefix.
    pub path: Box<str>,
    /// Query string, as sent.
    pub query: Box<str>,
    /// Status; 0 if the connection was reset.
    pub status: u16,
    /// Number of objects returned.
    pub rows: usize,
    /// Number of requests in flight at its arrival, including itself.
    pub in_flight: usize,
    /// Its cost in points, by the API's model.
    pub points: u64,
}

/// Totals of all requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Number of requests that got a response or were reset.
    pub requests: u64,
    /// Number of objects returned.
    pub rows: u64,
    /// Bytes of the bodies.
    pub bytes: u64,
    /// Points, by the API's model.
    pub points: u64,
    /// Number of requests without a 2xx response.
    pub refused: u64,
}

/// The log and the counters.
#[derive(Debug, Default)]
pub(crate) struct RequestLog {
    entries: Mutex<VecDeque<LoggedRequest>>,
    arrived: AtomicU64,
    airborne: AtomicUsize,
    max_in_flight: AtomicUsize,
    sums: [AtomicU64; 5],
}

/// A request in flight. It ends when dropped, also if its caller gives up.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    log: &'a RequestLog,
    sequence: u64,
    started: Instant,
    together: usize,
}

impl RequestLog {
    pub(crate) fn arrive(&self, now: Instant) -> Flight<'_> {
        let sequence = self.arrived.fetch_add(1, Ordering::Relaxed) + 1;
        let together = self.airborne.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_in_flight.fetch_max(together, Ordering::Relaxed);
        Flight { log: self, sequence, started: now, together }
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<LoggedRequest> = entries.iter().cloned().collect();
        entries.sort_by_key(|entry| entry.sequence);
        entries
    }

    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn counters(&self) -> Counters {
        let [requests, rows, bytes, points, refused] =
            [0, 1, 2, 3, 4].map(|at: usize| self.sums[at].load(Ordering::Relaxed));
        Counters { requests, rows, bytes, points, refused }
    }

    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Flight<'_> {
    /// Number of the request, from 1.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records the outcome of the request; keeps at most `capacity` entries. `None`: it was reset.
    pub(crate) fn land(self, call: &IncomingRequest, reply: Option<&Reply>, capacity: usize) {
        let (rows, points) = reply.map_or((0, 1), |reply| (reply.rows, reply.points));
        let bytes = reply.map_or(0, |reply| reply.body.len());
        let refused = reply.is_none_or(|reply| !reply.status.is_success());
        let sums = [1, rows as u64, bytes as u64, points, u64::from(refused)];
        for (sum, value) in self.log.sums.iter().zip(sums) {
            sum.fetch_add(value, Ordering::Relaxed);
        }
        if capacity == 0 {
            return;
        }
        let entry = LoggedRequest {
            sequence: self.sequence,
            started: self.started,
            finished: Instant::now(),
            method: call.method.clone(),
            path: call.path.into(),
            query: call.query.into(),
            status: reply.map_or(0, |reply| reply.status.as_u16()),
            rows,
            in_flight: self.together,
            points,
        };
        let mut entries = self.log.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= capacity {
            entries.pop_front();
        }
        entries.push_back(entry);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.log.airborne.fetch_sub(1, Ordering::Relaxed);
    }
}
