//! Streams of which the API refused the route, or the listing of changes, once more by their own requests.

use crate::plan::OWN;
use crate::report::{StreamReport, StreamStatus};
use crate::sync::report::RunReport;

/// Names of the streams that failed because the API refuses their route, or to list what changed.
pub(crate) fn refused(streams: &[StreamReport]) -> Vec<String> {
    let streams = streams.iter();
    let refused = streams.filter(|one| one.route_refused && one.status == StreamStatus::Failed);
    refused.map(|one| one.stream.clone()).collect()
}

/// What is told of a stream that is to be read anew.
pub(crate) fn told(report: &StreamReport) -> String {
    let why = report.error.as_deref().unwrap_or("it was refused");
    if report.route == OWN {
        return format!("the listing of changes is left, and the stream read whole: {why}");
    }
    format!("the route `{}` is left for the stream's own requests: {why}", report.route)
}

/// The report of a run with that of its streams that were read anew.
pub(crate) fn merged(first: &RunReport, mut second: RunReport) -> RunReport {
    for stream in &mut second.streams {
        let Some(known) = first.streams.iter().find(|one| one.stream == stream.stream) else {
            continue;
        };
        if stream.earlier {
            *stream = known.clone();
            continue;
        }
        stream.deleted += known.deleted;
        stream.requests += known.requests;
        stream.points += known.points;
        stream.retries += known.retries;
        stream.bytes += known.bytes;
        stream.seconds += known.seconds;
    }
    second.continued = first.continued;
    if let (Some(before), Some(points)) = (&first.points, &mut second.points) {
        points.spent += before.spent;
        points.waits += before.waits;
        points.waited_seconds += before.waited_seconds;
    }
    second
}
