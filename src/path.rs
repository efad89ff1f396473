//! Paths into JSON: `body.storage.value`, `errors[0].title`, `["odd key"]`, `results[].labels`.

use std::fmt;

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathStep {
    /// The field of this name.
    Key(String),
    /// The item at this position, from 0.
    Index(usize),
    /// Every item.
    Each,
    /// The record that encloses this one: a leading `^`.
    Up,
}

/// A path from a JSON value to values inside it. The empty path is the value itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Its steps.
    pub steps: Vec<PathStep>,
}

/// Why a text is not a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// A lowercase clause.
    pub message: String,
    /// Byte offset of the error in the text, from 0.
    pub offset: usize,
}

impl fmt::Display for PathError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for PathError {}

impl Path {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some(below) = rest.strip_prefix('^') {
            steps.push(PathStep::Up);
            rest = below.strip_prefix('.').unwrap_or(below);
        }
        while !rest.is_empty() {
            let offset = text.len() - rest.len();
            let (step, tail) = if let Some(inner) = rest.strip_prefix('[') {
                bracket(inner).ok_or_else(|| PathError {
                    message: "`[` must be followed by `]`, or by a number or a quoted name and `]`"
                        .to_owned(),
                    offset,
                })?
            } else {
                key(rest, steps.is_empty() || matches!(steps.last(), Some(PathStep::Up)))
                    .ok_or_else(|| PathError { message: "a name is missing".to_owned(), offset })?
            };
            steps.push(step);
            rest = tail;
        }
        Ok(Self { steps })
    }

    /// The value at the path; `None` if a part of the path is missing, or if it leads to several
    /// values.
    pub fn find<'value>(&self, value: &'value Value) -> Option<&'value Value> {
        self.steps.iter().try_fold(value, |value, step| match step {
            PathStep::Key(name) => value.get(name),
            PathStep::Index(index) => value.get(index),
            PathStep::Each | PathStep::Up => None,
        })
    }
}

/// `.name` or, at the start, `name`.
fn key(text: &str, first: bool) -> Option<(PathStep, &str)> {
    let text = if first { text } else { text.strip_prefix('.')? };
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let trimmed = !name.is_empty() && name.trim() == name && !name.contains(['{', '}', ']', '^']);
    trimmed.then(|| (PathStep::Key(name.to_owned()), rest))
}

/// The step after an opening bracket.
fn bracket(text: &str) -> Option<(PathStep, &str)> {
    if let Some(rest) = text.strip_prefix(']') {
        return Some((PathStep::Each, rest));
    }
    if text.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let name = names.next()?.ok()?;
        let rest = text.get(names.byte_offset()..)?.strip_prefix(']')?;
        return Some((PathStep::Key(name), rest));
    }
    let (digits, rest) = text.split_once(']')?;
    digits.parse().ok().map(|index| (PathStep::Index(index), rest))
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                PathStep::Key(name) if name.contains(['.', '[', ' ']) => {
                    write!(formatter, "[{name:?}]")?;
                }
                PathStep::Key(name) if position == 0 => formatter.write_str(name)?,
                PathStep::Key(name) => write!(formatter, ".{name}")?,
                PathStep::Index(index) => write!(formatter, "[{index}]")?,
                PathStep::Each => formatter.write_str("[]")?,
                PathStep::Up => formatter.write_str(if position == 0 { "^" } else { ".^" })?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, steps: &[PathStep]) {
        assert_eq!(Path::parse(text).unwrap().steps, steps, "{text}");
    }

    fn named(name: &str) -> PathStep {
        PathStep::Key(name.to_owned())
    }

    #[test]
    fn paths_are_read_step_by_step() {
        check("", &[]);
        check("id", &[named("id")]);
        check("body.storage.value", &[named("body"), named("storage"), named("value")]);
        check("results[].labels", &[named("results"), PathStep::Each, named("labels")]);
        check("errors[0].title", &[named("errors"), PathStep::Index(0), named("title")]);
        check("a[\"b.c\"].d", &[named("a"), named("b.c"), named("d")]);
        check("[\"odd key\"]", &[named("odd key")]);
        check("^.id", &[PathStep::Up, named("id")]);
        check("inline-marker-ref", &[named("inline-marker-ref")]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["a..b", ".a", "a.", "a[", "a[x]", "a b.", " a", "a[]b", "{{ a }}"] {
            assert!(Path::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_finds_its_value() {
        let value = json!({ "errors": [{ "title": "Not Found" }] });
        let path = Path::parse("errors[0].title").unwrap();
        assert_eq!(path.find(&value), Some(&json!("Not Found")));
        assert_eq!(Path::parse("errors[1].title").unwrap().find(&value), None);
    }
}
