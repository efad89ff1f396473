//! A stream's cursor, its `refresh`, and the columns of its location.

use std::collections::BTreeSet;

use super::checker::{Checker, below};
use super::names::CURSOR;
use crate::schema::ColumnType;
use crate::spec::language::api::Spec;
use crate::spec::language::incremental::{Cursor, Refresh};
use crate::spec::language::request::{ForEach, RequestSpec};
use crate::spec::language::stream::Stream;

impl Checker<'_> {
    /// Checks the cursor, the refresh and the location of a stream, whose requests define
    /// `variables`. Returns these with the variables of the cursor's requests.
    pub(super) fn changes(
        &mut self,
        path: &[&str],
        stream: &Stream,
        mut variables: BTreeSet<String>,
    ) -> BTreeSet<String> {
        for (position, column) in stream.location.iter().enumerate() {
            self.column_of(&below(path, &["location", &position.to_string()]), column, stream);
        }
        if let Some(cursor) = &stream.cursor {
            self.cursor(&below(path, &["cursor"]), stream, cursor, &mut variables);
        }
        if stream.refresh == Some(Refresh::WithParent) && !follows_parents(self.spec, stream) {
            let message =
                "`with_parent` needs a `for_each` over a queue whose feeders have a cursor";
            self.found(&below(path, &["refresh"]), message);
        }
        variables
    }

    fn cursor(
        &mut self,
        at: &[&str],
        stream: &Stream,
        cursor: &Cursor,
        variables: &mut BTreeSet<String>,
    ) {
        let field = below(at, &["field"]);
        self.column_of(&field, &cursor.field, stream);
        if let Some(column) = stream.columns.get(&cursor.field) {
            let grows =
                [ColumnType::Timestamp, ColumnType::Date, ColumnType::Int].contains(&column.kind);
            self.found_if(!grows, &field, "a cursor must be a timestamp, a date or an int");
            let computed = column.from.iter().flat_map(|from| &from.0);
            let computed = computed.into_iter().any(|text| text.contains("{{"));
            self.found_if(
                computed,
                &field,
                "a cursor must come from a record; it cannot be computed",
            );
            let idle = column.kind == ColumnType::Int && cursor.lookback.is_some();
            let message = "`lookback` is a duration, but the cursor is an int";
            self.found_if(idle, &below(at, &["lookback"]), message);
        }
        let asks = cursor.newest_first || !cursor.query.is_empty() || !cursor.requests.is_empty();
        let message =
            "the cursor needs a way to request changes: `query`, `requests` or `newest_first`";
        self.found_if(!asks, at, message);
        let both = !cursor.query.is_empty() && !cursor.requests.is_empty();
        self.found_if(
            both,
            &below(at, &["query"]),
            "put the parameters into the queries of `requests`",
        );
        if let Some(anchor) = &cursor.anchor {
            let planned = self.names.planned();
            self.template(&below(at, &["anchor"]), anchor, &planned);
        }
        let mut known = variables.clone();
        known.insert(CURSOR.to_owned());
        let names = self.names.with(&known);
        self.query(&below(at, &["query"]), &cursor.query, &names);
        for (position, request) in cursor.requests.iter().enumerate() {
            let at = below(at, &["requests"]);
            let position = position.to_string();
            let at = below(&at, &[&position]);
            self.one_of(&at, "`get`, `post`", &[request.get.is_some(), request.post.is_some()]);
            let own = self.request_with(&at, request, &[CURSOR]);
            self.sources(&at, stream, request, &own);
            self.joints(&at, stream, request);
            variables.extend(own);
        }
    }

    /// Checks a request's own sources for some of the stream's columns.
    pub(super) fn sources(
        &mut self,
        at: &[&str],
        stream: &Stream,
        request: &RequestSpec,
        variables: &BTreeSet<String>,
    ) {
        for (name, source) in &request.columns {
            let at = below(at, &["columns", name]);
            self.column_of(&at, name, stream);
            if let Some(column) = stream.columns.get(name)
                && column.kind != source.kind
            {
                let message = format!("the column is {}, not {}", column.kind, source.kind);
                self.found(&at, message);
            }
            self.column_source(&at, source, stream, variables);
        }
    }
}

/// Whether everything that a stream reads belongs to parents whose changes are known.
fn follows_parents(spec: &Spec, stream: &Stream) -> bool {
    let listed = stream.requests.iter().map(|request| request.for_each.as_ref());
    let own = stream.requests.is_empty().then_some(stream.for_each.as_ref());
    let mut all = listed.chain(own).peekable();
    all.peek().is_some()
        && all.all(|for_each| match for_each.or(stream.for_each.as_ref()) {
            Some(ForEach::Queue(items)) => {
                let feeds = |other: &&Stream| other.feeds.contains_key(&items.queue);
                spec.streams.values().filter(feeds).all(|parent| parent.cursor.is_some())
            }
            _ => false,
        })
}
