//! The routes of a stream and the cost of its requests, for `weir conns discover`.

use indexmap::IndexMap;
use serde_json::json;

use crate::plan::{OWN, requests_of};
use crate::spec::{Fetch, ForEach, QueryValue, RequestSpec, Spec, Stream};

/// The cost of a stream's requests under a points quota.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Cost<'spec> {
    /// Class of the records.
    class: &'spec str,
    /// Points per record.
    object: u32,
    /// Points per request, in addition to the points of its records.
    request: u32,
}

/// The cost of a stream's requests; `None` if the spec declares no points.
pub(crate) fn cost<'spec>(spec: &'spec Spec, stream: &Stream) -> Option<Cost<'spec>> {
    let points = spec.limits.points.as_ref()?;
    let named = stream.cost.as_ref().and_then(|class| points.record.get_key_value(class));
    let (class, object) = named.or_else(|| points.record.first())?;
    Some(Cost { class, object: *object, request: points.base })
}

impl Cost<'_> {
    /// Points per record and class, for a table.
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.object, self.class)
    }

    /// The cost as text.
    pub(crate) fn long(&self) -> String {
        let Self { class, object, request } = self;
        let many = |count: u32| if count == 1 { "" } else { "s" };
        format!(
            "{request} point{} per request and {object} per record ({class}), if the API counts points",
            many(*request)
        )
    }
}

/// The routes of a stream with their requests, each as one line.
pub(crate) fn described(spec: &Spec, stream: &Stream) -> Vec<(String, Vec<String>)> {
    let all = requests_of(spec, stream).into_iter();
    all.map(|(name, requests)| (name, requests.iter().map(shown).collect())).collect()
}

/// Names of the routes other than the default route.
pub(crate) fn names(stream: &Stream) -> Vec<&str> {
    stream.routes.keys().map(String::as_str).collect()
}

/// The routes as JSON.
pub(crate) fn json(spec: &Spec, stream: &Stream) -> Vec<serde_json::Value> {
    let routes = requests_of(spec, stream).into_iter().map(|(name, requests)| {
        let requests: Vec<_> = requests
            .iter()
            .map(|request| {
                let (method, path) = target(request);
                let query =
                    request.query.iter().map(|(name, value)| (name.clone(), json!(value.0)));
                json!({
                    "method": method,
                    "path": path,
                    "query": query.collect::<serde_json::Map<_, _>>(),
                    "for_each": request.for_each.as_ref().map(over),
                    "fetch": request.fetch.as_ref().map(|fetch| &fetch.get),
                    "none_where": request.derive.as_ref().map(|derive| &derive.when),
                    "when": request.when,
                })
            })
            .collect();
        json!({ "route": name, "own": name == OWN, "requests": requests })
    });
    routes.collect()
}

fn target(request: &RequestSpec) -> (Option<&str>, Option<&str>) {
    match (&request.get, &request.post) {
        (Some(path), _) => (Some("GET"), Some(path)),
        (None, Some(path)) => (Some("POST"), Some(path)),
        (None, None) => (None, None),
    }
}

fn shown(request: &RequestSpec) -> String {
    let mut text = match target(request) {
        (Some(method), Some(path)) => format!("{method} {path}"),
        _ => "no request: rows are derived from the parent's rows".to_owned(),
    };
    text.push_str(&queried(&request.query));
    if let Some(over) = request.for_each.as_ref().map(over) {
        text = format!("{text}, for {over}");
    }
    if let Some(derive) = &request.derive {
        text = format!("{text}, none where {}", derive.when);
    }
    if let Some(Fetch { chunk, get, query, .. }) = &request.fetch {
        text = format!("{text}, then GET {get}{}, for each {chunk} that changed", queried(query));
    }
    if let Some(when) = &request.when {
        text = format!("{text}, when {when}");
    }
    text
}

/// The query of a URL, with `?`; empty if there is none.
fn queried(query: &IndexMap<String, QueryValue>) -> String {
    let all = query
        .iter()
        .flat_map(|(name, values)| values.0.iter().map(move |value| format!("{name}={value}")));
    let all: Vec<String> = all.collect();
    if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
}

/// The values that a request is repeated for, as text.
fn over(for_each: &ForEach) -> String {
    match for_each {
        ForEach::Queue(items) => {
            let only = items.only.as_ref().map_or(String::new(), |only| format!(" where {only}"));
            match items.chunk {
                Some(chunk) => format!("each {chunk} of {}{only}", items.queue),
                None => format!("each of {}{only}", items.queue),
            }
        }
        ForEach::Input(items) => match items.chunk {
            Some(chunk) => format!("each {chunk} of {}", items.input),
            None => format!("each of {}", items.input),
        },
        ForEach::Values(items) => format!("each of {}", items.values.join(", ")),
        ForEach::Range(items) => {
            format!("each from {} to {}", items.range.from.0, items.range.to.0)
        }
    }
}
