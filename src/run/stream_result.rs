//! The result of a stream, and its report.

use std::collections::BTreeMap;

use crate::plan::OWN;
use crate::report::{ColumnReport, SliceError, StreamReport, StreamStatus};

/// The result of a stream.
#[derive(Debug)]
pub(crate) struct StreamResult {
    pub(crate) report: StreamReport,
    /// Whether the next run can resume the stream.
    pub(crate) open: bool,
    /// The refused slices.
    pub(crate) refused: Vec<SliceError>,
}

impl StreamResult {
    /// The result of a stream whose task panicked, which is a bug in weir.
    pub(crate) fn broken(stream: &str) -> Self {
        let report = StreamReport {
            complete: false,
            error: Some(
                "the stream stopped unexpectedly: this is a bug in weir; please report it"
                    .to_owned(),
            ),
            hint: Some("run again to continue".to_owned()),
            ..empty(stream, StreamStatus::Failed)
        };
        Self { report, open: true, refused: Vec::new() }
    }
}

/// A report without figures.
pub(crate) fn empty(stream: &str, status: StreamStatus) -> StreamReport {
    StreamReport {
        stream: stream.to_owned(),
        status,
        object: None,
        rows: 0,
        deleted: 0,
        requests: 0,
        points: 0,
        retries: 0,
        bytes: 0,
        duplicates: 0,
        misfits: 0,
        columns: BTreeMap::new(),
        skipped: 0,
        complete: true,
        gaps: Vec::new(),
        notices: Vec::new(),
        reach: "nothing".to_owned(),
        route: OWN.to_owned(),
        route_refused: false,
        earlier: false,
        seconds: 0.0,
        error: None,
        hint: None,
        kind: None,
    }
}

/// The columns that need to be reported.
pub(crate) fn remarkable(
    columns: &BTreeMap<String, ColumnReport>,
) -> BTreeMap<String, ColumnReport> {
    let reported = columns.iter().filter(|(_, column)| column.is_remarkable());
    reported.map(|(name, column)| (name.clone(), column.clone())).collect()
}
