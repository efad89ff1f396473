//! `weir conns discover`: what an API offers, from its spec alone.

use serde_json::json;

use super::{Exit, args::Shared, files, printer};
use crate::connection::Connections;
use crate::error::{Error, Result};
use crate::plan::matches_pattern;
use crate::spec::{ForEach, Spec, Stream};
use crate::yaml::suggest;

pub(super) fn run(
    name: &str,
    pattern: Option<&str>,
    columns: bool,
    (shared, connections): (Shared, &Connections),
) -> Result<Exit> {
    let spec = match connections.find(name) {
        Ok(connection) => files::spec_of(&connection)?,
        Err(unknown) => files::spec(name).map_err(|_| unknown)?,
    };
    let wanted = |name: &str| pattern.is_none_or(|pattern| matches_pattern(pattern, name));
    let streams: Vec<(&String, &Stream)> =
        spec.streams.iter().filter(|(name, _)| wanted(name)).collect();
    if let Some(pattern) = pattern.filter(|_| streams.is_empty()) {
        let hint = suggest(pattern, spec.streams.keys().map(String::as_str)).unwrap_or_default();
        return Err(Error::input(format!("no stream matches `{pattern}`")).with_hint(hint));
    }
    if shared.json {
        let all: Vec<_> =
            streams.iter().map(|(name, stream)| described(&spec, name, stream)).collect();
        printer::json(&all);
    } else if columns {
        let parts: Vec<String> =
            streams.iter().map(|(name, stream)| detailed(&spec, name, stream)).collect();
        printer::data(&parts.join("\n\n"));
    } else {
        let mut rows =
            vec![["stream", "key", "parent", "columns", "a row is"].map(str::to_owned).to_vec()];
        rows.extend(streams.iter().map(|(name, stream)| {
            vec![
                (*name).clone(),
                stream.key.join(", "),
                parents(&spec, stream).join(", "),
                stream.columns.len().to_string(),
                first_sentence(&stream.doc),
            ]
        }));
        printer::data(&printer::table(&rows, &[3]));
    }
    Ok(Exit::Done)
}

/// Streams whose records this one's requests are repeated over.
fn parents(spec: &Spec, stream: &Stream) -> Vec<String> {
    let iterations = stream
        .for_each
        .iter()
        .chain(stream.requests.iter().filter_map(|one| one.for_each.as_ref()));
    let queues: Vec<&str> = iterations
        .filter_map(|iteration| match iteration {
            ForEach::Queue(items) => Some(items.queue.as_str()),
            _ => None,
        })
        .collect();
    let feeds = |other: &Stream| queues.iter().any(|queue| other.feeds.contains_key(*queue));
    spec.streams.iter().filter(|(_, other)| feeds(other)).map(|(name, _)| name.clone()).collect()
}

fn described(spec: &Spec, name: &str, stream: &Stream) -> serde_json::Value {
    let columns = stream.columns.iter().map(
        |(column, declared)| json!({ "name": column, "type": declared.kind, "doc": declared.doc }),
    );
    json!({
        "stream": name,
        "doc": stream.doc,
        "docs": stream.docs,
        "key": stream.key,
        "parents": parents(spec, stream),
        "columns": columns.collect::<Vec<_>>(),
    })
}

fn detailed(spec: &Spec, name: &str, stream: &Stream) -> String {
    let parents = parents(spec, stream);
    let mut lines = vec![name.to_owned(), format!("  {}", stream.doc.trim())];
    lines.push(format!("  key: {}", stream.key.join(", ")));
    if !parents.is_empty() {
        lines.push(format!("  parent: {}", parents.join(", ")));
    }
    let rows: Vec<Vec<String>> = stream
        .columns
        .iter()
        .map(|(column, declared)| {
            let doc = declared.doc.clone().unwrap_or_default();
            vec![format!("    {column}"), declared.kind.to_string(), doc]
        })
        .collect();
    lines.push(printer::table(&rows, &[]));
    lines.join("\n")
}

fn first_sentence(text: &str) -> String {
    let text = text.trim();
    text.split_once(". ")
        .map_or_else(|| text.trim_end_matches('.').to_owned(), |(first, _)| first.to_owned())
}
