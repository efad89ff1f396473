//! Output to stdout and stderr, and the layout of errors and tables.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;
use serde_json::json;

use crate::cli::args::{LogFormat, Shared};
use crate::cli::output::safe;
use crate::cli::variables::variable;
use crate::error::{Error, Kind};
use crate::report::Event;
use crate::secret::on_a_line;

/// Default width of text, and the maximum width on a terminal, in columns.
pub(crate) const WIDTH: usize = 100;

/// The first error of a write to stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// Whether anything was written to stdout.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// The context of JSON lines. A process runs one replication.
static ABOUT: Mutex<About> = Mutex::new(About { replication: None, run_id: None });

/// The replication and the run that every JSON line names.
#[derive(Clone, Debug, Serialize)]
struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    replication: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
}

/// Sets the replication, and its run once it has started, for all later JSON lines.
pub(crate) fn about(replication: &str, run_id: Option<&str>) {
    let (replication, run_id) = (Some(replication.to_owned()), run_id.map(str::to_owned));
    *ABOUT.lock().unwrap_or_else(PoisonError::into_inner) = About { replication, run_id };
}

/// Writes data to stdout. A closed pipe is not an error; for other errors see [`lost`].
pub(crate) fn data(text: &str) {
    let text = if io::stdout().is_terminal() { &safe::screen(text) } else { text };
    PRINTED.store(true, Ordering::Relaxed);
    if let Err(error) = emit(&mut io::stdout().lock(), text)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Keeps the first error.
        LOST.set(error).ok();
    }
}

/// Whether anything was written to stdout.
pub(crate) fn has_printed() -> bool {
    PRINTED.load(Ordering::Relaxed)
}

/// The error of a failed write to stdout, for example because the disk is full.
pub(crate) fn lost() -> Option<Error> {
    let error = LOST.get()?;
    let what = format!("the output could not be written: {error}");
    Some(Error::new(Kind::Target, what).with_hint("the output is incomplete"))
}

/// Writes a message to stderr.
pub(crate) fn info(text: &str) {
    // An error of stderr cannot be reported anywhere.
    drop(emit(&mut io::stderr().lock(), &safe::screen(text)));
}

/// Writes a line of a log to stderr, with the time.
pub(crate) fn stamped(text: &str) {
    info(&format!("{} {text}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ")));
}

fn emit(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a value as JSON to stdout.
pub(crate) fn json(value: &impl Serialize) {
    data(&safe::json(value, true));
}

/// Writes an event to stderr as one line of JSON, with the time, its level, the replication and the
/// run.
pub(crate) fn event(level: &str, event: &impl Serialize) {
    #[derive(Serialize)]
    struct Stamped<'event, E> {
        timestamp: String,
        level: &'event str,
        #[serde(flatten)]
        about: About,
        #[serde(flatten)]
        event: &'event E,
    }
    let timestamp = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let about = ABOUT.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let line = Stamped { timestamp, level, about, event };
    info(&safe::json(&line, false));
}

/// Prints a note: information that is not an error.
pub(crate) fn note(shared: Shared, message: &str) {
    match shared.log_format {
        _ if shared.quiet => {}
        LogFormat::Text => info(&format!("{} {message}", label("note:"))),
        LogFormat::Json => {
            event("WARN", &Event::Warning { stream: None, message: message.to_owned() });
        }
    }
}

/// The JSON result of a failed command that printed no other result.
pub(crate) fn failed(error: &Error, exit_code: u8) -> serde_json::Value {
    let (message, causes, hint) = (error.to_string(), causes(error), error.hint());
    json!({
        "status": "failed",
        "exit_code": exit_code,
        "errors": [{ "message": message, "causes": causes, "hint": hint }],
    })
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    causes
}

/// Prints the error of a failed command.
pub(crate) fn failure(format: LogFormat, error: &Error) {
    let causes = causes(error);
    let (message, hint) = (error.to_string(), error.hint());
    match format {
        LogFormat::Text => info(&error_text(&message, &causes, hint)),
        LogFormat::Json => {
            let line =
                json!({ "event": "error", "message": message, "causes": causes, "hint": hint });
            event("ERROR", &line);
        }
    }
}

/// An error with its causes and its hint, each on its own line.
pub(crate) fn error_text(message: &str, causes: &[String], hint: Option<&str>) -> String {
    let mut lines = vec![format!("{} {message}", label("error:"))];
    lines.extend(causes.iter().map(|cause| format!("{} {cause}", label("cause:"))));
    lines.extend(hint.map(|hint| format!("{} {hint}", label("hint:"))));
    lines.join("\n")
}

/// The label at the start of a message, in colour if stderr shows colours.
pub(crate) fn label(word: &str) -> String {
    if !colours() {
        return word.to_owned();
    }
    let colour = match word {
        "error:" | "refused:" => 31,
        "hint:" => 36,
        _ => 33,
    };
    format!("\x1b[1;{colour}m{word}\x1b[0m")
}

/// Whether stderr shows colours and `NO_COLOR` is not set: <https://no-color.org>.
pub(crate) fn colours() -> bool {
    draws() && variable("NO_COLOR").is_none()
}

/// Whether progress can be drawn on stderr.
pub(crate) fn draws() -> bool {
    io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb")
}

/// Width of the terminal of `stream` in columns; `None` if it is not a terminal.
pub(crate) fn columns(stream: &impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Columns and rows of the terminal on stderr.
pub(crate) fn terminal() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    // Assumes the usual size if the terminal does not report one.
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or((80, 24))
}

/// Width of data on stdout, in columns.
pub(crate) fn data_width() -> usize {
    columns(&io::stdout()).unwrap_or(WIDTH).clamp(40, WIDTH)
}

/// Wraps text between words. A line is longer than `width` only if a single word is.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Formats rows as aligned columns, two spaces apart. Columns listed in `right` are right-aligned.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    // Cells may hold text from a server; line breaks would break the table.
    let lined = |row: &Vec<String>| row.iter().map(|cell| on_a_line(cell)).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = rows.iter().map(lined).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines = Vec::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        lines.push(cells.collect::<Vec<_>>().join("  ").trim_end().to_owned());
    }
    lines.join("\n")
}

/// Length of a table's longest line.
pub(crate) fn width_of(table: &str) -> usize {
    table.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// Rows per second, rounded.
pub(crate) fn rate(rows: u64, seconds: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate is read by its first digits")]
    let per_second = rows as f64 / seconds.max(0.001);
    format!("{per_second:.0}")
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number and what it counts: `1 row`, `2,000 rows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A duration in seconds as `0.4s`, `12s`, `3m05s`, `2h01m`.
pub(crate) fn elapsed(seconds: f64) -> String {
    let whole = std::time::Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(rate(10, 4.0), "2");
        assert_eq!(rate(0, 0.0), "0");
        assert_eq!(rate(9_000_000_000, 1.0), "9000000000");
        assert_eq!(elapsed(0.44), "0.4s");
        assert_eq!(elapsed(59.9), "59s");
        assert_eq!(elapsed(185.0), "3m05s");
        assert_eq!(elapsed(7260.0), "2h01m");
    }

    #[test]
    fn errors_show_their_causes_and_hints() {
        let causes = ["server answered 403".to_owned()];
        insta::assert_snapshot!(error_text("`contacts` was refused", &causes, Some("ask for more")), @r"
        error: `contacts` was refused
        cause: server answered 403
        hint: ask for more
        ");
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("unbreakable is", 5), ["unbreakable", "is"]);
        assert_eq!(wrapped("", 5), [""; 0]);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["name", "rows"], ["a", "1"], ["long name", "1,000"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(table(&rows, &[1]), "name        rows\na              1\nlong name  1,000");
    }
}
