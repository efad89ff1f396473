//! `weir conns discover`: the streams of an API, from its spec alone.

use serde_json::json;

use crate::cli::args::Shared;
use crate::cli::exit::Exit;
use crate::cli::open;
use crate::cli::output::{printer, routes};
use crate::connection::{ConnectionKind, Connections};
use crate::error::{Error, Result};
use crate::plan::matches_pattern;
use crate::spec::{ForEach, Spec, Stream};
use crate::yaml::suggest;

pub(crate) fn run(
    name: &str,
    pattern: Option<&str>,
    columns: bool,
    shared: Shared,
    connections: &Connections,
) -> Result<Exit> {
    let spec = match connections.find(name) {
        Ok(connection) if connection.kind != ConnectionKind::Api => {
            let what = format!("connection `{}` has type `{}`", connection.name, connection.kind);
            return Err(
                Error::input(what).with_hint("`weir conns discover` works for connections to APIs")
            );
        }
        Ok(connection) => open::spec_of(&connection)?,
        Err(unknown) => open::spec(name).map_err(|_| unknown)?,
    };
    let wanted = |name: &str| pattern.is_none_or(|pattern| matches_pattern(pattern, name));
    let streams: Vec<(&String, &Stream)> =
        spec.selectable().filter(|(name, _)| wanted(name)).collect();
    if let Some(pattern) = pattern.filter(|_| streams.is_empty()) {
        let hint =
            suggest(pattern, spec.selectable().map(|(name, _)| name.as_str())).unwrap_or_default();
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
        printer::data(&listed(&spec, &streams));
    }
    Ok(Exit::Done)
}

/// A table row for each stream, followed by the first sentence of its description.
fn listed(spec: &Spec, streams: &[(&String, &Stream)]) -> String {
    let head = ["stream", "columns", "key", "parent", "points"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(streams.iter().map(|(name, stream)| {
        let cost = routes::cost(spec, stream).map(|cost| cost.short());
        vec![
            (*name).clone(),
            stream.columns.len().to_string(),
            stream.key.join(", "),
            parents(spec, stream).join(", "),
            cost.unwrap_or_default(),
        ]
    }));
    if spec.limits.points.is_none() {
        for row in &mut rows {
            row.pop();
        }
    }
    let table = printer::table(&rows, &[1]);
    let mut facts = table.lines();
    let mut lines: Vec<String> = facts.next().map(str::to_owned).into_iter().collect();
    for (line, (_, stream)) in facts.zip(streams) {
        lines.push(line.to_owned());
        lines.extend(indented(&first_sentence(&stream.doc), 4));
        let routes = routes::names(stream);
        if !routes.is_empty() {
            lines.push(format!("    routes: {}", routes.join(", ")));
        }
    }
    lines.join("\n")
}

fn indented(text: &str, by: usize) -> Vec<String> {
    let lines = printer::wrapped(text, printer::data_width() - by);
    lines.into_iter().map(|line| format!("{:by$}{line}", "")).collect()
}

/// The parent streams of a stream.
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
        "cost": routes::cost(spec, stream),
        "routes": routes::json(spec, stream),
        "columns": columns.collect::<Vec<_>>(),
    })
}

fn detailed(spec: &Spec, name: &str, stream: &Stream) -> String {
    let parents = parents(spec, stream);
    let mut lines = vec![name.to_owned()];
    lines.extend(indented(&stream.doc, 2));
    lines.push(format!("  key: {}", stream.key.join(", ")));
    if !parents.is_empty() {
        lines.push(format!("  parent: {}", parents.join(", ")));
    }
    if let Some(cost) = routes::cost(spec, stream) {
        lines.push(format!("  cost: {}", cost.long()));
    }
    lines.push("  routes:".to_owned());
    for (name, requests) in routes::described(spec, stream) {
        lines.push(format!("    {name}"));
        lines.extend(requests.iter().flat_map(|request| indented(request, 6)));
    }
    lines.push("  columns:".to_owned());
    let facts: Vec<Vec<String>> = stream
        .columns
        .iter()
        .map(|(name, column)| vec![format!("    {name}"), column.kind.to_string()])
        .collect();
    let before = printer::width_of(&printer::table(&facts, &[])) + 2;
    let room = printer::data_width().saturating_sub(before).max(20);
    let mut rows = Vec::new();
    for (facts, column) in facts.into_iter().zip(stream.columns.values()) {
        let mut doc = printer::wrapped(column.doc.as_deref().unwrap_or_default(), room).into_iter();
        rows.push([facts, vec![doc.next().unwrap_or_default()]].concat());
        rows.extend(doc.map(|more| vec![String::new(), String::new(), more]));
    }
    lines.push(printer::table(&rows, &[]));
    lines.join("\n")
}

fn first_sentence(text: &str) -> String {
    let text = text.trim();
    text.split_once(". ")
        .map_or_else(|| text.trim_end_matches('.').to_owned(), |(first, _)| first.to_owned())
}
