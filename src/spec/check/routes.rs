//! Routes: alternative requests for a stream's rows.

use std::collections::BTreeSet;

use super::checker::{Checker, below};
use crate::schema::ColumnType;
use crate::spec::language::request::{ForEach, QueueItems, RequestSpec};
use crate::spec::language::routes::{DEFAULT, Fetch};
use crate::spec::language::stream::Stream;
use crate::template::Template;

impl Checker<'_> {
    /// Checks that a stream's own requests have no key that only requests of routes may have.
    pub(super) fn routeless(&mut self, path: &[&str], stream: &Stream) {
        let changes = stream.cursor.iter().flat_map(|cursor| &cursor.requests);
        let mut all = stream.requests.iter().chain(changes);
        let routed = all.any(|request| {
            let placed = request.embedded.is_some() || request.covers.is_some();
            placed || request.derive.is_some() || request.fetch.is_some()
        });
        let message = "`embedded`, `derive`, `covers` and `fetch` are allowed in the requests of `routes` only";
        self.found_if(routed, &below(path, &["requests"]), message);
    }

    /// Checks the routes of a stream. Returns the variables, including those of their requests.
    pub(super) fn routes(
        &mut self,
        path: &[&str],
        stream: &Stream,
        mut variables: BTreeSet<String>,
    ) -> BTreeSet<String> {
        for (name, requests) in &stream.routes {
            let at = below(path, &["routes", name]);
            self.name(&at, name);
            self.found_if(
                name == DEFAULT,
                &at,
                "`default` is the route of the stream's own requests; choose another name",
            );
            let none = requests.0.is_empty();
            self.found_if(none, &at, "a route needs at least one request");
            for (position, request) in requests.0.iter().enumerate() {
                let position = position.to_string();
                let listed = requests.0.len() > 1;
                let at = if listed { below(&at, &[&position]) } else { at.clone() };
                let given = [request.get.is_some(), request.post.is_some()];
                if request.derive.is_none() || given != [false, false] {
                    self.one_of(&at, "`get`, `post`", &given);
                }
                let own = self.request(&at, request);
                self.sources(&at, stream, request, &own);
                self.routed(&at, stream, request, &own);
                self.joints(&at, stream, request);
                variables.extend(own);
            }
        }
        variables
    }

    fn routed(
        &mut self,
        at: &[&str],
        stream: &Stream,
        request: &RequestSpec,
        own: &BTreeSet<String>,
    ) {
        let items = queue_items(request);
        let has_own = items.is_some_and(|items| own_queues(stream).contains(&items.queue.as_str()));
        let chunked = items.is_some_and(|items| items.chunk.is_some());
        if let Some(embedded) = &request.embedded {
            let at = below(at, &["embedded"]);
            let fits = has_own && !chunked && request.get.is_some();
            let message = "this needs a `get` for single values of a queue for which the stream also has a request of its own";
            self.found_if(!fits, &at, message);
            self.path(&below(&at, &["more"]), &embedded.more);
            self.path(&below(&at, &["cursor"]), &embedded.cursor);
        }
        if let Some(covers) = &request.covers {
            let at = below(at, &["covers"]);
            let fits = has_own && chunked;
            let message = "this needs a `chunk` of a queue for whose single values the stream has a request of its own";
            self.found_if(!fits, &at, message);
            self.records_path(&below(&at, &["records"]), &covers.records);
            self.path(&below(&at, &["at"]), &covers.at);
            if let Some(more) = &covers.more {
                self.path(&below(&at, &["more"]), more);
            }
        }
        self.derive(&below(at, &["derive"]), stream, request, own);
        self.fetch(&below(at, &["fetch"]), stream, request, own);
    }

    fn fetch(
        &mut self,
        at: &[&str],
        stream: &Stream,
        request: &RequestSpec,
        own: &BTreeSet<String>,
    ) {
        let Some(fetch) = &request.fetch else { return };
        let Fetch { id, version, brings, variable, chunk, get, query } = fetch;
        let same = |own: &Option<ForEach>| *own == request.for_each;
        let listed = stream
            .requests
            .iter()
            .any(|own| same(if own.for_each.is_some() { &own.for_each } else { &stream.for_each }));
        let message = "none of the stream's own requests has the same `for_each`: weir sends it if \
                       the API refuses this one";
        let alone = stream.requests.is_empty() && same(&stream.for_each);
        self.found_if(!listed && !alone, at, message);
        let message = "this is not allowed in streams with `replaces`";
        self.found_if(stream.replaces.is_some(), at, message);
        let others = stream.routes.values().flat_map(|route| &route.0);
        let mut others = others.filter_map(|request| request.fetch.as_ref());
        let alike = others.all(|other| (&other.version, &other.brings) == (version, brings));
        let message = "all routes of a stream must have the same `version` and `brings`";
        self.found_if(!alike, at, message);
        self.found_if(
            brings.is_empty(),
            &below(at, &["brings"]),
            "at least one column is required",
        );
        let texts = query.values().flat_map(|value| &value.0).chain([get]);
        let used = texts.filter_map(|text| Template::parse(text).ok());
        let unused = !used.flat_map(|text| text.variables()).any(|name| name == *variable);
        let message = "neither `get` nor `query` uses this variable";
        self.found_if(unused, &below(at, &["as"]), message);
        let others = request.embedded.is_some() || request.covers.is_some();
        let others = others || request.derive.is_some() || request.children.is_some();
        let fits = request.get.is_some() && !others;
        let message =
            "this needs `get`, and excludes `embedded`, `covers`, `derive` and `children`";
        self.found_if(!fits, at, message);
        self.path(&below(at, &["id"]), id);
        self.path(&below(at, &["version"]), version);
        let is_key = matches!(stream.key.as_slice(), [key] if stream.columns.get(key).is_some_and(|column| {
            let from = column.from.as_ref().map_or(vec![key], |from| from.0.iter().collect());
            matches!(column.kind, ColumnType::Text | ColumnType::Int) && from == [id]
        }));
        let message = "the stream's key must be this one value, as text or int";
        self.found_if(!is_key, &below(at, &["id"]), message);
        for (position, column) in brings.iter().enumerate() {
            let position = position.to_string();
            self.column_of(&below(at, &["brings", &position]), column, stream);
        }
        let at_as = below(at, &["as"]);
        self.variable(&at_as, variable);
        self.found_if(*chunk == 0, &below(at, &["chunk"]), "a chunk must have at least 1 id");
        let known = own.iter().cloned().chain([variable.clone()]).collect();
        let known = self.names.with(&known);
        self.url_path(&below(at, &["get"]), get, &known);
        self.query(&below(at, &["query"]), query, &known);
    }

    fn derive(
        &mut self,
        at: &[&str],
        stream: &Stream,
        request: &RequestSpec,
        own: &BTreeSet<String>,
    ) {
        let Some(derive) = &request.derive else { return };
        let items = queue_items(request);
        let fits = items.is_some_and(|items| items.chunk.is_none());
        self.found_if(!fits, at, "this needs a `for_each` over single values of a queue");
        let known = self.names.with(own);
        self.expression(&below(at, &["when"]), Some(&derive.when), &known);
        let computed = |column: &String| {
            let from = stream.columns.get(column).and_then(|column| column.from.as_ref());
            from.is_some_and(|from| from.0.iter().any(|text| text.contains("{{")))
        };
        for column in &stream.key {
            let other = request.columns.contains_key(column);
            if !derive.columns.contains_key(column) && !other && !computed(column) {
                self.found(at, format!("`columns` lacks `{column}`, a column of the key"));
            }
        }
        for (column, variable) in &derive.columns {
            let at = below(at, &["columns", column]);
            self.column_of(&at, column, stream);
            let carried = items.iter().flat_map(|items| items.carry.keys()).map(String::as_str);
            let carried: Vec<&str> = carried.collect();
            if !carried.contains(&variable.as_str()) {
                let message = format!("`for_each` carries no `{variable}`");
                self.stranger(&at, message, variable, carried);
            }
        }
    }
}

fn queue_items(request: &RequestSpec) -> Option<&QueueItems> {
    match &request.for_each {
        Some(ForEach::Queue(items)) => Some(items),
        _ => None,
    }
}

/// The queues for whose single values the stream's own requests are sent.
fn own_queues(stream: &Stream) -> Vec<&str> {
    let listed = stream.requests.iter().map(|request| request.for_each.as_ref());
    let own = stream.requests.is_empty().then_some(stream.for_each.as_ref());
    let all = listed.chain(own).filter_map(|one| one.or(stream.for_each.as_ref()));
    let queues = all.filter_map(|for_each| match for_each {
        ForEach::Queue(items) if items.chunk.is_none() => Some(items.queue.as_str()),
        _ => None,
    });
    queues.collect()
}
