//! Problems in files, before and after their place is known.

use std::fmt;

use super::place::Place;
use super::suggest::suggest;
use crate::error::Error;

/// A problem in a file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: String,
    /// The place.
    pub place: Place,
    /// What is wrong, as a lowercase clause.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line; `None` if it may contain a secret.
    pub line: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column } = self.place;
        write!(formatter, "{}:{line}:{column}: {}", self.file, self.message)?;
        if let Some(text) = &self.line {
            let gutter = line.to_string().len();
            let indent: String = text
                .chars()
                .take(column.saturating_sub(1))
                .map(|letter| if letter == '\t' { '\t' } else { ' ' })
                .collect();
            write!(formatter, "\n  {line} | {text}\n  {:gutter$} | {indent}^", "")?;
        }
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, "\n  hint: {hint}"))
    }
}

/// All problems in a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Sorts the problems by place and removes duplicates.
    pub(super) fn tidy(mut self) -> Self {
        self.0.sort();
        self.0.dedup();
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            let gap = if position == 0 { "" } else { "\n" };
            write!(formatter, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::input(problems.to_string())
    }
}

/// A problem identified by a path, before its place is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Keys and, for list items, positions from 0, from the top of the document.
    pub path: Vec<String>,
    /// What is wrong, as a lowercase clause.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The missing name, if the problem is a missing name.
    pub missing: Option<String>,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Self { path, message: message.into(), hint: None, missing: None }
    }

    /// A finding about a missing name, with similar names as a hint.
    pub fn missing<'name>(
        path: &[&str],
        message: impl Into<String>,
        name: &str,
        known: impl IntoIterator<Item = &'name str>,
    ) -> Self {
        let hint = suggest(name, known);
        Self { hint, missing: Some(name.to_owned()), ..Self::new(path, message) }
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
