//! The events of a run on a terminal: a line per active stream, redrawn in place, above it what is
//! over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    printer::{counted, elapsed, rate},
    progress::line,
    safe::screen,
};
use crate::report::{Event, Reporter};

/// A stream's line; what is too long for the terminal is cut off.
const LINE: &str = "{spinner} {prefix:29} {elapsed:>4}  {wide_msg}";
/// Time between two redrawings of the elapsed time.
const TICK: Duration = Duration::from_millis(120);

/// A line per active stream.
pub(super) struct Bars {
    all: MultiProgress,
    streams: Mutex<HashMap<String, Bar>>,
}

struct Bar {
    drawn: ProgressBar,
    counts: Counts,
    started: Instant,
}

/// What a stream's line shows.
#[derive(Default)]
struct Counts {
    rows: u64,
    pages: u64,
    retries: u64,
    refused: u64,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self { all: MultiProgress::new(), streams: Mutex::new(HashMap::new()) }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<String, Bar>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, stream: &str) {
        let style =
            ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let drawn = self.all.add(ProgressBar::new_spinner().with_style(style));
        drawn.set_prefix(stream.to_owned());
        drawn.enable_steady_tick(TICK);
        let bar = Bar { drawn, counts: Counts::default(), started: Instant::now() };
        self.streams().insert(stream.to_owned(), bar);
    }
}

impl Reporter for Bars {
    fn report(&self, event: &Event) {
        match event {
            Event::StreamStarted { stream, .. } => return self.start(stream),
            Event::Page { stream, rows, .. } => {
                if let Some(bar) = self.streams().get_mut(stream) {
                    bar.counts.rows += rows;
                    bar.counts.pages += 1;
                    bar.drawn.set_message(bar.counts.words(bar.started.elapsed()));
                }
                return;
            }
            Event::Retry { stream, reason, wait, .. } => {
                if let Some(bar) = self.streams().get_mut(stream) {
                    bar.counts.retries += 1;
                    let wait = elapsed(wait.as_secs_f64());
                    bar.drawn.set_message(screen(&format!("{reason}; again in {wait}")));
                }
                return;
            }
            Event::StreamFinished { report } => {
                if let Some(bar) = self.streams().remove(&report.stream) {
                    bar.drawn.finish_and_clear();
                    self.all.remove(&bar.drawn);
                }
            }
            // There may be thousands; the summary shows the first of them.
            Event::SliceSkipped { error } => {
                if let Some(bar) = self.streams().get_mut(&error.stream) {
                    bar.counts.refused += 1;
                    bar.drawn.set_message(bar.counts.words(bar.started.elapsed()));
                }
                return;
            }
            Event::Warning { .. } | Event::Waiting { .. } => {}
        }
        // A terminal that has gone away cannot be told so.
        drop(self.all.println(screen(&line(event).unwrap_or_default())));
    }
}

impl Counts {
    fn words(&self, time: Duration) -> String {
        let Self { rows, pages, retries, refused } = *self;
        let retries = match retries {
            0 => String::new(),
            1 => ", 1 retry".to_owned(),
            more => format!(", {more} retries"),
        };
        let refused = if refused > 0 { format!(", {refused} refused") } else { String::new() };
        let rate = rate(rows, time.as_secs_f64());
        format!("{}, {rate}/s, {}{retries}{refused}", counted(rows, "row"), counted(pages, "page"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_80_columns() {
        let hour = Duration::from_hours(1);
        let words = Counts { rows: 12_345_678, pages: 61_728, retries: 0, refused: 0 }.words(hour);
        assert_eq!(words, "12,345,678 rows, 3429/s, 61,728 pages");
        assert!("x ".len() + 29 + "   1h  ".len() + words.len() <= 80);
        let words =
            Counts { rows: 1, pages: 1, retries: 1, refused: 0 }.words(Duration::from_secs(1));
        assert_eq!(words, "1 row, 1/s, 1 page, 1 retry");
        let words = Counts { rows: 0, pages: 2, retries: 2, refused: 3 }.words(Duration::ZERO);
        assert_eq!(words, "0 rows, 0/s, 2 pages, 2 retries, 3 refused");
    }
}
