//! Requests: the values they are sent for, their templates, pages and bodies.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checker::{Checker, below};
use crate::spec::language::api::Defaults;
use crate::spec::language::pages::PageSize;
use crate::spec::language::records::Filter;
use crate::spec::language::request::{Body, Children, ForEach, QueueItems, RequestSpec};

impl Checker<'_> {
    pub(super) fn defaults(&mut self) {
        let spec = self.spec;
        let Defaults {
            query,
            headers,
            paginate,
            page_size,
            records,
            max_pages,
            null_means_none: _,
            may_repeat: _,
            unknown: _,
            ignore,
            unique_ids: _,
        } = &spec.defaults;
        let shared = RequestSpec {
            query: query.clone(),
            headers: headers.clone(),
            paginate: paginate.clone(),
            page_size: page_size.clone(),
            records: records.clone(),
            max_pages: *max_pages,
            ..RequestSpec::default()
        };
        self.templates(&["defaults"], &shared, &BTreeSet::new());
        self.ignored(&["defaults"], ignore);
    }

    pub(super) fn ignored(&mut self, path: &[&str], ignore: &[String]) {
        for (position, text) in ignore.iter().enumerate() {
            self.path(&below(path, &["ignore", &position.to_string()]), text);
        }
    }

    /// Checks a request. Returns the variables that it defines.
    pub(super) fn request(&mut self, path: &[&str], request: &RequestSpec) -> BTreeSet<String> {
        self.request_with(path, request, &[])
    }

    /// Checks a request whose templates may use more variables. Returns all of them.
    pub(super) fn request_with(
        &mut self,
        path: &[&str],
        request: &RequestSpec,
        more: &[&str],
    ) -> BTreeSet<String> {
        let mut variables: BTreeSet<String> = more.iter().map(ToString::to_string).collect();
        if let Some(for_each) = &request.for_each {
            let at = below(path, &["for_each"]);
            variables.insert(self.for_each(&at, for_each));
            if let ForEach::Queue(items) = for_each {
                self.carried(&at, items, &mut variables);
            }
        }
        self.templates(path, request, &variables);
        if let Some(children) = &request.children {
            self.children(&below(path, &["children"]), children, &mut variables);
        }
        variables
    }

    /// Checks the `for_each` of a request. Returns its variable.
    fn for_each(&mut self, at: &[&str], for_each: &ForEach) -> String {
        let planned = self.names.planned();
        let mut chunk = None;
        let variable = match for_each {
            ForEach::Queue(items) => {
                chunk = items.chunk;
                items.variable_name()
            }
            ForEach::Input(items) => {
                chunk = items.chunk;
                self.list_input(&below(at, &["input"]), &items.input);
                if let Some(path) = &items.found_at {
                    self.path(&below(at, &["found_at"]), path);
                }
                &items.variable
            }
            ForEach::Values(items) => {
                for (position, text) in items.values.iter().enumerate() {
                    self.template(&below(at, &["values", &position.to_string()]), text, &planned);
                }
                &items.variable
            }
            ForEach::Range(items) => {
                let range = &items.range;
                for (key, bound) in [("from", &range.from), ("to", &range.to)] {
                    let at = below(at, &["range", key]);
                    self.template(&at, &bound.0, &planned);
                    let number = bound.0.contains("{{") || bound.0.parse::<i64>().is_ok();
                    self.found_if(!number, &at, "this is neither an integer nor a template");
                }
                let zero = range.step == 0;
                self.found_if(zero, &below(at, &["range", "step"]), "a step must be at least 1");
                &items.variable
            }
        };
        self.found_if(
            chunk == Some(0),
            &below(at, &["chunk"]),
            "a chunk must have at least 1 value",
        );
        self.variable(&below(at, &["as"]), variable);
        variable.to_owned()
    }

    /// Checks what a queue carries with its values. Adds its variables.
    fn carried(&mut self, at: &[&str], items: &QueueItems, variables: &mut BTreeSet<String>) {
        for (name, path) in &items.carry {
            let at = below(at, &["carry", name]);
            self.variable(&at, name);
            self.path(&at, path);
        }
        variables.extend(items.carry.keys().cloned());
        let known = self.names.with(variables);
        self.expression(&below(at, &["only"]), items.only.as_deref(), &known);
    }

    fn list_input(&mut self, at: &[&str], name: &str) {
        let inputs = &self.spec.inputs;
        match inputs.get(name) {
            Some(input) if input.list.is_some() => {}
            Some(_) => self.found(at, format!("the input `{name}` is not a list")),
            None => {
                let message = format!("there is no input `{name}`");
                self.stranger(at, message, name, inputs.keys().map(String::as_str));
            }
        }
    }

    fn children(&mut self, at: &[&str], children: &Children, variables: &mut BTreeSet<String>) {
        for (name, path) in &children.with {
            let at = below(at, &["with", name]);
            self.variable(&at, name);
            self.path(&at, path);
        }
        variables.extend(children.with.keys().cloned());
        let known = self.names.with(variables);
        self.url_path(&below(at, &["get"]), &children.get, &known);
        self.query(&below(at, &["query"]), children.query.iter().flatten(), &known);
        for (text, _) in children.filter.iter().flat_map(Filter::all) {
            self.path(&below(at, &["filter"]), text);
        }
        if let Some(unless) = &children.unless {
            self.path(&below(at, &["unless"]), unless);
        }
        let flat = children.max_depth == 0;
        self.found_if(flat, &below(at, &["max_depth"]), "at least 1 level is required");
    }

    /// Checks the parts of a request that use variables, and its pagination.
    pub(super) fn templates(
        &mut self,
        path: &[&str],
        request: &RequestSpec,
        variables: &BTreeSet<String>,
    ) {
        let known = self.names.with(variables);
        let planned = self.names.planned();
        self.expression(&below(path, &["when"]), request.when.as_deref(), &planned);
        for (key, text) in [("get", &request.get), ("post", &request.post)] {
            if let Some(text) = text {
                self.url_path(&below(path, &[key]), text, &known);
            }
        }
        self.query(&below(path, &["query"]), &request.query, &known);
        self.headers(&below(path, &["headers"]), &request.headers, &known);
        self.body(path, request.body.as_ref(), &known);
        if let Some(records) = &request.records {
            self.records_path(&below(path, &["records"]), records);
        }
        for (text, _) in request.filter.iter().flat_map(Filter::all) {
            self.path(&below(path, &["filter"]), text);
        }
        for (queue, text) in &request.parent_in {
            self.path(&below(path, &["parent_in", queue]), text);
        }
        self.paginate(path, request.paginate.as_ref());
        self.page_size(path, request.page_size.as_ref());
        let none = request.max_pages == Some(0);
        self.found_if(none, &below(path, &["max_pages"]), "at least 1 page is required");
    }

    fn page_size(&mut self, path: &[&str], size: Option<&PageSize>) {
        let Some(PageSize { max, min, .. }) = size else { return };
        let at = below(path, &["page_size", "max"]);
        self.found_if(*max == 0, &at, "a page must have at least 1 record");
        if *max > 0 && min > max {
            let message = format!("`min: {min}` is larger than `max: {max}`");
            self.found(&below(path, &["page_size", "min"]), message);
        }
    }

    pub(super) fn body(&mut self, path: &[&str], body: Option<&Body>, known: &BTreeSet<String>) {
        match body {
            None => {}
            Some(Body::Json(value)) => self.json(&below(path, &["body", "json"]), value, known),
            Some(Body::Form(fields)) => {
                for (name, text) in fields {
                    self.template(&below(path, &["body", "form", name]), text, known);
                }
            }
        }
    }

    fn json(&mut self, at: &[&str], value: &Value, known: &BTreeSet<String>) {
        match value {
            Value::String(text) => self.template(at, text, known),
            Value::Array(items) => {
                for (position, item) in items.iter().enumerate() {
                    self.json(&below(at, &[&position.to_string()]), item, known);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.json(&below(at, &[name]), value, known);
                }
            }
            _ => {}
        }
    }
}
