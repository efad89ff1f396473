//! The checker, and the checks that several parts of a spec share.

use std::collections::BTreeSet;

use super::names::{ALWAYS, CURSOR, Names};
use crate::path::{Path, PathStep};
use crate::spec::language::api::Spec;
use crate::spec::language::pages::Paginate;
use crate::spec::language::responses::ResponseRule;
use crate::spec::language::value::QueryValue;
use crate::template::{Expression, Template};
use crate::yaml::Finding;

pub(super) struct Checker<'spec> {
    pub(super) spec: &'spec Spec,
    pub(super) names: Names,
    pub(super) findings: Vec<Finding>,
}

/// A path extended by more keys.
pub(super) fn below<'path>(path: &[&'path str], rest: &[&'path str]) -> Vec<&'path str> {
    [path, rest].concat()
}

impl Checker<'_> {
    pub(super) fn found(&mut self, path: &[&str], message: impl Into<String>) {
        self.findings.push(Finding::new(path, message));
    }

    pub(super) fn found_if(&mut self, wrong: bool, path: &[&str], message: &str) {
        if wrong {
            self.found(path, message);
        }
    }

    /// Reports a name that is not among the known ones.
    pub(super) fn stranger<'known>(
        &mut self,
        path: &[&str],
        message: String,
        name: &str,
        known: impl IntoIterator<Item = &'known str>,
    ) {
        self.findings.push(Finding::missing(path, message, name, known));
    }

    pub(super) fn name(&mut self, path: &[&str], name: &str) {
        if !is_name(name) {
            self.found(
                path,
                format!(
                    "`{name}` is not a valid name: use a-z, 0-9 and `_`, and begin with a letter"
                ),
            );
        }
    }

    /// Checks the name of a variable.
    pub(super) fn variable(&mut self, path: &[&str], name: &str) {
        self.name(path, name);
        if ALWAYS.contains(&name) || ["row", CURSOR].contains(&name) {
            self.found(path, format!("`{name}` is reserved by weir; choose another name"));
        }
    }

    /// Checks that exactly one of several keys is given.
    pub(super) fn one_of(&mut self, path: &[&str], keys: &str, given: &[bool]) {
        let wrong = given.iter().filter(|given| **given).count() != 1;
        self.found_if(wrong, path, &format!("exactly one of {keys} is required"));
    }

    /// Checks a path to a single value.
    pub(super) fn path(&mut self, at: &[&str], text: &str) {
        let Some(path) = self.any_path(at, text) else { return };
        let many = path.steps.contains(&PathStep::Each);
        self.found_if(many, at, "`[]` leads to many values, but one value is required here");
        let up = path.steps.contains(&PathStep::Up);
        self.found_if(up, at, "`^` is allowed in the columns of nested records only");
    }

    /// Checks a path to records, which may lead through enclosing records.
    pub(super) fn records_path(&mut self, at: &[&str], text: &str) {
        let Some(path) = self.any_path(at, text) else { return };
        let up = path.steps.contains(&PathStep::Up);
        self.found_if(
            up,
            at,
            "the path to the records cannot go up: nothing encloses the response",
        );
    }

    pub(super) fn any_path(&mut self, at: &[&str], text: &str) -> Option<Path> {
        match Path::parse(text) {
            Ok(path) => Some(path),
            Err(error) => {
                self.found(at, format!("`{text}` is not a valid path: {error}"));
                None
            }
        }
    }

    pub(super) fn expression(&mut self, at: &[&str], text: Option<&str>, known: &BTreeSet<String>) {
        let Some(text) = text else { return };
        match Expression::parse(text) {
            Ok(expression) => self.defined(at, &expression.variables(), known),
            Err(error) => self.found(at, format!("this is not a valid expression: {error}")),
        }
    }

    pub(super) fn template(&mut self, at: &[&str], text: &str, known: &BTreeSet<String>) {
        match Template::parse(text) {
            Ok(template) => self.defined(at, &template.variables(), known),
            Err(error) => self.found(at, format!("this is not a valid template: {error}")),
        }
    }

    /// Checks a template that is appended to the base URL.
    pub(super) fn url_path(&mut self, at: &[&str], text: &str, known: &BTreeSet<String>) {
        self.template(at, text, known);
        let apart = text.starts_with('/') || text.starts_with("{{");
        self.found_if(!apart, at, "a path below the base URL must start with `/`");
    }

    pub(super) fn query<'value>(
        &mut self,
        at: &[&str],
        query: impl IntoIterator<Item = (&'value String, &'value QueryValue)>,
        known: &BTreeSet<String>,
    ) {
        for (name, value) in query {
            for text in &value.0 {
                self.template(&below(at, &[name]), text, known);
            }
        }
    }

    pub(super) fn headers<'value>(
        &mut self,
        at: &[&str],
        headers: impl IntoIterator<Item = (&'value String, &'value String)>,
        known: &BTreeSet<String>,
    ) {
        for (name, text) in headers {
            let at = below(at, &[name]);
            if !is_header(name) {
                self.found(&at, format!("`{name}` is not a valid header name"));
            }
            self.template(&at, text, known);
        }
    }

    fn defined(&mut self, at: &[&str], used: &BTreeSet<String>, known: &BTreeSet<String>) {
        for name in used.difference(known) {
            if self.names.is_secret(name) {
                let message = format!("`{name}` is secret and cannot be used here");
                let finding = Finding::new(at, message);
                self.findings.push(finding.with_hint("secrets are allowed in `auth` only"));
                continue;
            }
            let message = format!("`{name}` is not defined here");
            self.stranger(at, message, name, known.iter().map(String::as_str));
        }
    }

    pub(super) fn rules(&mut self, path: &[&str], rules: &[ResponseRule]) {
        for (position, rule) in rules.iter().enumerate() {
            let position = position.to_string();
            let at = below(path, &[&position]);
            let asked = rule.status.is_some() || rule.header.is_some() || rule.body.is_some();
            self.found_if(
                !asked && !rule.no_response,
                &at,
                "a rule needs a condition: `status`, `no_response`, `header` or `body`",
            );
            self.found_if(
                asked && rule.no_response,
                &below(&at, &["no_response"]),
                "with `no_response` there is no `status`, `header` or `body` to check",
            );
            if let Some(body) = rule.body.as_ref().and_then(|body| body.at.as_deref()) {
                self.path(&below(&at, &["body", "at"]), body);
            }
            let attempts = below(&at, &["attempts"]);
            self.found_if(
                rule.attempts == Some(0),
                &attempts,
                "the number includes the first attempt, so it must be at least 1",
            );
            let tuned = rule.attempts.is_some() || rule.delay.is_some() || rule.max_delay.is_some();
            self.found_if(
                tuned && rule.backoff.is_none(),
                &at,
                "`attempts`, `delay` and `max_delay` need `backoff`",
            );
        }
    }

    pub(super) fn paginate(&mut self, path: &[&str], paginate: Option<&Paginate>) {
        let Some(paginate) = paginate else { return };
        let (form, paths) = match paginate {
            Paginate::None | Paginate::LinkHeader(_) => return,
            Paginate::NextUrl(pages) => ("next_url", vec![("at", Some(&pages.at))]),
            Paginate::Cursor(pages) => {
                let signs = [("last", pages.last.as_ref()), ("more", pages.more.as_ref())];
                ("cursor", [vec![("at", Some(&pages.at))], signs.to_vec()].concat())
            }
            Paginate::Page(pages) | Paginate::Offset(pages) => {
                let form = if matches!(paginate, Paginate::Page(_)) { "page" } else { "offset" };
                let signs = [
                    ("last", pages.last.as_ref()),
                    ("more", pages.more.as_ref()),
                    ("total", pages.total.as_ref()),
                    ("pages", pages.pages.as_ref()),
                ];
                (form, signs.to_vec())
            }
        };
        for (key, text) in paths {
            if let Some(text) = text {
                self.path(&below(path, &["paginate", form, key]), text);
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.chars().all(|letter| letters(letter) || letter == '_')
}

/// Whether a text is a token of RFC 9110 §5.6.2.
fn is_header(name: &str) -> bool {
    let sign = |letter: char| "!#$%&'*+-.^_`|~".contains(letter);
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || sign(letter))
}
