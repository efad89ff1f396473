//! What a run came to, in words.

use super::printer::{elapsed, grouped, table};
use crate::report::{StreamReport, StreamStatus};
use crate::sync::{RunReport, RunStatus};

/// Recorded errors that are shown; the rest is counted.
const SHOWN_ERRORS: usize = 10;

/// A table of the streams, their failures, the slices that were refused, and what to do next.
pub(super) fn summary(report: &RunReport) -> String {
    let head =
        ["stream", "status", "rows", "rows/s", "requests", "retries", "refused", "time", "where"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(report.streams.iter().map(row));
    let total = |count: fn(&StreamReport) -> u64| report.streams.iter().map(count).sum::<u64>();
    let written =
        |stream: &StreamReport| if stream.status == StreamStatus::Done { stream.rows } else { 0 };
    rows.push(vec![
        "total".to_owned(),
        String::new(),
        grouped(total(written)),
        rate(total(written), report.seconds),
        grouped(total(|stream| stream.requests)),
        grouped(total(|stream| stream.retries)),
        grouped(total(|stream| stream.skipped)),
        elapsed(report.seconds),
    ]);
    let mut parts = vec![table(&rows, &[2, 3, 4, 5, 6, 7])];
    parts.extend(notes(report));
    parts.push(conclusion(report).to_owned());
    parts.join("\n")
}

fn row(stream: &StreamReport) -> Vec<String> {
    let status = match stream.status {
        StreamStatus::Done if stream.complete => "done",
        StreamStatus::Done => "partial",
        StreamStatus::Fed => "fed",
        StreamStatus::Failed => "failed",
        StreamStatus::Interrupted => "stopped",
    };
    vec![
        stream.stream.clone(),
        status.to_owned(),
        grouped(stream.rows),
        rate(stream.rows, stream.seconds),
        grouped(stream.requests),
        grouped(stream.retries),
        grouped(stream.skipped),
        elapsed(stream.seconds),
        stream.object.clone().unwrap_or_default(),
    ]
}

fn rate(rows: u64, seconds: f64) -> String {
    let per_second = u32::try_from(rows).map_or(f64::MAX, f64::from) / seconds.max(0.001);
    if rows == 0 { "0".to_owned() } else { format!("{per_second:.0}") }
}

fn notes(report: &RunReport) -> Vec<String> {
    let mut notes = Vec::new();
    for stream in &report.streams {
        if let Some(error) = &stream.error {
            let hint =
                stream.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            notes.push(format!("error: {}: {error}{hint}", stream.stream));
        }
        if stream.misfits > 0 {
            let count = grouped(stream.misfits);
            notes.push(format!(
                "note: {}: {count} values did not fit their column and are in `_extra`",
                stream.stream
            ));
        }
        if stream.duplicates > 0 {
            let count = grouped(stream.duplicates);
            notes.push(format!(
                "note: {}: {count} rows came twice and were written once",
                stream.stream
            ));
        }
    }
    for error in report.errors.iter().take(SHOWN_ERRORS) {
        let status = error.status.map(|status| format!("{status} ")).unwrap_or_default();
        notes.push(format!(
            "refused: {}: {}: {status}{} ({})",
            error.stream, error.slice, error.message, error.url
        ));
    }
    if let Some(more) = report.errors.len().checked_sub(SHOWN_ERRORS).filter(|more| *more > 0) {
        notes.push(format!("refused: and {more} more; --json lists them all"));
    }
    notes
}

fn conclusion(report: &RunReport) -> &'static str {
    match report.status {
        RunStatus::Done => "done",
        RunStatus::DoneWithErrors => "done, without the slices that were refused (exit code 3)",
        RunStatus::Failed => "failed: tables of failed streams are as they were before",
        RunStatus::Interrupted => {
            "interrupted: tables of streams that were not done are as they were before; run again to start over"
        }
    }
}
