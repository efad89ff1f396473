//! The events of a run on stderr. On a terminal, status lines are redrawn in place. Otherwise, there is one
//! line per notable event, as text or JSON, and a progress line every ten seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use chrono::Utc;
use tokio::time::Instant;

use crate::cli::args::{LogFormat, Shared};
use crate::cli::output::screen::Block;
use crate::cli::output::watch::RunProgress;
use crate::cli::output::{printer, safe};
use crate::cli::variables::variable;
use crate::report::{Event, Reporter, StreamReport, StreamStatus};
use crate::secret::on_a_line;

/// Time between progress lines.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time between redraws.
const TICK: Duration = Duration::from_millis(250);
/// Maximum number of retry reasons that are counted separately.
const REASONS: usize = 100;

/// Replication, source and target, for the head of a log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) replication: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

/// Reports the progress of a run until it is closed.
pub(crate) struct ProgressReporter {
    inner: Arc<Inner>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    form: Form,
    head: Head,
    state: Mutex<ReporterState>,
    wake: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Silent,
    Screen,
    Text,
    Json,
}

struct ReporterState {
    watch: RunProgress,
    block: Block,
    /// When the next progress line is due.
    due: Instant,
    /// Number of unreported retries by reason since the last progress line. The first retry of each
    /// reason was reported.
    retries: BTreeMap<String, u64>,
    run_id: Option<String>,
    /// Start lines of streams that wait for others. They are printed when the streams send requests.
    waiting: BTreeMap<String, String>,
    /// Errors of failed streams that were reported.
    failures: BTreeSet<String>,
    closed: bool,
}

impl ProgressReporter {
    /// The reporter for these options. If logs are enabled, nothing is redrawn.
    pub(crate) fn new(shared: Shared, head: Head) -> Self {
        let logs = shared.verbose || variable("RUST_LOG").is_some();
        let form = match shared.log_format {
            _ if shared.quiet => Form::Silent,
            LogFormat::Text if printer::draws() && !logs => Form::Screen,
            LogFormat::Text => Form::Text,
            LogFormat::Json => Form::Json,
        };
        let now = Instant::now();
        let state = ReporterState {
            watch: RunProgress::new(now),
            block: Block::default(),
            due: now + HEARTBEAT,
            retries: BTreeMap::new(),
            run_id: None,
            waiting: BTreeMap::new(),
            failures: BTreeSet::new(),
            closed: false,
        };
        let inner = Arc::new(Inner { form, head, state: Mutex::new(state), wake: Condvar::new() });
        let ticker = (form != Form::Silent).then(|| {
            let inner = Arc::clone(&inner);
            std::thread::spawn(move || inner.tick())
        });
        Self { inner, ticker: Mutex::new(ticker) }
    }

    /// Stops reporting and erases the status lines.
    pub(crate) fn close(&self) {
        self.inner.close();
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of the thread does not affect the run.
        drop(ticker.map(JoinHandle::join));
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reporter for ProgressReporter {
    fn report(&self, event: &Event) {
        if self.inner.form != Form::Silent {
            self.inner.take(event);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, ReporterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event) {
        let now = Instant::now();
        let mut state = self.state();
        state.watch.take(event, now);
        if let Event::RunStarted { run_id, .. } = event {
            // The same run starts again for streams whose route was refused.
            if state.run_id.as_ref() == Some(run_id) {
                return;
            }
            state.run_id = Some(run_id.clone());
            printer::about(&self.head.replication, Some(run_id));
        }
        let repeated = self.form != Form::Json && state.repeats_failure(event);
        match self.form {
            _ if repeated => {}
            Form::Json => self.log(event),
            Form::Text => {
                if let Some(line) = state.begins(event) {
                    printer::stamped(&line);
                }
                if let Event::Retry { reason, .. } = event
                    && state.repeats(reason)
                {
                    return;
                }
                if let Some(line) = self.words(event).and_then(|line| state.held(event, line)) {
                    printer::stamped(&line);
                }
            }
            Form::Screen => {
                // There may be thousands of refusals; the summary shows the first ones. The status lines or the
                // summary show the other events.
                let hidden = match event {
                    Event::Retry { .. }
                    | Event::SliceSkipped { .. }
                    | Event::StreamStarted { .. } => true,
                    Event::StreamFinished { report } => report.status == StreamStatus::Interrupted,
                    _ => false,
                };
                if let Some(line) = self.words(event).filter(|_| !hidden) {
                    state.draw(&line, now);
                }
            }
            Form::Silent => {}
        }
    }

    fn log(&self, event: &Event) {
        match event {
            Event::Progress { .. } => {}
            Event::RunStarted { .. } => {
                let Head { source, target, .. } = &self.head;
                let mut line = serde_json::to_value(event).unwrap_or_default();
                if let Some(line) = line.as_object_mut() {
                    line.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
                    line.insert("source".to_owned(), source.as_str().into());
                    line.insert("target".to_owned(), target.as_str().into());
                }
                printer::event("INFO", &line);
            }
            _ => printer::event(level(event), event),
        }
    }

    fn words(&self, event: &Event) -> Option<String> {
        if let Event::RunStarted { run_id, continued, .. } = event {
            let Head { replication, source, target } = &self.head;
            let resumed = if *continued { ", resumed" } else { "" };
            let version = env!("CARGO_PKG_VERSION");
            return Some(format!(
                "weir {version}: replication `{replication}`, run {run_id}{resumed}, from {source} to {target}"
            ));
        }
        line(event)
    }

    /// Redraws the status lines, or prints the progress lines, until closed.
    fn tick(&self) {
        let mut state = self.state();
        while !state.closed {
            let now = Instant::now();
            state.watch.sample(now);
            match self.form {
                Form::Screen => state.draw("", now),
                _ if now >= state.due => {
                    state.due = now + HEARTBEAT;
                    self.heartbeat(&mut state, now);
                }
                _ => {}
            }
            let waited = self.wake.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn heartbeat(&self, state: &mut ReporterState, now: Instant) {
        let today = Utc::now();
        if self.form == Form::Json {
            printer::event("INFO", &state.watch.json(now, today));
            return;
        }
        for (reason, more) in
            std::mem::take(&mut state.retries).into_iter().filter(|(_, more)| *more > 0)
        {
            let attempts = if more == 1 { "attempt" } else { "attempts" };
            printer::stamped(&format!(
                "{} more {attempts} failed ({reason})",
                printer::grouped(more)
            ));
        }
        printer::stamped(&state.watch.line(now, today));
    }

    fn close(&self) {
        let mut state = self.state();
        if !state.closed && self.form == Form::Screen {
            let columns = printer::terminal().0;
            let erased = state.block.erase(columns);
            write(&erased);
        }
        state.closed = true;
        self.wake.notify_all();
    }
}

impl ReporterState {
    /// Whether a retry for the same reason was reported since the last progress line.
    fn repeats(&mut self, reason: &str) -> bool {
        if let Some(more) = self.retries.get_mut(reason) {
            *more += 1;
            return true;
        }
        if self.retries.len() < REASONS {
            self.retries.insert(reason.to_owned(), 0);
        }
        false
    }

    /// Whether a stream failed with an error that was already reported for another stream.
    fn repeats_failure(&mut self, event: &Event) -> bool {
        let Event::StreamFinished { report } = event else { return false };
        let failed = report.status == StreamStatus::Failed && !report.route_refused;
        let why = report.error.as_ref().filter(|_| failed);
        why.is_some_and(|why| !self.failures.insert(why.clone()))
    }

    /// The line for an event, unless it is the start of a stream that waits for others.
    fn held(&mut self, event: &Event, line: String) -> Option<String> {
        match event {
            Event::StreamStarted { stream, after, .. } if !after.is_empty() => {
                self.waiting.insert(stream.clone(), line);
                None
            }
            _ => Some(line),
        }
    }

    /// The start line of a stream that waited, when it sends its first request.
    fn begins(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Progress { stream, figures } if figures.requests > 0 => {
                self.waiting.remove(stream)
            }
            _ => None,
        }
    }

    fn draw(&mut self, above: &str, now: Instant) {
        if self.closed {
            if !above.is_empty() {
                printer::info(above);
            }
            return;
        }
        let (columns, rows) = printer::terminal();
        let lines = self.watch.lines(now, Utc::now(), rows);
        let lines: Vec<String> = lines.iter().map(|line| safe::screen(line)).collect();
        let drawn = self.block.redraw(&safe::screen(above), &lines, columns);
        write(&drawn);
    }
}

/// Writes to the terminal. Errors are ignored, because they cannot be reported anywhere.
fn write(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// The log level of an event.
fn level(event: &Event) -> &'static str {
    match event {
        Event::StreamFinished { report } if report.status == StreamStatus::Failed => "ERROR",
        Event::Retry { .. }
        | Event::SliceSkipped { .. }
        | Event::Warning { .. }
        | Event::Waiting { .. } => "WARN",
        _ => "INFO",
    }
}

/// The text for an event, as one line, because parts of it come from a server. `None` for events that the
/// status lines or progress lines show.
fn line(event: &Event) -> Option<String> {
    words(event).map(|words| on_a_line(&words))
}

fn words(event: &Event) -> Option<String> {
    match event {
        Event::Progress { .. } | Event::Doing { .. } | Event::RunStarted { .. } => None,
        Event::StreamStarted { stream, feeder: false, .. } => Some(format!("{stream}: started")),
        Event::StreamStarted { stream, feeder: true, .. } => {
            Some(format!("{stream}: started; only feeds its children"))
        }
        Event::Retry { stream, reason, wait, attempt } => Some(format!(
            "{stream}: attempt {attempt} failed ({reason}); retry in {}",
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

fn finished(report: &StreamReport) -> String {
    let StreamReport { stream, rows, requests, seconds, .. } = report;
    let counts = format!(
        "{}, {}, {}",
        printer::counted(*rows, "row"),
        printer::counted(*requests, "request"),
        printer::elapsed(*seconds)
    );
    match (report.status, &report.error) {
        (StreamStatus::Done, _) if report.earlier => {
            format!("{stream}: completed by an earlier process of this run")
        }
        (StreamStatus::Done, _) => format!("{stream}: done: {counts}"),
        (StreamStatus::Fresh, _) => {
            format!("{stream}: skipped; the last full read is recent enough")
        }
        (StreamStatus::Fed, _) => format!("{stream}: fed its children: {counts}"),
        (StreamStatus::Interrupted, _) => format!("{stream}: interrupted; run again to resume"),
        (StreamStatus::Failed, Some(error)) if report.route_refused => {
            format!("{stream}: cannot be read this way: {error}")
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
    fn every_event_has_a_text() {
        let stream = || "pages".to_owned();
        let report = |status, error: Option<&str>| StreamReport {
            status,
            rows: 1_250,
            requests: 1,
            reach: "everything".to_owned(),
            seconds: 2.04,
            error: error.map(str::to_owned),
            ..crate::run::empty_report("pages")
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
            Event::StreamStarted { stream: stream(), feeder: false, after: Vec::new() },
            Event::StreamStarted { stream: stream(), feeder: true, after: Vec::new() },
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
        pages: started; only feeds its children
        pages: attempt 2 failed (429 Too Many Requests); retry in 1m30s
        pages: page_id=7 was refused: Forbidden
        pages: note: set `types`
        note: stopping
        waiting until 2026-01-02T04:00:00Z: 60 of the 60 points of this hour are spent
        pages: done: 1,250 rows, 1 request, 2.0s
        pages: fed its children: 1,250 rows, 1 request, 2.0s
        pages: interrupted; run again to resume
        pages: failed: disk full
        ");
        let figures = crate::report::Figures::default();
        assert_eq!(line(&Event::Progress { stream: stream(), figures }), None);
    }
}
