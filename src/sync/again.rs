//! Streams of which the API refused the route, once more by another one.

use std::sync::Arc;

use super::{RunReport, RunStatus};
use crate::plan::Plan;
use crate::report::{StreamReport, StreamStatus};

/// Times that the streams of a run are read anew by another route.
pub(super) const MAX_AGAIN: u32 = 4;

/// Names of the streams that failed because the API refuses their route.
pub(super) fn refused(report: &RunReport) -> Vec<String> {
    let streams = report.streams.iter();
    let refused = streams.filter(|one| one.route_refused && one.status == StreamStatus::Failed);
    refused.map(|one| one.stream.clone()).collect()
}

/// What is told of a stream that is to be read anew.
pub(super) fn told(report: &StreamReport) -> String {
    let why = report.error.as_deref().unwrap_or("it was refused");
    format!("the route `{}` is left for the next one: {why}", report.route)
}

/// Leaves these streams alone in a plan; all others can but feed them.
pub(super) fn narrow(plan: &mut Plan, names: &[String]) {
    plan.definitions.clear();
    for stream in &mut plan.streams {
        let wanted = names.contains(&stream.name);
        let Some(stream) = Arc::get_mut(stream) else { continue };
        if wanted {
            stream.wanted = None;
        } else {
            stream.output = None;
        }
    }
}

/// The report of a run with that of its streams that were read anew.
///
/// A feeder that failed and is not needed any more is left out: whoever waited for it has said so.
pub(super) fn merged(mut first: RunReport, second: RunReport, feeders: &[String]) -> RunReport {
    first.streams.retain(|one| {
        let again = second.streams.iter().any(|other| other.stream == one.stream);
        again || one.status != StreamStatus::Failed || !feeders.contains(&one.stream)
    });
    for stream in second.streams {
        let Some(known) = first.streams.iter_mut().find(|one| one.stream == stream.stream) else {
            first.streams.push(stream);
            continue;
        };
        let before = known.clone();
        // What only fed the others this time has its rows from before.
        let seconds = before.seconds + stream.seconds;
        if stream.status == StreamStatus::Fed {
            known.seconds = seconds;
        } else {
            *known = StreamReport { seconds, ..stream.clone() };
        }
        known.requests = before.requests + stream.requests;
        known.points = before.points + stream.points;
        known.retries = before.retries + stream.retries;
        known.bytes = before.bytes + stream.bytes;
    }
    first.errors.extend(second.errors);
    first.errors_object = second.errors_object.or(first.errors_object);
    first.resumable |= second.resumable;
    let any = |status| first.streams.iter().any(|stream| stream.status == status);
    first.status = if any(StreamStatus::Failed) {
        RunStatus::Failed
    } else if any(StreamStatus::Interrupted) {
        RunStatus::Interrupted
    } else if first.errors.is_empty() {
        RunStatus::Done
    } else {
        RunStatus::DoneWithErrors
    };
    first
}
