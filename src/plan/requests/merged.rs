//! The requests of a stream, merged with the keys of the stream and the spec's defaults.

use crate::spec::{DEFAULT, ForEach, QueueItems, RequestSpec, Spec, Stream};

/// The stream's requests, each merged with the keys of the stream and the spec's defaults.
pub(crate) fn merged(spec: &Spec, stream: &Stream) -> Vec<RequestSpec> {
    let own = overlaid(of_defaults(spec), stream.own_request());
    if stream.requests.is_empty() {
        return vec![own];
    }
    stream.requests.iter().map(|request| overlaid(own.clone(), request.clone())).collect()
}

/// The spec's defaults, as a request.
fn of_defaults(spec: &Spec) -> RequestSpec {
    let defaults = &spec.defaults;
    RequestSpec {
        query: defaults.query.clone(),
        headers: defaults.headers.clone(),
        records: defaults.records.clone(),
        paginate: defaults.paginate.clone(),
        page_size: defaults.page_size.clone(),
        max_pages: defaults.max_pages,
        null_means_none: defaults.null_means_none,
        may_repeat: defaults.may_repeat,
        ..RequestSpec::default()
    }
}

pub(crate) fn overlaid(below: RequestSpec, above: RequestSpec) -> RequestSpec {
    let mut query = below.query;
    query.extend(above.query);
    let mut headers = below.headers;
    headers.extend(above.headers);
    let target = above.get.is_some() || above.post.is_some();
    RequestSpec {
        when: above.when.or(below.when),
        for_each: above.for_each.or(below.for_each),
        get: if target { above.get } else { below.get },
        post: if target { above.post } else { below.post },
        query,
        headers,
        body: above.body.or(below.body),
        records: above.records.or(below.records),
        paginate: above.paginate.or(below.paginate),
        page_size: above.page_size.or(below.page_size),
        max_pages: above.max_pages.or(below.max_pages),
        null_means_none: above.null_means_none.or(below.null_means_none),
        may_repeat: above.may_repeat.or(below.may_repeat),
        children: above.children.or(below.children),
        filter: above.filter.or(below.filter),
        columns: if above.columns.is_empty() { below.columns } else { above.columns },
        unknown: above.unknown.or(below.unknown),
        parent_in: if above.parent_in.is_empty() { below.parent_in } else { above.parent_in },
        embedded: above.embedded,
        derive: above.derive,
        covers: above.covers,
        fetch: above.fetch,
    }
}

/// The requests of an incremental run; empty if the stream declares no way to request changes.
pub(crate) fn changes(spec: &Spec, stream: &Stream) -> Vec<RequestSpec> {
    let Some(cursor) = &stream.cursor else { return Vec::new() };
    let base = match cursor.requests.as_slice() {
        [] if !cursor.newest_first && cursor.query.is_empty() => Vec::new(),
        [] => merged(spec, stream),
        own => own.iter().map(|request| overlaid(of_defaults(spec), request.clone())).collect(),
    };
    let with_query = |mut request: RequestSpec| {
        request.query.extend(cursor.query.clone());
        request
    };
    base.into_iter().map(with_query).collect()
}

/// The requests of a stream's routes, merged with the spec's defaults.
pub(crate) fn of_routes(spec: &Spec, stream: &Stream) -> Vec<(String, Vec<RequestSpec>)> {
    let whole = |request: &RequestSpec| overlaid(of_defaults(spec), request.clone());
    let routes = stream.routes.iter();
    routes.map(|(name, requests)| (name.clone(), requests.0.iter().map(whole).collect())).collect()
}

/// All requests of a stream by route; the default route comes first. Includes routes that the
/// inputs exclude.
pub fn requests_of(spec: &Spec, stream: &Stream) -> Vec<(String, Vec<RequestSpec>)> {
    let own = (DEFAULT.to_owned(), merged(spec, stream));
    [own].into_iter().chain(of_routes(spec, stream)).collect()
}

/// The `for_each` of a request over a queue.
pub(crate) fn items_of(request: &RequestSpec) -> Option<&QueueItems> {
    match &request.for_each {
        Some(ForEach::Queue(items)) => Some(items),
        _ => None,
    }
}

/// The queues that a request waits for.
pub(crate) fn queues_of(request: &RequestSpec) -> impl Iterator<Item = &str> {
    let consumed = items_of(request).map(|items| items.queue.as_str());
    consumed.into_iter().chain(request.parent_in.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::spec;

    /// The merged requests of a stream, as `GET path?query`.
    #[track_caller]
    fn check(stream: &str, merge: fn(&Spec, &Stream) -> Vec<RequestSpec>, expected: &[&str]) {
        let mut spec =
            spec(&format!("  s: {{ columns: {{ id: text, at: timestamp }}, {stream} }}\n"));
        spec.defaults
            .query
            .insert("size".to_owned(), crate::spec::QueryValue(vec!["9".to_owned()]));
        let shown = |request: RequestSpec| {
            let query = request.query.iter().map(|(name, value)| format!("{name}={}", value.0[0]));
            let target = request.get.map(|path| format!("GET {path}"));
            let target = target.or(request.post.map(|path| format!("POST {path}")));
            format!("{}?{}", target.unwrap_or_default(), query.collect::<Vec<_>>().join("&"))
        };
        let found: Vec<String> = merge(&spec, &spec.streams["s"]).into_iter().map(shown).collect();
        assert_eq!(found, expected, "{stream}");
    }

    #[test]
    fn requests_inherit_from_the_stream_and_from_the_defaults() {
        check("get: /s", merged, &["GET /s?size=9"]);
        check("get: /s, query: { size: 5 }", merged, &["GET /s?size=5"]);
        let several = "query: { a: 1 }, requests: [{ get: /s }, { post: /t, query: { a: 2 } }]";
        check(several, merged, &["GET /s?size=9&a=1", "POST /t?size=9&a=2"]);
    }

    #[test]
    fn changes_are_the_requests_with_the_query_of_the_cursor_or_its_own_requests() {
        check("get: /s", changes, &[]);
        let query = "get: /s, cursor: { field: at, query: { since: '{{ cursor }}' } }";
        check(query, changes, &["GET /s?size=9&since={{ cursor }}"]);
        check("get: /s, cursor: { field: at, newest_first: true }", changes, &["GET /s?size=9"]);
        let own = "get: /s, query: { a: 1 }, \
                   cursor: { field: at, requests: [{ get: '/c/{{ cursor }}' }] }";
        check(own, changes, &["GET /c/{{ cursor }}?size=9"]);
    }

    #[test]
    fn routes_inherit_from_the_defaults_only() {
        let routes = |spec: &Spec, stream: &Stream| {
            of_routes(spec, stream).into_iter().flat_map(|(_, requests)| requests).collect()
        };
        check("get: /s, query: { a: 1 }, routes: { r: { get: /r } }", routes, &["GET /r?size=9"]);
    }
}
