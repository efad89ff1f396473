//! Which route of each stream is the cheapest, and what a run will cost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::state::{Reach, Recall, Way};
use crate::plan::Plan;

/// What a run is expected to ask of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Stream.
    pub stream: String,
    /// Whether it only feeds its children.
    pub feeder: bool,
    /// What is read of it, for a person: `everything`, `changes since …`, `nothing`.
    pub reach: String,
    /// The route by which it is read.
    pub route: String,
    /// Why this route, for a person.
    pub why: String,
    /// Whether the figures rest on assumptions, since no run has shown how much there is.
    pub assumed: bool,
    /// Slices.
    pub slices: u64,
    /// Requests, without retries. One that several streams share counts for the first of them.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
    /// What a complete reading by the stream's own requests would ask for.
    pub naive: Naive,
}

/// What a complete reading by a stream's own requests asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Naive {
    /// Requests.
    pub requests: u64,
    /// Points, by the spec's terms; 0 where no quota holds.
    pub points: u64,
}

/// What a run is expected to ask for, stream by stream in the plan's order. Streams that only feed and
/// are not needed are left out.
pub fn forecast(
    _plan: &Plan,
    _recall: &Recall,
    _ways: &BTreeMap<String, Way>,
    _now: DateTime<Utc>,
) -> Vec<Expected> {
    Vec::new()
}

/// Chooses the routes of the streams that read all there is.
pub(super) fn routes(
    plan: &Plan,
    _recall: &Recall,
    _needs: &BTreeMap<String, Reach>,
    _now: DateTime<Utc>,
) -> BTreeMap<String, usize> {
    let wanted =
        plan.streams.iter().filter_map(|stream| Some((stream.name.clone(), stream.wanted?)));
    wanted.collect()
}
