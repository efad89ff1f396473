//! The events of a run on stderr: on a terminal lines that are redrawn in place, elsewhere a line per event
//! worth one, in words or as JSON. Every ten seconds one says how far the run is, whatever it waits for.

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
use crate::cli::output::watch::Watch;
use crate::cli::output::{printer, safe};
use crate::cli::variables::variable;
use crate::report::{Event, Reporter, StreamReport, StreamStatus};
use crate::secret::on_a_line;

/// Time between two lines that say how far the run is.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Time between two redrawings.
const TICK: Duration = Duration::from_millis(250);
/// Reasons of retries that are counted apart.
const REASONS: usize = 100;

/// What a run is about, for the head of its log.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) replication: String,
    pub(crate) source: String,
    pub(crate) target: String,
}

/// Tells how a run goes, until it is closed.
pub(crate) struct Progress {
    inner: Arc<Inner>,
    ticker: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    form: Form,
    head: Head,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Silent,
    Screen,
    Text,
    Json,
}

struct State {
    watch: Watch,
    block: Block,
    /// When the next line is due that says how far the run is.
    due: Instant,
    /// Retries by reason since the last such line: the first of each was told.
    retries: BTreeMap<String, u64>,
    run_id: Option<String>,
    /// Lines of streams that wait for others: told once they begin.
    waiting: BTreeMap<String, String>,
    /// Why streams have failed: told once.
    failures: BTreeSet<String>,
    closed: bool,
}

impl Progress {
    /// The reporter for these circumstances. Where a log is asked for, nothing is redrawn.
    pub(crate) fn new(shared: Shared, head: Head) -> Self {
        let logs = shared.verbose || variable("RUST_LOG").is_some();
        let form = match shared.log_format {
            _ if shared.quiet => Form::Silent,
            LogFormat::Text if printer::draws() && !logs => Form::Screen,
            LogFormat::Text => Form::Text,
            LogFormat::Json => Form::Json,
        };
        let now = Instant::now();
        let state = State {
            watch: Watch::new(now),
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

    /// Ends the telling: nothing is redrawn any more, and nothing is left of what was.
    pub(crate) fn close(&self) {
        self.inner.close();
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that has panicked has nothing to say.
        drop(ticker.map(JoinHandle::join));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reporter for Progress {
    fn report(&self, event: &Event) {
        if self.inner.form != Form::Silent {
            self.inner.take(event);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event) {
        let now = Instant::now();
        let mut state = self.state();
        state.watch.take(event, now);
        if let Event::RunStarted { run_id, .. } = event {
            // A run goes on with streams whose route was refused: it is the same run.
            if state.run_id.as_ref() == Some(run_id) {
                return;
            }
            state.run_id = Some(run_id.clone());
            printer::about(&self.head.replication, Some(run_id));
        }
        let told_before = self.form != Form::Json && state.repeats_failure(event);
        match self.form {
            _ if told_before => {}
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
                // Refusals may be thousands: the summary shows the first of them. The others have their line,
                // or the summary tells it once.
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
                let mut told = serde_json::to_value(event).unwrap_or_default();
                if let Some(told) = told.as_object_mut() {
                    told.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
                    told.insert("source".to_owned(), source.as_str().into());
                    told.insert("target".to_owned(), target.as_str().into());
                }
                printer::event("INFO", &told);
            }
            _ => printer::event(level(event), event),
        }
    }

    fn words(&self, event: &Event) -> Option<String> {
        if let Event::RunStarted { run_id, continued, .. } = event {
            let Head { replication, source, target } = &self.head;
            let goes_on = if *continued { ", continued" } else { "" };
            let version = env!("CARGO_PKG_VERSION");
            return Some(format!(
                "weir {version}: replication `{replication}`, run {run_id}{goes_on}, from {source} to {target}"
            ));
        }
        line(event)
    }

    /// Tells again and again how far the run is.
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

    fn heartbeat(&self, state: &mut State, now: Instant) {
        let today = Utc::now();
        if self.form == Form::Json {
            printer::event("INFO", &state.watch.json(now, today));
            return;
        }
        for (reason, more) in
            std::mem::take(&mut state.retries).into_iter().filter(|(_, more)| *more > 0)
        {
            let tries = if more == 1 { "try" } else { "tries" };
            printer::stamped(&format!("{} more {tries} failed ({reason})", printer::grouped(more)));
        }
        printer::stamped(&state.watch.line(now, today));
    }

    fn close(&self) {
        let mut state = self.state();
        if !state.closed && self.form == Form::Screen {
            let columns = printer::terminal().0;
            let gone = state.block.erase(columns);
            write(&gone);
        }
        state.closed = true;
        self.wake.notify_all();
    }
}

impl State {
    /// Whether a retry for the same reason was told since the last line of how far the run is.
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

    /// Whether a stream has failed for a reason that was told of another one.
    fn repeats_failure(&mut self, event: &Event) -> bool {
        let Event::StreamFinished { report } = event else { return false };
        let failed = report.status == StreamStatus::Failed && !report.route_refused;
        let why = report.error.as_ref().filter(|_| failed);
        why.is_some_and(|why| !self.failures.insert(why.clone()))
    }

    /// The line about an event, unless it says that a stream waits for others.
    fn held(&mut self, event: &Event, line: String) -> Option<String> {
        match event {
            Event::StreamStarted { stream, after, .. } if !after.is_empty() => {
                self.waiting.insert(stream.clone(), line);
                None
            }
            _ => Some(line),
        }
    }

    /// The line of a stream that has waited, once it sends requests.
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
                printer::talk(above);
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

/// A terminal that has gone away cannot be told so.
fn write(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(err.write_all(text.as_bytes()).and_then(|()| err.flush()));
}

/// How grave an event is.
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

/// The words for an event, on one line: parts of them are a server's. None for events of which a line tells
/// that is redrawn, or comes every ten seconds.
fn line(event: &Event) -> Option<String> {
    words(event).map(|words| on_a_line(&words))
}

fn words(event: &Event) -> Option<String> {
    match event {
        Event::Progress { .. } | Event::Doing { .. } | Event::RunStarted { .. } => None,
        Event::StreamStarted { stream, feeder: false, .. } => Some(format!("{stream}: started")),
        Event::StreamStarted { stream, feeder: true, .. } => {
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

fn finished(report: &StreamReport) -> String {
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
    fn every_event_has_its_words() {
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
        let figures = crate::report::Figures::default();
        assert_eq!(line(&Event::Progress { stream: stream(), figures }), None);
    }
}
