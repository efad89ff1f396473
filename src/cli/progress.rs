//! The events of a run on stderr: a line per active stream on a terminal, a line per event elsewhere.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{args::LogFormat, printer};
use crate::report::{Event, Reporter, StreamReport, StreamStatus};

/// Time between two lines of totals where nothing is drawn.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The reporter for these circumstances.
pub(super) fn reporter(quiet: bool, format: LogFormat) -> Box<dyn Reporter> {
    match format {
        _ if quiet => Box::new(crate::report::Silent),
        LogFormat::Json => Box::new(JsonLines),
        LogFormat::Text if printer::draws() => Box::new(Bars::new()),
        LogFormat::Text => Box::new(Lines::new()),
    }
}

/// One JSON object per event.
struct JsonLines;

impl Reporter for JsonLines {
    fn report(&self, event: &Event) {
        if !matches!(event, Event::Page { .. }) {
            printer::talk(&serde_json::to_string(event).unwrap_or_default());
        }
    }
}

/// A plain line per event worth one.
struct Lines {
    totals: Mutex<Totals>,
}

struct Totals {
    rows: u64,
    requests: u64,
    next_line: Instant,
    started: Instant,
}

impl Lines {
    fn new() -> Self {
        let now = Instant::now();
        let totals = Totals { rows: 0, requests: 0, next_line: now + HEARTBEAT, started: now };
        Self { totals: Mutex::new(totals) }
    }
}

impl Reporter for Lines {
    fn report(&self, event: &Event) {
        if let Event::Page { rows, .. } = event {
            let mut totals = locked(&self.totals);
            totals.rows += rows;
            totals.requests += 1;
            let now = Instant::now();
            if now >= totals.next_line {
                totals.next_line = now + HEARTBEAT;
                let elapsed = printer::elapsed(now.duration_since(totals.started).as_secs_f64());
                let (rows, pages) =
                    (printer::grouped(totals.rows), printer::grouped(totals.requests));
                printer::talk(&format!("running: {rows} rows from {pages} pages in {elapsed}"));
            }
            return;
        }
        if let Some(line) = line(event) {
            printer::talk(&line);
        }
    }
}

/// The words for an event; none for a page.
fn line(event: &Event) -> Option<String> {
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
            Some(format!("{}: {} was refused: {}", error.stream, error.slice, error.message))
        }
        Event::Warning { stream: Some(stream), message } => {
            Some(format!("{stream}: note: {message}"))
        }
        Event::Warning { stream: None, message } => Some(format!("note: {message}")),
        Event::StreamFinished { report } => Some(finished(report)),
    }
}

fn finished(report: &StreamReport) -> String {
    let StreamReport { stream, rows, requests, seconds, .. } = report;
    let counts = format!(
        "{} rows, {} requests, {}",
        printer::grouped(*rows),
        printer::grouped(*requests),
        printer::elapsed(*seconds)
    );
    match (report.status, &report.error) {
        (StreamStatus::Done, _) => format!("{stream}: done: {counts}"),
        (StreamStatus::Fed, _) => format!("{stream}: fed its children: {counts}"),
        (StreamStatus::Interrupted, _) => format!("{stream}: interrupted; the target is as it was"),
        (StreamStatus::Failed, Some(error)) => format!("{stream}: failed: {error}"),
        (StreamStatus::Failed, None) => format!("{stream}: failed"),
    }
}

/// A line per active stream, redrawn in place.
struct Bars {
    all: MultiProgress,
    streams: Mutex<HashMap<String, Bar>>,
}

struct Bar {
    drawn: ProgressBar,
    rows: u64,
    pages: u64,
    retries: u64,
    started: Instant,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), streams: Mutex::new(HashMap::new()) }
    }

    fn say(&self, text: &str) {
        // A terminal that has gone away cannot be told so.
        drop(self.all.println(text));
    }
}

impl Reporter for Bars {
    fn report(&self, event: &Event) {
        match event {
            Event::StreamStarted { stream, .. } => {
                let style = ProgressStyle::with_template("{spinner} {prefix:<30} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                let bar = self.all.add(ProgressBar::new_spinner().with_style(style));
                bar.set_prefix(stream.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                let started = Instant::now();
                let bar = Bar { drawn: bar, rows: 0, pages: 0, retries: 0, started };
                locked(&self.streams).insert(stream.clone(), bar);
            }
            Event::Page { stream, rows, .. } => {
                if let Some(bar) = locked(&self.streams).get_mut(stream) {
                    bar.rows += rows;
                    bar.pages += 1;
                    bar.draw();
                }
            }
            Event::Retry { stream, reason, wait, .. } => {
                if let Some(bar) = locked(&self.streams).get_mut(stream) {
                    bar.retries += 1;
                    let wait = printer::elapsed(wait.as_secs_f64());
                    bar.drawn.set_message(format!("{reason}; again in {wait}"));
                }
            }
            Event::StreamFinished { report } => {
                if let Some(bar) = locked(&self.streams).remove(&report.stream) {
                    bar.drawn.finish_and_clear();
                    self.all.remove(&bar.drawn);
                }
                self.say(&finished(report));
            }
            Event::SliceSkipped { .. } | Event::Warning { .. } => {
                self.say(&line(event).unwrap_or_default());
            }
        }
    }
}

impl Bar {
    fn draw(&self) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate =
            format!("{:.0}", u32::try_from(self.rows).map_or(0.0, f64::from) / elapsed.max(0.001));
        let retries =
            if self.retries > 0 { format!(", {} retries", self.retries) } else { String::new() };
        self.drawn.set_message(format!(
            "{} rows, {rate} rows/s, {} pages{retries}, {}",
            printer::grouped(self.rows),
            printer::grouped(self.pages),
            printer::elapsed(elapsed)
        ));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
