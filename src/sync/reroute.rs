//! Streams whose route or incremental read the API refused. They are read again by their default route.

use crate::plan::OWN;
use crate::report::{StreamReport, StreamStatus};
use crate::sync::report::RunReport;

/// Names of the streams that failed because the API refused their route or their incremental read.
pub(crate) fn refused(streams: &[StreamReport]) -> Vec<String> {
    let streams = streams.iter();
    let refused = streams.filter(|one| one.route_refused && one.status == StreamStatus::Failed);
    refused.map(|one| one.stream.clone()).collect()
}

/// The warning about a stream that is read again from the start.
pub(crate) fn warning(report: &StreamReport) -> String {
    let why = report.error.as_deref().unwrap_or("the API refused it");
    if report.route == OWN {
        return format!(
            "the incremental read is not possible; weir reads the stream in full: {why}"
        );
    }
    format!(
        "the route `{}` cannot be used; weir reads the stream by its default route: {why}",
        report.route
    )
}

/// The report of a run, merged with the report of its streams that were read again.
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
