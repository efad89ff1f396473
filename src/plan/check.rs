//! Checks of a replication against its spec.

use indexmap::IndexMap;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::plan::select::{matches_pattern, settings_of};
use crate::plan::variables;
use crate::plan::variables::input_type;
use crate::replication::{Mode, Replication, StreamOptions};
use crate::schema::EXTRA;
use crate::spec::{Spec, Stream};
use crate::yaml::{Finding, suggest};

/// Finds streams, columns and inputs of a replication that the spec does not have, and values of
/// the wrong type.
pub fn check(replication: &Replication, spec: &Spec) -> Vec<Finding> {
    let mut findings = Vec::new();
    let everything: Vec<&Stream> = spec.selectable().map(|(_, stream)| stream).collect();
    options(&["defaults"], &replication.defaults, spec, &everything, &mut findings);
    for (pattern, own) in &replication.streams {
        let path = ["streams", pattern.as_str()];
        let named = spec.selectable().filter(|(name, _)| matches_pattern(pattern, name));
        let streams: Vec<&Stream> = named.map(|(_, stream)| stream).collect();
        if streams.is_empty() {
            let message = format!("`{}` has no stream `{pattern}`", spec.name);
            let mut finding = Finding::new(&path, message);
            finding.hint = suggest(pattern, spec.selectable().map(|(name, _)| name.as_str()));
            findings.push(finding);
        } else if let Some(own) = own {
            options(&path, own, spec, &streams, &mut findings);
        }
    }
    findings.extend(homeless(replication, spec));
    findings
}

/// Finds streams without an `object`.
fn homeless(replication: &Replication, spec: &Spec) -> Option<Finding> {
    let mut names = spec.selectable().map(|(name, _)| name).filter(|name| {
        let settings = settings_of(replication, name);
        settings.is_some_and(|own| own.disabled != Some(true) && own.object.is_none())
    });
    let first = names.next()?;
    let more = if names.next().is_some() { " and others" } else { "" };
    let message =
        format!("`object` is missing: it names the table or file for the rows of `{first}`{more}");
    let place = replication.source.to_lowercase();
    let place = if place.contains("://") { &spec.name } else { &place };
    let hint = format!(
        "under `defaults`, for a database: object: \"{place}.{{stream_name}}\"; for files: object: \
         \"{place}/{{stream_name}}.parquet\""
    );
    Some(Finding::new(&["defaults"], message).with_hint(hint))
}

/// Checks values of a spec's inputs that a connection sets.
///
/// # Errors
/// All that the spec does not have, or not so.
pub fn check_inputs(set: &IndexMap<String, Value>, spec: &Spec) -> Result<()> {
    let wrong: Vec<String> = inputs(&[], set, spec)
        .into_iter()
        .map(|Finding { path, message, hint, .. }| {
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}: {message}{hint}", path.join("."))
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Error::input(wrong.join("\n"))) }
}

fn inputs(path: &[&str], set: &IndexMap<String, Value>, spec: &Spec) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, value) in set {
        let at = [path, &["inputs", name]].concat();
        match spec.inputs.get(name) {
            None => {
                let mut finding =
                    Finding::new(&at, format!("`{}` has no input `{name}`", spec.name));
                finding.hint = suggest(name, spec.inputs.keys().map(String::as_str));
                findings.push(finding);
            }
            Some(input) if !variables::fits(input, value) => {
                findings.push(Finding::new(&at, format!("this is not {}", input_type(input))));
            }
            Some(_) => {}
        }
    }
    findings
}

fn options(
    path: &[&str],
    options: &StreamOptions,
    spec: &Spec,
    streams: &[&Stream],
    findings: &mut Vec<Finding>,
) {
    findings.extend(inputs(path, &options.inputs, spec));
    let columns = || streams.iter().flat_map(|stream| stream.columns.keys()).map(String::as_str);
    for name in options.columns.keys() {
        if !columns().any(|column| column == name) {
            let at = [path, &["columns", name]].concat();
            let mut finding = Finding::new(&at, format!("there is no column `{name}`"));
            finding.hint = suggest(name, columns());
            findings.push(finding);
        }
    }
    for (position, pattern) in options.select.iter().enumerate() {
        let wanted = pattern.trim_start_matches('-');
        if !columns().chain([EXTRA]).any(|column| matches_pattern(wanted, column)) {
            let position = position.to_string();
            let at = [path, &["select", &position]].concat();
            let mut finding = Finding::new(&at, format!("there is no column `{wanted}`"));
            finding.hint = suggest(wanted, columns());
            findings.push(finding);
        }
    }
    let keyless = streams.iter().any(|stream| stream.key.is_empty());
    if options.mode == Some(Mode::Incremental) && keyless {
        let at = [path, &["mode"]].concat();
        findings.push(Finding::new(
            &at,
            "incremental needs a key, but the spec declares none for this stream",
        ));
    }
}
