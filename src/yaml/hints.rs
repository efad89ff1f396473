//! What to do about the mistakes that everybody makes in YAML.

use super::fault::Fault;
use super::node::{Node, NodeValue};
use super::place::Place;

/// Braces without quotes, `{stream_name}`, where a text belongs.
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

/// A list where a mapping belongs.
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

/// A hint for a text that is no YAML, from the line at which it stopped to be. Never holds a value.
pub(super) fn of_syntax(lines: &[String], at: Place) -> Option<&'static str> {
    let line = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index));
    // What a line breaks is often told of the next one.
    let near = || [at.line, at.line.saturating_sub(1)].into_iter().filter_map(line);
    let tabbed = |line: &String| {
        let indent = line.len() - line.trim_start().len();
        line.get(..indent).is_some_and(|indent| indent.contains('\t'))
    };
    if near().any(tabbed) {
        return Some("indent with spaces: YAML takes no tabs");
    }
    near().find_map(|line| of_line(line))
}

/// Whether a text begins with a word in braces, and goes on: `{stream_name}.jsonl`.
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
    // A key that begins with `*` is an alias to YAML, as is an item of a list.
    if [bare, value, value.trim_start_matches(['[', '{', ' '])]
        .iter()
        .any(|text| text.starts_with('*'))
    {
        return Some("quote what begins with `*`: \"*\"");
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
