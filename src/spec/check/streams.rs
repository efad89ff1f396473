//! Streams: their keys, columns, and requests as a whole.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate};
use serde_json::Value;

use super::checker::{Checker, below};
use crate::path::PathStep;
use crate::schema::{ColumnType, EXTRA};
use crate::spec::language::column::ColumnSpec;
use crate::spec::language::records::Filter;
use crate::spec::language::request::RequestSpec;
use crate::spec::language::stream::Stream;
use crate::template::Template;

impl Checker<'_> {
    pub(super) fn streams(&mut self) {
        let spec = self.spec;
        self.found_if(spec.streams.is_empty(), &["streams"], "a spec needs at least one stream");
        for (name, stream) in &spec.streams {
            self.stream(&["streams", name], stream);
        }
    }

    fn stream(&mut self, path: &[&str], stream: &Stream) {
        if let Some(name) = path.last() {
            self.name(path, name);
        }
        let bare = stream.columns.is_empty() && !stream.internal;
        self.found_if(bare, path, "a stream must declare its columns");
        let idle = stream.internal && stream.feeds.is_empty();
        self.found_if(idle, &below(path, &["internal"]), "an internal stream must feed a queue");
        let positions: Vec<String> = (0..stream.key.len()).map(|at| at.to_string()).collect();
        for (column, position) in stream.key.iter().zip(&positions) {
            self.column_of(&below(path, &["key", position]), column, stream);
        }
        if let Some(column) = &stream.replaces {
            self.column_of(&below(path, &["replaces"]), column, stream);
        }
        for (queue, feed) in &stream.feeds {
            let at = below(path, &["feeds", queue]);
            self.name(&at, queue);
            self.path(&at, feed.value());
            for (text, _) in feed.filter().into_iter().flat_map(Filter::all) {
                self.path(&at, text);
            }
        }
        self.ignored(path, &stream.ignore);
        self.rules(&below(path, &["responses"]), &stream.responses);
        let open = self.names.planned();
        self.expression(&below(path, &["min_rows"]), stream.min_rows.as_deref(), &open);
        if let Some(count) = &stream.count {
            let at = below(path, &["count"]);
            self.expression(&below(&at, &["when"]), count.when.as_deref(), &open);
            self.url_path(&below(&at, &["get"]), &count.get, &open);
            self.query(&below(&at, &["query"]), &count.query, &open);
            self.path(&below(&at, &["at"]), &count.at);
        }
        if let Some(confirm) = &stream.confirm_deletes {
            let at = below(path, &["confirm_deletes"]);
            let message = "this needs a `key` of one column, and a stream without `replaces`";
            self.found_if(stream.key.len() != 1 || stream.replaces.is_some(), &at, message);
            let mut known = open.clone();
            known.extend(stream.key.iter().cloned());
            self.url_path(&below(&at, &["get"]), &confirm.get, &known);
            self.query(&below(&at, &["query"]), &confirm.query, &known);
        }
        let idle = stream.concurrency == Some(0);
        self.found_if(idle, &below(path, &["concurrency"]), "this limit must be greater than 0");
        let variables = self.requests(path, stream);
        self.routeless(path, stream);
        let variables = self.changes(path, stream, variables);
        let variables = self.routes(path, stream, variables);
        self.columns(path, stream, &variables);
        self.heights(path, stream);
    }

    /// Checks the requests of a stream. Returns the variables that they define.
    fn requests(&mut self, path: &[&str], stream: &Stream) -> BTreeSet<String> {
        let own = stream.own_request();
        if stream.requests.is_empty() {
            let given = [own.get.is_some(), own.post.is_some()];
            self.one_of(path, "`get`, `post`, `requests`", &given);
            self.found_if(
                own.body.is_some() && own.post.is_none(),
                &below(path, &["body"]),
                "a body needs `post`",
            );
            self.joints(path, stream, &own);
            return self.request(path, &own);
        }
        let both = own.get.is_some() || own.post.is_some();
        let message = "`requests` and `get` or `post` exclude each other";
        self.found_if(both, &below(path, &["requests"]), message);
        // Keys that the requests share may use a variable of any of them.
        let mut variables = self.request(
            path,
            &RequestSpec {
                for_each: own.for_each.clone(),
                children: own.children.clone(),
                ..RequestSpec::default()
            },
        );
        for (position, request) in stream.requests.iter().enumerate() {
            let position = position.to_string();
            let at = below(path, &["requests", &position]);
            self.one_of(&at, "`get`, `post`", &[request.get.is_some(), request.post.is_some()]);
            let own = self.request(&at, request);
            self.sources(&at, stream, request, &own);
            self.joints(&at, stream, request);
            variables.extend(own);
        }
        self.templates(path, &own, &variables);
        variables
    }

    pub(super) fn column_of(&mut self, at: &[&str], column: &str, stream: &Stream) {
        if !stream.columns.contains_key(column) {
            let message = format!("`{column}` is not a column of the stream");
            self.stranger(at, message, column, stream.columns.keys().map(String::as_str));
        }
    }

    fn columns(&mut self, path: &[&str], stream: &Stream, variables: &BTreeSet<String>) {
        for (column, spec) in &stream.columns {
            let at = below(path, &["columns", column]);
            self.column_name(&at, column);
            self.column_source(&at, spec, stream, variables);
        }
    }

    /// Checks a column's name: any name that a target accepts, except for weir's own columns.
    fn column_name(&mut self, at: &[&str], name: &str) {
        let blank = name.trim().is_empty() || name.chars().any(char::is_control);
        self.found_if(blank, at, "the name of a column is empty or contains control characters");
        let own = name.starts_with("_weir_") || name == EXTRA;
        self.found_if(
            own,
            at,
            &format!("`{name}` is the name of one of weir's own columns; choose another name"),
        );
    }

    /// Checks where a column's values come from.
    pub(super) fn column_source(
        &mut self,
        at: &[&str],
        spec: &ColumnSpec,
        stream: &Stream,
        variables: &BTreeSet<String>,
    ) {
        let mut known = self.names.with(variables);
        known.insert("row".to_owned());
        let texts = spec.from.as_ref().map(|from| from.0.as_slice()).unwrap_or_default();
        for text in texts {
            if !is_template(text) {
                let at = below(at, &[spec.kind.name()]);
                let path = self.any_path(&at, text);
                let many = path.is_some_and(|path| path.steps.contains(&PathStep::Each));
                self.found_if(many, &at, "`[]` leads to many values, but a column has one value");
                let whole = text.is_empty() && spec.kind != ColumnType::Json;
                self.found_if(
                    whole,
                    &at,
                    "the empty path is the whole record, which needs the type `json`",
                );
            } else if texts.len() > 1 {
                self.found(at, "a template cannot be one of several paths");
            } else {
                self.template(&below(at, &[spec.kind.name()]), text, &known);
                self.row(&below(at, &[spec.kind.name()]), text, stream);
            }
        }
        if let Some(default) = &spec.default {
            self.column_default(&below(at, &["default"]), spec, default);
        }
    }

    /// Checks the columns of the same row that a template uses.
    fn row(&mut self, at: &[&str], text: &str, stream: &Stream) {
        for column in row_columns(text) {
            self.column_of(at, &column, stream);
            let texts = stream.columns.get(&column).and_then(|spec| spec.from.as_ref());
            let computed =
                texts.is_some_and(|from| from.0.iter().any(|text| !row_columns(text).is_empty()));
            if computed {
                let message = format!("`{column}` is itself computed from the row");
                self.found(at, message);
            }
        }
    }

    fn column_default(&mut self, at: &[&str], spec: &ColumnSpec, default: &Value) {
        let computed = spec.from.iter().flat_map(|from| &from.0).any(|text| is_template(text));
        self.found_if(computed, at, "a template always has a value, so a default has no effect");
        let text = |fits: fn(&str) -> bool| default.as_str().is_some_and(fits);
        let fits = match spec.kind {
            ColumnType::Text | ColumnType::Bytes => default.is_string(),
            ColumnType::Int => default.is_i64(),
            ColumnType::Float => default.is_number(),
            ColumnType::Decimal => {
                default.is_number() || text(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
            }
            ColumnType::Bool => default.is_boolean(),
            ColumnType::Date => text(|text| text.parse::<NaiveDate>().is_ok()),
            ColumnType::Timestamp => text(|text| DateTime::parse_from_rfc3339(text).is_ok()),
            ColumnType::Json => true,
        };
        if !fits {
            self.found(at, format!("the default is not a valid {}", spec.kind));
        }
    }
}

fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// Columns of the same row that a template uses.
fn row_columns(text: &str) -> Vec<String> {
    let names = Template::parse(text).map(|template| template.nested_variables());
    let column = |name: &String| {
        let inner = name.strip_prefix("row.")?;
        inner.split('.').next().map(str::to_owned)
    };
    names.unwrap_or_default().iter().filter_map(column).collect()
}
