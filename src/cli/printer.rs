//! What goes to stdout and stderr, and how errors look.

use std::io::{self, IsTerminal, Write};

use crate::error::Error;

/// Writes data to stdout. A reader that has gone away is no error.
pub(super) fn data(text: &str) {
    emit(&mut io::stdout().lock(), text);
}

/// Writes talk to stderr.
pub(super) fn talk(text: &str) {
    emit(&mut io::stderr().lock(), text);
}

fn emit(out: &mut dyn Write, text: &str) {
    // Nothing can be told to somebody who does not listen.
    drop(
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush()),
    );
}

/// Prints a value as JSON to stdout.
pub(super) fn json(value: &impl serde::Serialize) {
    data(&serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("\"{error}\"")));
}

/// An error with its causes and what to do about it.
pub(super) fn error(error: &Error) -> String {
    let mut lines = vec![format!("error: {error}")];
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        lines.push(format!("cause: {inner}"));
        cause = inner.source();
    }
    lines.extend(error.hint().map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

/// Whether progress can be drawn on stderr.
pub(super) fn draws() -> bool {
    io::stderr().is_terminal()
}

/// Rows of text as aligned columns, two spaces apart; columns named in `right` are aligned there.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
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

/// A number with a comma between thousands.
pub(super) fn grouped(number: u64) -> String {
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

/// A duration in seconds as `0.4s`, `12s`, `3m05s`, `2h01m`.
pub(super) fn elapsed(seconds: f64) -> String {
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
        assert_eq!(elapsed(0.44), "0.4s");
        assert_eq!(elapsed(59.9), "59s");
        assert_eq!(elapsed(185.0), "3m05s");
        assert_eq!(elapsed(7260.0), "2h01m");
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["name", "rows"], ["a", "1"], ["long name", "1,000"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(table(&rows, &[1]), "name        rows\na              1\nlong name  1,000");
    }
}
