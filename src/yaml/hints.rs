//! Hints for common mistakes in YAML.

use super::fault::Fault;
use super::node::{Node, NodeValue};
use super::place::Place;

/// Unquoted braces, `{stream_name}`, in place of a text.
pub(super) fn unquoted(entries: &[(String, Place, Node)]) -> Option<Fault> {
    let [(key, _, Node { value: NodeValue::Null, .. })] = entries else { return None };
    Some(Fault {
        place: Place::default(),
        message: format!(
            "`{{{key}}}` without quotes is a mapping, not a text; quote it: \"{{{key}}}\""
        ),
        public_message: "braces without quotes are a mapping, not a text; quote it".to_owned(),
        hint: None,
    })
}

/// A list in place of a mapping.
pub(super) fn listed(items: &[Node]) -> Fault {
    let first = items.iter().find_map(|item| match &item.value {
        NodeValue::Text(text) => Some(text.as_str()),
        NodeValue::Map(entries) => entries.first().map(|(key, ..)| key.as_str()),
        _ => None,
    });
    let public_message = "a list is not a mapping".to_owned();
    let message = first.map_or_else(
        || public_message.clone(),
        |name| format!("{public_message}; write `{name}:` instead of `- {name}`"),
    );
    Fault { place: Place::default(), public_message, message, hint: None }
}

/// A hint for a text that is not valid YAML, derived from the line of the error. It never contains
/// a value.
pub(super) fn of_syntax(lines: &[String], at: Place) -> Option<&'static str> {
    let line = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index));
    // The parser often reports an error on the line after its cause.
    let near = || [at.line, at.line.saturating_sub(1)].into_iter().filter_map(line);
    let tabbed = |line: &String| {
        let indent = line.len() - line.trim_start().len();
        line.get(..indent).is_some_and(|indent| indent.contains('\t'))
    };
    if near().any(tabbed) {
        return Some("indent with spaces: YAML does not allow tabs");
    }
    near().find_map(|line| of_line(line))
}

/// Whether a text begins with a word in braces that is followed by more text:
/// `{stream_name}.jsonl`.
fn begins_with_variable(text: &str) -> bool {
    let inner = text.strip_prefix('{').and_then(|text| text.split_once('}'));
    inner.is_some_and(|(word, rest)| {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        !word.is_empty() && word.chars().all(is_word) && rest.starts_with(['.', '/', '_', '-'])
    })
}

fn of_line(line: &str) -> Option<&'static str> {
    let bare = line.trim_start().trim_start_matches("- ").trim_start();
    if bare.starts_with('#') {
        return None;
    }
    let value = bare.split_once(": ").map_or(bare, |(_, value)| value.trim());
    // YAML reads a key or item that begins with `*` as an alias.
    if [bare, value, value.trim_start_matches(['[', '{', ' '])]
        .iter()
        .any(|text| text.starts_with('*'))
    {
        return Some("quote a text that begins with `*`: \"*\"");
    }
    let opens = value.starts_with('{') && !value.trim_end().ends_with('}');
    if opens || line.split(": ").any(begins_with_variable) {
        return Some("quote a text that begins with `{`: \"{stream_name}.parquet\"");
    }
    if value.starts_with(['%', '@', '`', '&', '!']) {
        return Some("quote a text that begins with a sign: \"@name\"");
    }
    let quoted = value.starts_with(['"', '\'', '{', '[']);
    (!quoted && value.contains(": "))
        .then_some("quote a text that holds a colon and a space: \"a: b\"")
}
