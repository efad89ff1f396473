//! Requests that are sent as one must not contradict each other.

use super::checker::{Checker, below};
use crate::spec::language::api::Spec;
use crate::spec::language::request::{ForEach, RequestSpec};

/// A request with embedded records, and its path in the spec.
struct EmbeddedRequest<'spec> {
    place: Vec<String>,
    request: &'spec RequestSpec,
    queue: &'spec str,
}

impl Checker<'_> {
    /// Checks that embedded requests for the same objects do not give a parameter different values.
    pub(super) fn fused(&mut self) {
        let spec = self.spec;
        let all = embedded(spec);
        for (number, one) in all.iter().enumerate() {
            for (name, value) in &one.request.query {
                let by_default = spec.defaults.query.get(name);
                let other = all.iter().enumerate().find(|(at, other)| {
                    // Of two contradicting requests, the later one is reported.
                    let theirs = match other.request.query.get(name) {
                        Some(_) if *at >= number => None,
                        Some(theirs) => Some(theirs),
                        None => by_default,
                    };
                    one.meets(other) && theirs.is_some_and(|theirs| theirs != value)
                });
                let Some((_, other)) = other else { continue };
                let stream = other.place.get(1).map_or("", String::as_str);
                let path = one.request.get.as_deref().unwrap_or_default();
                let message = format!(
                    "`{stream}` gives `{name}` a different value, but both share one request for `{path}`"
                );
                let place: Vec<&str> = one.place.iter().map(String::as_str).collect();
                self.found(&below(&place, &["query", name]), message);
            }
        }
    }
}

fn embedded(spec: &Spec) -> Vec<EmbeddedRequest<'_>> {
    let mut all = Vec::new();
    for (stream, route, requests) in spec.streams.iter().flat_map(|(name, stream)| {
        stream.routes.iter().map(move |(route, requests)| (name, route, requests))
    }) {
        for (position, request) in requests.0.iter().enumerate() {
            let Some(ForEach::Queue(items)) = &request.for_each else { continue };
            if request.embedded.is_none() {
                continue;
            }
            let mut place = vec!["streams".to_owned(), stream.clone()];
            place.extend(["routes".to_owned(), route.clone()]);
            if requests.0.len() > 1 {
                place.push(position.to_string());
            }
            all.push(EmbeddedRequest { place, request, queue: &items.queue });
        }
    }
    all
}

impl EmbeddedRequest<'_> {
    /// Whether both may be part of the same request.
    fn meets(&self, other: &Self) -> bool {
        // A run uses only one route of a stream.
        let apart = self.place.get(1) == other.place.get(1);
        let same = self.queue == other.queue && self.request.get == other.request.get;
        let conditions = (self.request.when.as_deref(), other.request.when.as_deref());
        same && !apart && !matches!(conditions, (Some(one), Some(other)) if excludes(one, other))
    }
}

/// Whether one condition is textually the opposite of the other.
fn excludes(one: &str, other: &str) -> bool {
    let opposite = |one: &str, other: &str| {
        let denied = one.trim().strip_prefix("not ").map(str::trim);
        let bare = denied.map(|text| {
            let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
            inner.filter(|inner| !inner.contains(['(', ')'])).unwrap_or(text)
        });
        // `not a and b` negates `a` only.
        let simple = |text: &str| text == denied.unwrap_or_default() && text.contains([' ', '(']);
        bare.is_some_and(|bare| bare.trim() == other.trim() && !simple(bare))
    };
    opposite(one, other) || opposite(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_exclude_their_opposites() {
        assert!(excludes("not space_keys", "space_keys"));
        assert!(excludes("a and b", "not (a and b)"));
        for (one, other) in [("a", "b"), ("not a and b", "a and b"), ("not (a) or (b)", "a) or (b")]
        {
            assert!(!excludes(one, other), "{one}, {other}");
        }
    }
}
