//! Reads doc comments of enums and structs out of the source: what a page lists is what the code has.

use std::fs;

use crate::support::book::{files, root};

/// An event that is no variant of the enum: its name, what it tells, and its keys.
type OtherEvent = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Events that are no variant of the enum.
pub(super) const OTHER_EVENTS: [OtherEvent; 3] = [
    (
        "running",
        "The progress of the run, every ten seconds.",
        &[
            ("message", "The progress as a text."),
            ("rows, requests, retries, refused, bytes", "Totals of all streams so far."),
            ("planned", "Requests that the plan expects; null without an estimate."),
            ("requests_per_second", "Current rate."),
            ("seconds, seconds_left", "Seconds since the start, and the estimated seconds left."),
            ("streams", "The streams that the run is reading."),
            ("waiting_until", "End of a wait for points or for the API; null without a wait."),
        ],
    ),
    (
        "run_finished",
        "A run has ended; the last line of its log.",
        &[
            ("status", "`done`, `done_with_errors`, `failed`, `interrupted` or `paused`."),
            ("seconds", "Time from start to end."),
            ("streams", "The reports of all streams."),
            (
                "planned, points",
                "The plan estimate, and the points spent; null without an estimate or a quota.",
            ),
            ("notices", "Notices of the run itself."),
            ("refused", "Number of refused slices."),
        ],
    ),
    (
        "error",
        "The command failed.",
        &[
            ("message", "What failed."),
            ("causes", "The causes, from the outermost to the innermost."),
            ("hint", "What to do; null without a hint."),
        ],
    ),
];

/// A variant or a field, with its doc comment.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) doc: String,
    /// What follows `=` of a variant.
    pub(super) value: String,
    /// Fields of a variant.
    pub(super) fields: Vec<Self>,
    /// Whether `#[default]` stands before it.
    pub(super) is_default: bool,
}

/// The product's source files.
fn sources() -> impl Iterator<Item = String> {
    let folders = ["src", "crates"].map(|folder| files(&root().join(folder))).concat();
    let sources =
        folders.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    sources.map(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    })
}

/// Whether a text is in the source.
pub(super) fn mentions(text: &str) -> bool {
    sources().any(|source| source.contains(text))
}

/// Words that follow a text in the source, up to a quotation mark.
pub(super) fn after(text: &str) -> Vec<String> {
    let words = |source: String| {
        let parts =
            source.split(text).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        parts.collect::<Vec<_>>()
    };
    sources().flat_map(words).collect()
}

/// String literals of the source, tests left out.
pub(super) fn literals() -> Vec<String> {
    let mut found = Vec::new();
    for source in sources() {
        let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            found.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Variants of an enum; empty if there is none of that name.
pub(super) fn variants(name: &str) -> Vec<Item> {
    body(&format!("enum {name} {{")).map(|body| items(&body)).unwrap_or_default()
}

/// Public fields of a struct.
pub(super) fn fields(name: &str) -> Vec<Item> {
    fields_of(name).unwrap_or_else(|| panic!("there is no struct `{name}`"))
}

/// Public fields of a struct, if there is one of that name.
pub(super) fn fields_of(name: &str) -> Option<Vec<Item>> {
    body(&format!("struct {name} {{")).map(|body| items(&body))
}

/// Lines between a declaration's braces.
fn body(declaration: &str) -> Option<Vec<String>> {
    sources().find_map(|source| {
        let mut lines = source.lines().skip_while(|line| !line.ends_with(declaration));
        lines.next()?;
        let body = lines.take_while(|line| *line != "}");
        Some(body.map(str::to_owned).collect())
    })
}

fn items(lines: &[String]) -> Vec<Item> {
    let mut found: Vec<Item> = Vec::new();
    let mut next = Item::default();
    // What stands deeper belongs to the variant before it.
    let mut inside: Vec<String> = Vec::new();
    for line in lines {
        let (text, indented) = (line.trim(), line.len() - line.trim_start().len());
        if indented > 4 {
            inside.push(line.strip_prefix("    ").unwrap_or(line).to_owned());
        } else if text == "}," {
            if let Some(last) = found.last_mut() {
                last.fields = items(&inside);
            }
            inside.clear();
        } else if let Some(doc) = text.strip_prefix("///") {
            if !next.doc.is_empty() {
                next.doc.push(' ');
            }
            next.doc.push_str(doc.trim());
        } else if text == "#[default]" {
            next.is_default = true;
        } else if let Some(name) = text.strip_prefix("#[serde(rename = \"") {
            name.split('"').next().unwrap().clone_into(&mut next.name);
        } else if text.contains("skip)]") {
            "skipped".clone_into(&mut next.value);
        } else if !text.starts_with('#') && !text.is_empty() {
            let (head, value) = text.trim_end_matches(',').split_once(" = ").unwrap_or((text, ""));
            if next.value == "skipped" {
                next = Item::default();
                continue;
            }
            value.clone_into(&mut next.value);
            let head = head.trim_start_matches("pub ");
            let name = head.split([' ', ':', ',', '(']).next().unwrap();
            if next.name.is_empty() {
                name.clone_into(&mut next.name);
            }
            found.push(std::mem::take(&mut next));
        }
    }
    found
}

/// `RunStarted` → `run_started`.
pub(super) fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for sign in name.chars() {
        if sign.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(sign.to_lowercase());
    }
    out
}
