//! Decoding of a response's body.

use serde_json::Value;

use super::decoder::Decoder;
use super::layout::{DecodeError, Layout, Page};
use super::run::Decoding;
use super::trie::{Trie, ValueUse};
use super::visit;
use crate::path::Path;

impl Decoder {
    /// Decodes one response's body.
    pub fn decode(&self, body: &[u8]) -> Result<Page, DecodeError> {
        let mut run = Decoding::new(self);
        visit::document(&mut run, body).map_err(|error| {
            let text = error.to_string();
            match error.classify() {
                serde_json::error::Category::Data => DecodeError::Shape(text),
                _ => not_json(body).map_or(DecodeError::Malformed(text), DecodeError::NotJson),
            }
        })?;
        let found = run.records_found;
        let page = run.finish();
        if let Some(errors) = page.errors.as_ref().filter(|_| !found || page.rows == 0) {
            return Err(DecodeError::Shape(format!(
                "it has no records and reports errors: {errors}"
            )));
        }
        if page.failed && page.rows == 0 {
            let what =
                "it has no records and states that it has failed (`success`, `ok` or `status`)";
            return Err(DecodeError::Shape(what.to_owned()));
        }
        if !found {
            let path = &self.layout.records;
            return Err(DecodeError::Shape(format!("there is nothing at `{path}`")));
        }
        Ok(page)
    }
}

/// What a body is that is not JSON, if it can be recognized. `None` for truncated or broken JSON
/// and for a page of HTML, which a proxy may have sent: a retry may help for those.
fn not_json(body: &[u8]) -> Option<String> {
    let start = body.trim_ascii_start();
    let Some(first) = start.first() else {
        let what = "it is empty; if an empty response means that there are no records, add the rule \
                    `{ status: 204, then: empty }` under `responses`";
        return Some(what.to_owned());
    };
    if body.starts_with(b"\xFF\xFE") || body.starts_with(b"\xFE\xFF") {
        return Some("it is UTF-16, but JSON is UTF-8".to_owned());
    }
    let mut values =
        serde_json::Deserializer::from_slice(start).into_iter::<serde::de::IgnoredAny>();
    let one = values.next().is_some_and(|value| value.is_ok());
    let rest = start.get(values.byte_offset()..).unwrap_or_default().trim_ascii_start();
    match first {
        b'<' if start.starts_with(b"<?xml") => Some("it is XML".to_owned()),
        b'<' => None,
        b'{' | b'[' if one && rest.first() == Some(first) => {
            Some("it consists of several values, as newline-delimited JSON does".to_owned())
        }
        b'{' | b'[' => None,
        _ => {
            let text = String::from_utf8_lossy(start.get(..60).unwrap_or(start)).into_owned();
            let line = text.lines().next().unwrap_or_default();
            Some(format!("it begins with {}", Value::from(line)))
        }
    }
}

/// The value at a path in a JSON text. A number that does not fit 64 bits becomes the text of its
/// digits.
pub fn value_at(json: &[u8], path: &Path) -> Option<Value> {
    let layout = Layout { captures: vec![path.clone()], ..Layout::default() };
    let mut envelope = Trie::default();
    envelope.add(&path.steps, ValueUse::Capture(0));
    let decoder = Decoder { layout, envelope, levels: Vec::new() };
    let mut run = Decoding::new(&decoder);
    visit::document(&mut run, json).ok()?;
    run.captures.into_iter().next().flatten()
}
