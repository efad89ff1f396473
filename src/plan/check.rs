//! A replication held against its spec: names that the spec does not have.

use super::{input_type, matches_pattern, variables};
use crate::replication::{Mode, Replication, StreamOptions};
use crate::schema::EXTRA;
use crate::spec::{Spec, Stream};
use crate::yaml::{Finding, suggest};

/// All that a replication says of streams, columns and inputs that the spec does not have, or not so.
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
    findings
}

fn options(
    path: &[&str],
    options: &StreamOptions,
    spec: &Spec,
    streams: &[&Stream],
    findings: &mut Vec<Finding>,
) {
    for (name, value) in &options.inputs {
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
        findings.push(Finding::new(&at, "incremental needs a key, and the spec declares none"));
    }
}
