//! Paths in records that no column names: an API has more fields than a spec declares, so that a path is
//! taken for wrong only when it is all but that of a declared one.

use super::{Checker, below};
use crate::spec::{ColumnSpec, Feed, ForEach, Having, RequestSpec, Stream};
use crate::yaml::{Finding, is_slip};

impl Checker<'_> {
    /// Checks the paths by which a request meets records of other streams, and of queues.
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
        for (queue, path) in &request.within {
            self.slip(&below(at, &["within", queue]), path, "the stream", &known);
        }
        if let Some(found) = &request.found {
            let around = known.iter().filter_map(|path| path.strip_prefix("^."));
            let around: Vec<&str> = around.collect();
            let at = below(at, &["found", "at"]);
            self.slip(&at, &found.at, "the stream, by `^`", &around);
        }
    }

    fn slip(&mut self, at: &[&str], path: &str, whose: &str, known: &[&str]) {
        if known.contains(&path) {
            return;
        }
        if let Some(meant) = known.iter().find(|known| is_slip(path, known)) {
            let message = format!("`{path}` is the path of no column of {whose}");
            let hint = format!("did you mean `{meant}`? A path that is meant so needs a column");
            self.findings.push(Finding::new(at, message).with_hint(hint));
        }
    }
}

/// Paths of a stream's records that it names.
fn paths_of(stream: &Stream) -> impl Iterator<Item = &str> {
    let columns = stream.columns.iter().flat_map(|(name, column)| paths_in(name, column));
    let feeds = stream.feeds.values();
    let having = feeds.clone().filter_map(|feed| feed.having()).flat_map(Having::all);
    columns.chain(feeds.map(Feed::value)).chain(having.map(|(path, _)| path))
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
