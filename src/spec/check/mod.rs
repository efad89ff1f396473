//! What a spec means, checked: every queue fed, every name defined, every path and template valid.

mod graph;
mod names;

use std::collections::BTreeSet;

use super::{ForEach, RequestSpec, Spec, Stream};
use crate::path::Path;
use crate::template::{Expression, Template};
use crate::yaml::{Finding, suggest};

use names::Names;

/// Names that every template of a request or column may use.
const ALWAYS: [&str; 5] = ["columns", "stream_name", "run_id", "run_date", "run_timestamp"];

/// All that is wrong with a spec whose shape is right.
pub(super) fn check(spec: &Spec) -> Vec<Finding> {
    let mut checker = Checker { spec, names: Names::new(spec), findings: Vec::new() };
    checker.spec();
    for (name, stream) in &spec.streams {
        checker.stream(name, stream);
    }
    graph::check(spec, &mut checker.findings);
    checker.findings
}

struct Checker<'spec> {
    spec: &'spec Spec,
    names: Names,
    findings: Vec<Finding>,
}

impl<'spec> Checker<'spec> {
    fn found(&mut self, path: &[&str], message: impl Into<String>) {
        self.findings.push(Finding::new(path, message));
    }

    fn spec(&mut self) {
        let spec = self.spec;
        if !is_name(&spec.name) {
            self.found(&["name"], format!("`{}` is no name: use a-z, 0-9 and `_`", spec.name));
        }
        if spec.streams.is_empty() {
            self.found(&["streams"], "a spec has at least one stream");
        }
        let connection = self.names.connection();
        for (position, choice) in spec.base_url.0.iter().enumerate() {
            let position = position.to_string();
            let single = spec.base_url.0.len() == 1;
            let path: Vec<&str> =
                if single { vec!["base_url"] } else { vec!["base_url", &position] };
            self.expression(&path, choice.when.as_deref(), &connection);
            self.template(&path, &choice.url, &connection);
        }
        for (position, choice) in spec.auth.0.iter().enumerate() {
            self.auth(choice, &position.to_string());
        }
        for (name, field) in &spec.connection {
            let path = ["connection", name, "lookup"];
            if let Some(lookup) = &field.lookup {
                self.expression(&path, lookup.when.as_deref(), &connection);
                self.template(&path, &lookup.get, &connection);
                self.path(&path, &lookup.at);
            }
            if let Some(default) = &field.default
                && !field.one_of.is_empty()
                && !field.one_of.contains(default)
            {
                let message = format!("the default `{default}` is not among `one_of`");
                self.found(&["connection", name, "default"], message);
            }
        }
        for (name, input) in &spec.inputs {
            self.input(name, input);
        }
        if spec.limits.requests_per_second.is_some_and(|rate| rate <= 0.0 || !rate.is_finite()) {
            self.found(&["limits", "requests_per_second"], "a rate is greater than 0");
        }
        if spec.limits.concurrency == 0 {
            self.found(&["limits", "concurrency"], "at least one request is under way at once");
        }
        self.rules(&["responses"], &spec.responses);
        self.rules(&["test", "responses"], &spec.test.responses);
        self.template(&["test", "get"], &spec.test.get, &connection);
        self.steps("setup", &spec.setup);
        self.steps("teardown", &spec.teardown);
    }

    fn auth(&mut self, choice: &super::AuthChoice, position: &str) {
        let single = self.spec.auth.0.len() == 1;
        let path: Vec<&str> = if single { vec!["auth"] } else { vec!["auth", position] };
        let connection = self.names.connection();
        self.expression(&path, choice.when.as_deref(), &connection);
        let kinds = [
            choice.basic.is_some(),
            choice.bearer.is_some(),
            choice.header.is_some(),
            choice.query.is_some(),
            choice.oauth2.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            let message = "exactly one of `basic`, `bearer`, `header`, `query`, `oauth2` is wanted";
            self.found(&path, message);
        }
        let mut texts: Vec<&str> = Vec::new();
        if let Some(basic) = &choice.basic {
            texts.extend([basic.username.as_str(), &basic.password]);
        }
        texts.extend(choice.bearer.as_deref());
        texts.extend(
            [&choice.header, &choice.query].into_iter().flatten().map(|named| named.value.as_str()),
        );
        if let Some(oauth2) = &choice.oauth2 {
            texts.extend([oauth2.token_url.as_str(), &oauth2.client_id]);
            let optional = [&oauth2.device_url, &oauth2.client_secret, &oauth2.refresh_token];
            texts.extend(optional.into_iter().flatten().map(String::as_str));
            texts.extend(oauth2.params.values().map(String::as_str));
        }
        let all = self.names.with_secrets();
        for text in texts {
            self.template(&path, text, &all);
        }
    }

    fn input(&mut self, name: &str, input: &super::Input) {
        let kinds = [
            input.text.is_some(),
            input.int.is_some(),
            input.bool.is_some(),
            input.date.is_some(),
            input.list.is_some(),
            !input.one_of.is_empty(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            let message =
                "exactly one of `text`, `int`, `bool`, `date`, `list`, `one_of` is wanted";
            self.found(&["inputs", name], message);
        }
        let path = ["inputs", name, "default"];
        match &input.default {
            Some(default) if input.list.is_some() && !default.is_array() => {
                self.found(&path, "the default of a `list` is a list");
            }
            Some(default)
                if !input.one_of.is_empty()
                    && !input.one_of.iter().any(|one| default.as_str() == Some(one)) =>
            {
                self.found(&path, "the default is not among `one_of`");
            }
            Some(_) if input.list.is_none() && input.one_of.is_empty() => {
                self.found(
                    &path,
                    "`default` goes with `list` and `one_of`; else the type holds it",
                );
            }
            _ => {}
        }
    }

    fn steps(&mut self, key: &str, steps: &[super::Step]) {
        let open = self.names.open();
        for (position, step) in steps.iter().enumerate() {
            let position = position.to_string();
            let path = [key, position.as_str()];
            let methods = [&step.get, &step.post, &step.put, &step.delete];
            let given: Vec<&String> = methods.into_iter().flatten().collect();
            if given.len() != 1 {
                self.found(&path, "exactly one of `get`, `post`, `put`, `delete` is wanted");
            }
            self.expression(&path, step.when.as_deref(), &open);
            for text in given {
                self.template(&path, text, &open);
            }
            for (name, at) in &step.capture {
                self.path(&[key, &position, "capture", name], at);
            }
        }
    }

    fn stream(&mut self, name: &'spec str, stream: &'spec Stream) {
        let at = |rest: &[&'static str]| [&["streams", name], rest].concat();
        if !is_name(name) {
            self.found(&at(&[]), format!("`{name}` is no name: use a-z, 0-9 and `_`"));
        }
        if stream.columns.is_empty() {
            self.found(&at(&[]), "a stream declares its columns");
        }
        let columns: Vec<&str> = stream.columns.keys().map(String::as_str).collect();
        let named = stream.key.iter().map(|column| ("key", column));
        for (key, column) in named.chain(stream.replaces.iter().map(|column| ("replaces", column)))
        {
            if !columns.contains(&column.as_str()) {
                let message = format!("`{column}` is no column of the stream");
                let mut finding = Finding::new(&["streams", name, key], message);
                finding.hint = suggest(column, columns.iter().copied());
                self.findings.push(finding);
            }
        }
        for (queue, path) in &stream.feeds {
            self.path(&["streams", name, "feeds", queue], path);
        }
        for path in &stream.ignore {
            self.path(&at(&["ignore"]), path);
        }
        self.rules(&at(&["responses"]), &stream.responses);
        let mut variables = BTreeSet::new();
        if stream.requests.is_empty() {
            let own = own_request(stream);
            if own.get.is_some() == own.post.is_some() {
                self.found(&at(&[]), "exactly one of `get`, `post`, `requests` is wanted");
            }
            variables.extend(self.request(&at(&[]), &own));
        } else if stream.get.is_some() || stream.post.is_some() {
            self.found(&at(&["requests"]), "`requests` and `get` or `post` exclude each other");
        }
        for (position, request) in stream.requests.iter().enumerate() {
            let position = position.to_string();
            let path = ["streams", name, "requests", &position];
            if request.get.is_some() == request.post.is_some() {
                self.found(&path, "exactly one of `get` and `post` is wanted");
            }
            variables.extend(self.request(&path, request));
        }
        // What streams and their requests share may use what any of the requests defines.
        let shared = own_request(stream);
        if !stream.requests.is_empty() {
            self.templates(&at(&[]), &shared, &variables);
        }
        self.columns(name, stream, &variables);
    }

    fn columns(&mut self, name: &str, stream: &Stream, variables: &BTreeSet<String>) {
        let mut known = self.names.open();
        known.extend(ALWAYS.map(str::to_owned));
        known.extend(variables.iter().cloned());
        known.insert("row".to_owned());
        for (column, spec) in &stream.columns {
            let path = ["streams", name, "columns", column];
            if !is_name(column) || column.starts_with('_') {
                self.found(
                    &path,
                    format!("`{column}` is no name: use a-z, 0-9 and `_`, a letter first"),
                );
            }
            let texts = spec.from.as_ref().map(|from| from.0.as_slice()).unwrap_or_default();
            for text in texts {
                if !text.contains("{{") {
                    self.path(&path, text);
                } else if texts.len() > 1 {
                    self.found(&path, "a template cannot be one of several paths");
                } else {
                    self.template(&path, text, &known);
                    self.row_columns(&path, text, stream);
                }
            }
        }
    }

    fn row_columns(&mut self, path: &[&str], text: &str, stream: &Stream) {
        let Ok(template) = Template::parse(text) else { return };
        for variable in template.nested_variables() {
            let column = variable.strip_prefix("row.");
            if let Some(column) = column.filter(|column| !stream.columns.contains_key(*column)) {
                let mut finding =
                    Finding::new(path, format!("`{column}` is no column of the stream"));
                finding.hint = suggest(column, stream.columns.keys().map(String::as_str));
                self.findings.push(finding);
            }
        }
    }

    /// Checks a request; returns the variables that it defines.
    fn request(&mut self, path: &[&str], request: &RequestSpec) -> BTreeSet<String> {
        let mut variables = BTreeSet::new();
        if let Some(for_each) = &request.for_each {
            variables.insert(variable_of(for_each));
            if let ForEach::Input(items) = for_each {
                self.list_input(&[path, &["for_each"]].concat(), &items.input);
            }
        }
        self.templates(path, request, &variables);
        if let Some(size) =
            request.page_size.as_ref().filter(|size| size.min > size.max || size.max == 0)
        {
            let message =
                format!("the least page, {}, is larger than the largest, {}", size.min, size.max);
            self.found(&[path, &["page_size"]].concat(), message);
        }
        if let Some(descend) = &request.descend {
            let at = [path, &["descend"]].concat();
            for value in descend.with.values() {
                self.path(&at, value);
            }
            variables.extend(descend.with.keys().cloned());
            let known = self.request_names(&variables);
            self.template(&at, &descend.get, &known);
            for value in
                descend.query.iter().flat_map(|query| query.values()).flat_map(|value| &value.0)
            {
                self.template(&at, value, &known);
            }
        }
        variables
    }

    fn request_names(&self, variables: &BTreeSet<String>) -> BTreeSet<String> {
        let mut known = self.names.open();
        known.extend(ALWAYS.map(str::to_owned));
        known.extend(variables.iter().cloned());
        known
    }

    fn templates(&mut self, path: &[&str], request: &RequestSpec, variables: &BTreeSet<String>) {
        let known = self.request_names(variables);
        self.expression(&[path, &["when"]].concat(), request.when.as_deref(), &self.names.open());
        for (key, text) in [("get", &request.get), ("post", &request.post)] {
            if let Some(text) = text {
                self.template(&[path, &[key]].concat(), text, &known);
            }
        }
        for (name, value) in &request.query {
            for text in &value.0 {
                self.template(&[path, &["query", name]].concat(), text, &known);
            }
        }
        for (name, text) in &request.headers {
            self.template(&[path, &["headers", name]].concat(), text, &known);
        }
        if let Some(records) = &request.records {
            self.path(&[path, &["records"]].concat(), records);
        }
    }

    fn list_input(&mut self, path: &[&str], name: &str) {
        let inputs = &self.spec.inputs;
        match inputs.get(name) {
            Some(input) if input.list.is_some() => {}
            Some(_) => self.found(path, format!("the input `{name}` is no list")),
            None => {
                let mut finding = Finding::new(path, format!("there is no input `{name}`"));
                finding.hint = suggest(name, inputs.keys().map(String::as_str));
                self.findings.push(finding);
            }
        }
    }

    fn rules(&mut self, path: &[&str], rules: &[super::ResponseRule]) {
        for (position, rule) in rules.iter().enumerate() {
            let position = position.to_string();
            let at = [path, &[position.as_str()]].concat();
            let conditions = rule.status.is_some()
                || rule.no_response
                || rule.header.is_some()
                || rule.body.is_some();
            if !conditions {
                self.found(
                    &at,
                    "a rule has a condition: `status`, `no_response`, `header` or `body`",
                );
            }
            if let Some(body) = rule.body.as_ref().and_then(|body| body.at.as_deref()) {
                self.path(&at, body);
            }
            if rule.attempts == Some(0) {
                self.found(&at, "`attempts` counts the first try: it is at least 1");
            }
        }
    }

    fn path(&mut self, at: &[&str], text: &str) {
        if let Err(error) = Path::parse(text) {
            self.found(at, format!("`{text}` is no path: {error}"));
        }
    }

    fn expression(&mut self, at: &[&str], text: Option<&str>, known: &BTreeSet<String>) {
        let Some(text) = text else { return };
        match Expression::parse(text) {
            Ok(expression) => self.defined(at, &expression.variables(), known),
            Err(error) => self.found(at, format!("`{text}` is no expression: {error}")),
        }
    }

    fn template(&mut self, at: &[&str], text: &str, known: &BTreeSet<String>) {
        match Template::parse(text) {
            Ok(template) => self.defined(at, &template.variables(), known),
            Err(error) => self.found(at, format!("this is no template: {error}")),
        }
    }

    fn defined(&mut self, at: &[&str], used: &BTreeSet<String>, known: &BTreeSet<String>) {
        for name in used.difference(known) {
            let secret = self.names.is_secret(name);
            let mut finding = Finding::new(at, format!("`{name}` is not defined here"));
            finding.hint = if secret {
                finding.message = format!("`{name}` is secret and cannot be used here");
                Some("secrets may be used in `auth` only".to_owned())
            } else {
                suggest(name, known.iter().map(String::as_str))
            };
            self.findings.push(finding);
        }
    }
}

/// The request that a stream's own keys make.
fn own_request(stream: &Stream) -> RequestSpec {
    RequestSpec {
        when: stream.when.clone(),
        for_each: stream.for_each.clone(),
        get: stream.get.clone(),
        post: stream.post.clone(),
        query: stream.query.clone(),
        headers: stream.headers.clone(),
        records: stream.records.clone(),
        page_size: stream.page_size.clone(),
        descend: stream.descend.clone(),
        ..RequestSpec::default()
    }
}

/// The variable that an iteration defines.
fn variable_of(for_each: &ForEach) -> String {
    match for_each {
        ForEach::Queue(items) => items.variable_name().to_owned(),
        ForEach::Input(items) => items.variable.clone(),
        ForEach::Values(items) => items.variable.clone(),
        ForEach::Range(items) => items.variable.clone(),
    }
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_lowercase() || letter == '_');
    first
        && letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}
