//! The events of a run on stderr where nothing can be drawn: a line per event worth one, in words or
//! as JSON, and every ten seconds one of totals.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::{
    args::{LogFormat, Shared},
    bars::Bars,
    files, printer,
};
use crate::report::{Event, Reporter, Silent, StreamReport, StreamStatus};

/// Time between two lines of totals.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The reporter for these circumstances. Where a log is asked for, lines do not disturb it.
pub(super) fn reporter(shared: Shared) -> Box<dyn Reporter> {
    let logs = shared.verbose || files::variable("RUST_LOG").is_some();
    match shared.log_format {
        _ if shared.quiet => Box::new(Silent),
        LogFormat::Text if printer::draws() && !logs => Box::new(Bars::new()),
        format => Box::new(Lines::new(format)),
    }
}

/// A line per event worth one.
struct Lines {
    format: LogFormat,
    totals: Mutex<Totals>,
}

struct Totals {
    rows: u64,
    pages: u64,
    next_line: Instant,
    started: Instant,
}

impl Lines {
    fn new(format: LogFormat) -> Self {
        let now = Instant::now();
        let totals = Totals { rows: 0, pages: 0, next_line: now + HEARTBEAT, started: now };
        Self { format, totals: Mutex::new(totals) }
    }

    fn running(&self, rows: u64, pages: u64, seconds: f64) {
        match self.format {
            LogFormat::Json => printer::event(
                &json!({ "event": "running", "rows": rows, "pages": pages, "seconds": seconds }),
            ),
            LogFormat::Text => printer::talk(&format!(
                "running: {} rows from {} pages in {}",
                printer::grouped(rows),
                printer::grouped(pages),
                printer::elapsed(seconds)
            )),
        }
    }
}

impl Reporter for Lines {
    fn report(&self, event: &Event) {
        if let Event::Page { rows, .. } = event {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((rows, pages, seconds)) = totals.count(*rows, Instant::now()) {
                drop(totals);
                self.running(rows, pages, seconds);
            }
        } else if self.format == LogFormat::Json {
            printer::event(event);
        } else if let Some(line) = line(event) {
            printer::talk(&line);
        }
    }
}

impl Totals {
    /// Counts a page; gives rows, pages and seconds when a line is due.
    fn count(&mut self, rows: u64, now: Instant) -> Option<(u64, u64, f64)> {
        self.rows += rows;
        self.pages += 1;
        if now < self.next_line {
            return None;
        }
        self.next_line = now + HEARTBEAT;
        Some((self.rows, self.pages, now.duration_since(self.started).as_secs_f64()))
    }
}

/// The words for an event; none for a page.
pub(super) fn line(event: &Event) -> Option<String> {
    match event {
        Event::Page { .. } => None,
        Event::StreamStarted { stream, feeder: false } => Some(format!("{stream}: started")),
        Event::StreamStarted { stream, feeder: true } => {
            Some(format!("{stream}: started, only to feed its children"))
        }
        Event::Retry { stream, reason, wait, attempt } => Some(format!(
            "{stream}: try {attempt} failed ({reason}); again in {}",
            printer::elapsed(wait.as_secs_f64())
        )),
        Event::SliceSkipped { error } => {
            let slice = if error.slice.is_empty() { "a request" } else { &error.slice };
            Some(format!("{}: {slice} was refused: {}", error.stream, error.message))
        }
        Event::Warning { stream: Some(stream), message } => {
            Some(format!("{stream}: note: {message}"))
        }
        Event::Waiting { reason, until } => Some(format!("waiting until {until}: {reason}")),
        Event::Warning { stream: None, message } => Some(format!("note: {message}")),
        Event::StreamFinished { report } => Some(finished(report)),
    }
}

pub(super) fn finished(report: &StreamReport) -> String {
    let StreamReport { stream, rows, requests, seconds, .. } = report;
    let counts = format!(
        "{}, {}, {}",
        printer::counted(*rows, "row"),
        printer::counted(*requests, "request"),
        printer::elapsed(*seconds)
    );
    match (report.status, &report.error) {
        (StreamStatus::Done, _) if report.earlier => format!("{stream}: done earlier in this run"),
        (StreamStatus::Done, _) => format!("{stream}: done: {counts}"),
        (StreamStatus::Fresh, _) => format!("{stream}: fresh enough, nothing was read"),
        (StreamStatus::Fed, _) => format!("{stream}: fed its children: {counts}"),
        (StreamStatus::Interrupted, _) => format!("{stream}: interrupted; run again to continue"),
        (StreamStatus::Failed, Some(error)) if report.route_refused => {
            format!("{stream}: refused, to be read otherwise where it can: {error}")
        }
        (StreamStatus::Failed, Some(error)) => format!("{stream}: failed: {error}"),
        (StreamStatus::Failed, None) => format!("{stream}: failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SliceError;

    #[test]
    fn totals_are_told_every_ten_seconds() {
        let started = Instant::now();
        let mut totals = Totals { rows: 0, pages: 0, next_line: started + HEARTBEAT, started };
        let mut told = Vec::new();
        for second in 1..=25 {
            told.extend(totals.count(250, started + Duration::from_secs(second)));
        }
        assert_eq!(told, [(2_500, 10, 10.0), (5_000, 20, 20.0)]);
    }

    #[test]
    fn every_event_has_its_words() {
        let stream = || "pages".to_owned();
        let report = |status, error: Option<&str>| StreamReport {
            stream: stream(),
            status,
            object: None,
            rows: 1_250,
            requests: 1,
            points: 0,
            retries: 0,
            bytes: 0,
            duplicates: 0,
            misfits: 0,
            skipped: 0,
            complete: true,
            deleted: 0,
            gaps: Vec::new(),
            notices: Vec::new(),
            reach: "everything".to_owned(),
            route: String::new(),
            route_refused: false,
            earlier: false,
            seconds: 2.04,
            error: error.map(str::to_owned),
            hint: None,
        };
        let error = SliceError {
            stream: stream(),
            slice: "page_id=7".to_owned(),
            url: String::new(),
            status: Some(403),
            message: "Forbidden".to_owned(),
        };
        let reason = "429 Too Many Requests".to_owned();
        let wait = Duration::from_secs(90);
        let events = [
            Event::StreamStarted { stream: stream(), feeder: false },
            Event::StreamStarted { stream: stream(), feeder: true },
            Event::Retry { stream: stream(), reason, wait, attempt: 2 },
            Event::SliceSkipped { error },
            Event::Warning { stream: Some(stream()), message: "set `types`".to_owned() },
            Event::Warning { stream: None, message: "stopping".to_owned() },
            Event::Waiting {
                reason: "60 of the 60 points of this hour are spent".to_owned(),
                until: "2026-01-02T04:00:00Z".to_owned(),
            },
            Event::StreamFinished { report: report(StreamStatus::Done, None) },
            Event::StreamFinished { report: report(StreamStatus::Fed, None) },
            Event::StreamFinished { report: report(StreamStatus::Interrupted, None) },
            Event::StreamFinished { report: report(StreamStatus::Failed, Some("disk full")) },
        ];
        let lines: Vec<String> = events.iter().filter_map(line).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        pages: started
        pages: started, only to feed its children
        pages: try 2 failed (429 Too Many Requests); again in 1m30s
        pages: page_id=7 was refused: Forbidden
        pages: note: set `types`
        note: stopping
        waiting until 2026-01-02T04:00:00Z: 60 of the 60 points of this hour are spent
        pages: done: 1,250 rows, 1 request, 2.0s
        pages: fed its children: 1,250 rows, 1 request, 2.0s
        pages: interrupted; run again to continue
        pages: failed: disk full
        ");
        assert_eq!(line(&Event::Page { stream: stream(), rows: 1, bytes: 1 }), None);
    }
}
