//! Makes external text safe to print: masks known secrets and escapes terminal control sequences.

use std::{borrow::Cow, fmt::Write, io};

use serde::Serialize;
use serde_json::Value;

use crate::secret::{escaped, masked};

/// The colour sequences that weir writes, without the escape character.
const OWN: [&str; 4] = ["[0m", "[1;31m", "[1;33m", "[1;36m"];

/// Escapes text for a terminal. weir's own colours stay; all other control characters are escaped.
pub(crate) fn screen(text: &str) -> String {
    with_colours(text, |after| {
        OWN.iter().find(|own| after.starts_with(**own)).map_or(0, |own| own.len())
    })
}

/// Escapes text except for colour sequences. `colour` returns the length of the sequence at the start of
/// a text, without the escape character, or 0.
fn with_colours(text: &str, colour: impl Fn(&str) -> usize) -> String {
    let mut out = String::with_capacity(text.len());
    let masked = masked(text);
    let mut rest = masked.as_ref();
    while let Some((before, after)) = rest.split_once('\x1b') {
        out.push_str(&escaped(before));
        let colour = colour(after);
        let first = if colour > 0 { Cow::Borrowed("\x1b") } else { escaped("\x1b") };
        out.push_str(&first);
        let (colour, tail) = after.split_at_checked(colour).unwrap_or(("", after));
        out.push_str(colour);
        rest = tail;
    }
    out.push_str(&escaped(rest));
    out
}

/// Length of a colour sequence, without the escape character; 0 for any other text.
fn colour(after: &str) -> usize {
    let Some(digits) = after.strip_prefix('[') else { return 0 };
    let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != ';');
    end.filter(|end| digits.get(*end..).is_some_and(|rest| rest.starts_with('m')))
        .map_or(0, |end| end + "[m".len())
}

/// A value as JSON with known secrets masked, on several lines if `pretty`. Control characters are escaped
/// as JSON escapes.
pub(crate) fn json(value: &impl Serialize, pretty: bool) -> String {
    let text = serde_json::to_value(value).and_then(|mut value| {
        mask(&mut value);
        if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }
    });
    let text = text.unwrap_or_else(|error| Value::from(error.to_string()).to_string());
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let mut bytes = [0; 4];
        let alone: &str = letter.encode_utf8(&mut bytes);
        match escaped(alone) {
            // All escaped characters are in the basic multilingual plane, so four digits suffice.
            Cow::Owned(_) => {
                // Writing to a `String` cannot fail.
                write!(out, "\\u{:04x}", u32::from(letter)).ok();
            }
            Cow::Borrowed(alone) => out.push_str(alone),
        }
    }
    out
}

/// Masks the strings of a value. A lowercase word is one of weir's own names, even if it equals a
/// secret.
fn mask(value: &mut Value) {
    match value {
        Value::String(text) if !is_word(text) => {
            if let Cow::Owned(hidden) = masked(text) {
                *text = hidden;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(entries) => entries.values_mut().for_each(mask),
        _ => {}
    }
}

fn is_word(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
}

/// Writer for log lines on stderr.
#[derive(Debug)]
pub(crate) struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The log writes whole lines, with its own colours, and escapes those in values.
        let line = with_colours(&String::from_utf8_lossy(bytes), colour);
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secret::hide;

    #[test]
    fn only_colours_reach_a_terminal() {
        assert_eq!(
            screen("\x1b[1;31merror:\x1b[0m \x1b[2J\x1b]0;x\x07\u{202e}"),
            "\x1b[1;31merror:\x1b[0m \\u{1b}[2J\\u{1b}]0;x\\u{7}\\u{202e}"
        );
        assert_eq!(screen("\x1b[8m\x1b[31mRED"), "\\u{1b}[8m\\u{1b}[31mRED");
        assert_eq!(screen("a\n\tb"), "a\n\tb");
        assert_eq!(screen("\x1b"), "\\u{1b}");
    }

    #[test]
    fn json_shows_no_secret_and_stays_json() {
        hide("hunter");
        let value = json!({ "event": "hunter", "why": ["a hunter \u{9b}2J \u{202e}"], "n": 1.5 });
        let text = json(&value, false);
        assert_eq!(text, r#"{"event":"hunter","why":["a *** \u009b2J \u202e"],"n":1.5}"#);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["why"][0], "a *** \u{9b}2J \u{202e}");
    }
}
