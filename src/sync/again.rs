//! Streams of which the API refused the route, once more by their own requests.

use std::sync::Arc;

use super::RunReport;
use crate::engine::{Reach, Recall, StreamState};
use crate::plan::{OWN, StreamPlan};
use crate::report::{StreamReport, StreamStatus};
use crate::state::Change;

/// Names of the streams that failed because the API refuses their route.
pub(super) fn refused(report: &RunReport) -> Vec<String> {
    let streams = report.streams.iter();
    let refused = streams.filter(|one| one.route_refused && one.status == StreamStatus::Failed);
    refused.map(|one| one.stream.clone()).collect()
}

/// What is told of a stream that is to be read anew.
pub(super) fn told(report: &StreamReport) -> String {
    let why = report.error.as_deref().unwrap_or("it was refused");
    format!("the route `{}` is left for the stream's own requests: {why}", report.route)
}

/// The changes after which the run goes on with these streams, by their own requests. What only fed their
/// route is not needed any more.
pub(super) fn anew(
    recall: &Recall,
    streams: &[Arc<StreamPlan>],
    report: &RunReport,
) -> Vec<Change> {
    let Some(mut open) = recall.run.clone() else { return Vec::new() };
    let refused = refused(report);
    let mut changes = Vec::new();
    for stream in streams {
        let failed = report.streams.iter().any(|one| {
            one.stream == stream.name && one.status == StreamStatus::Failed && stream.internal
        });
        let Some(then) = open.streams.get_mut(&stream.name) else { continue };
        if refused.contains(&stream.name) {
            OWN.clone_into(&mut then.route);
        } else if failed {
            then.reach = Reach::Nothing;
        } else {
            continue;
        }
        let state = StreamState { last: None, open: None, ..recall.stream(&stream.name) };
        changes.push(state.change(&stream.name));
        changes.extend(recall.without_parts(&stream.name));
    }
    changes.push(open.change());
    changes
}

/// The report of a run with that of its streams that were read anew.
pub(super) fn merged(first: &RunReport, mut second: RunReport) -> RunReport {
    for stream in &mut second.streams {
        let Some(known) = first.streams.iter().find(|one| one.stream == stream.stream) else {
            continue;
        };
        if stream.earlier {
            *stream = known.clone();
            continue;
        }
        stream.requests += known.requests;
        stream.points += known.points;
        stream.retries += known.retries;
        stream.bytes += known.bytes;
        stream.seconds += known.seconds;
    }
    second.continued = first.continued;
    if let (Some(before), Some(points)) = (&first.points, &mut second.points) {
        points.spent += before.spent;
        points.max_points = before.max_points;
        points.waits += before.waits;
        points.waited_seconds += before.waited_seconds;
    }
    second
}
