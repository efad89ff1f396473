//! Misspelt paths in records. An API has more fields than a spec declares, so a path counts as
//! misspelt only if it nearly equals the path of a declared column.

use super::checker::{Checker, below};
use crate::path::{Path, PathStep};
use crate::spec::language::column::ColumnSpec;
use crate::spec::language::records::{Feed, Filter};
use crate::spec::language::request::{ForEach, RequestSpec};
use crate::spec::language::stream::Stream;
use crate::yaml::{Finding, is_slip};

impl Checker<'_> {
    /// Checks the paths with which a request refers to records of other streams and of queues.
    pub(super) fn joints(&mut self, at: &[&str], stream: &Stream, request: &RequestSpec) {
        let spec = self.spec;
        if let Some(ForEach::Queue(items)) = &request.for_each {
            let feeders: Vec<(&String, &Stream)> = spec
                .streams
                .iter()
                .filter(|(_, other)| other.feeds.contains_key(&items.queue))
                .collect();
            let names: Vec<String> =
                feeders.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>();
            let known: Vec<&str> = feeders.iter().flat_map(|(_, other)| paths_of(other)).collect();
            let whose = format!("{}, which feeds `{}`", names.join(" and "), items.queue);
            for (variable, path) in &items.carry {
                self.slip(&below(at, &["for_each", "carry", variable]), path, &whose, &known);
            }
        }
        let own = request.columns.iter().chain(&stream.columns);
        let known: Vec<&str> = own.flat_map(|(name, column)| paths_in(name, column)).collect();
        for (queue, path) in &request.parent_in {
            self.slip(&below(at, &["parent_in", queue]), path, "the stream", &known);
        }
        if let Some(covers) = &request.covers {
            let around = known.iter().filter_map(|path| path.strip_prefix("^."));
            let around: Vec<&str> = around.collect();
            let at = below(at, &["covers", "at"]);
            self.slip(&at, &covers.at, "the stream, by `^`", &around);
        }
    }

    /// Checks that no column's path has more `^` than there are enclosing records, in any of the
    /// stream's requests.
    pub(super) fn heights(&mut self, path: &[&str], stream: &Stream) {
        let spec = self.spec;
        let own = stream.records.as_ref().or(spec.defaults.records.as_ref());
        let listed =
            stream.requests.iter().map(|request| (request, request.records.as_ref().or(own)));
        let others = stream.cursor.iter().flat_map(|cursor| &cursor.requests);
        let others = others.chain(stream.routes.values().flat_map(|route| &route.0));
        let default = spec.defaults.records.as_ref();
        let others = others.map(|request| (request, request.records.as_ref().or(default)));
        let alone = stream.own_request();
        let alone = stream.requests.is_empty().then_some((&alone, own));
        let all: Vec<_> = alone.into_iter().chain(listed).chain(others).collect();
        for (name, column) in &stream.columns {
            for (request, records) in &all {
                let column = request.columns.get(name).unwrap_or(column);
                let levels = records.map_or(0, |records| enclosing(records));
                let mut heights =
                    column.from.iter().flat_map(|from| &from.0).map(|text| height(text));
                let first = heights.next().unwrap_or_default();
                let mixed = heights.clone().any(|height| height != first);
                let too_high = heights.chain([first]).any(|height| height > levels);
                let records = records.map_or("", |records| records.as_str());
                let message = if too_high {
                    format!(
                        "this path has more `^` than there are records around those at `{records}`"
                    )
                } else if mixed {
                    "all paths of a column must lead into the same record".to_owned()
                } else {
                    continue;
                };
                self.found(&below(path, &["columns", name]), message);
                break;
            }
        }
    }

    fn slip(&mut self, at: &[&str], path: &str, whose: &str, known: &[&str]) {
        if known.contains(&path) {
            return;
        }
        if let Some(meant) = known.iter().find(|known| is_slip(path, known)) {
            let message = format!("`{path}` is not the path of a column of {whose}");
            let hint =
                format!("did you mean `{meant}`? If the path is correct, declare a column with it");
            self.findings.push(Finding::new(at, message).with_hint(hint));
        }
    }
}

/// Number of records that enclose those at a path.
fn enclosing(records: &str) -> usize {
    let path = Path::parse(records).unwrap_or_default();
    let all = path.steps.iter().filter(|step| **step == PathStep::Each).count();
    // `data[]` means the list at `data`.
    all - usize::from(path.steps.last() == Some(&PathStep::Each))
}

/// Number of records that a path goes up.
fn height(text: &str) -> usize {
    let path = Path::parse(text).unwrap_or_default();
    path.steps.iter().take_while(|step| **step == PathStep::Up).count()
}

/// Paths in a stream's records that the stream declares.
fn paths_of(stream: &Stream) -> impl Iterator<Item = &str> {
    let columns = stream.columns.iter().flat_map(|(name, column)| paths_in(name, column));
    let feeds = stream.feeds.values();
    let filter = feeds.clone().filter_map(|feed| feed.filter()).flat_map(Filter::all);
    columns.chain(feeds.map(Feed::value)).chain(filter.map(|(path, _)| path))
}

/// Paths of a column.
fn paths_in<'spec>(
    name: &'spec str,
    column: &'spec ColumnSpec,
) -> impl Iterator<Item = &'spec str> + use<'spec> {
    let own = column.from.is_none().then_some(name);
    let from = column.from.iter().flat_map(|from| &from.0).map(String::as_str);
    own.into_iter().chain(from.filter(|text| !text.contains("{{")))
}
