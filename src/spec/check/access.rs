//! Base URLs, authentication, connection fields, limits, and requests outside streams.

use super::checker::{Checker, below};
use crate::spec::language::api::StepSpec;
use crate::spec::language::connect::{AuthChoice, OAuth2, OAuth2Grant};
use crate::yaml::Finding;

impl Checker<'_> {
    pub(super) fn connection(&mut self) {
        for (name, field) in &self.spec.connection {
            let at = ["connection", name.as_str()];
            self.variable(&at, name);
            if let Some(default) = field.default.as_ref().filter(|_| !field.one_of.is_empty())
                && !field.one_of.contains(default)
            {
                let message = format!("the default `{default}` is not among `one_of`");
                self.found(&below(&at, &["default"]), message);
            }
            let mut known = self.names.connection();
            known.remove(name);
            let when = field.required_when.as_deref();
            self.expression(&below(&at, &["required_when"]), when, &known);
            let twice = field.required && when.is_some();
            let message = "`required` already covers all connections";
            self.found_if(twice, &below(&at, &["required_when"]), message);
            let Some(lookup) = &field.lookup else { continue };
            let at = below(&at, &["lookup"]);
            self.expression(&below(&at, &["when"]), lookup.when.as_deref(), &known);
            self.template(&below(&at, &["get"]), &lookup.get, &known);
            self.absolute(&below(&at, &["get"]), &lookup.get);
            self.path(&below(&at, &["at"]), &lookup.at);
        }
    }

    pub(super) fn access(&mut self) {
        let spec = self.spec;
        let mut known = self.names.connection();
        let choices = &spec.base_url.0;
        self.found_if(choices.is_empty(), &["base_url"], "a base URL is required");
        for (position, choice) in choices.iter().enumerate() {
            let number = position.to_string();
            let at = if choices.len() == 1 { vec!["base_url"] } else { vec!["base_url", &number] };
            let url = if choice.when.is_some() { below(&at, &["url"]) } else { at.clone() };
            self.expression(&below(&at, &["when"]), choice.when.as_deref(), &known);
            self.template(&url, &choice.url, &known);
            self.absolute(&url, &choice.url);
            self.reachable(&at, choice.when.is_some(), position + 1 == choices.len());
        }
        let choices = &spec.auth.0;
        let known_to_auth = self.names.with_secrets();
        for (position, choice) in choices.iter().enumerate() {
            let number = position.to_string();
            let at = if choices.len() == 1 { vec!["auth"] } else { vec!["auth", &number] };
            self.expression(&below(&at, &["when"]), choice.when.as_deref(), &known_to_auth);
            self.reachable(&at, choice.when.is_some(), position + 1 == choices.len());
            self.auth(&at, choice);
        }
        self.headers(&["headers"], &spec.headers, &known);
        if let Some(test) = &spec.test {
            // It is sent after the requests of `setup`, so it may use what they captured.
            known.extend(spec.setup.iter().flat_map(|step| step.capture.keys()).cloned());
            self.url_path(&["test", "get"], &test.get, &known);
            self.query(&["test", "query"], &test.query, &known);
            self.rules(&["test", "responses"], &test.responses);
        }
        self.rules(&["responses"], &spec.responses);
    }

    /// Of several choices, the first whose `when` holds applies.
    fn reachable(&mut self, at: &[&str], conditional: bool, last: bool) {
        let message = "the entries after this one are never used, because this one has no `when`";
        self.found_if(!conditional && !last, at, message);
    }

    fn absolute(&mut self, at: &[&str], url: &str) {
        let starts = ["https://", "http://", "{{"];
        let wrong = !starts.iter().any(|start| url.starts_with(start));
        self.found_if(wrong, at, "a URL starts with `https://`");
    }

    fn auth(&mut self, at: &[&str], choice: &AuthChoice) {
        let given = [
            choice.basic.is_some(),
            choice.bearer.is_some(),
            choice.header.is_some(),
            choice.query.is_some(),
            choice.oauth2.is_some(),
        ];
        self.one_of(at, "`basic`, `bearer`, `header`, `query`, `oauth2`", &given);
        let known = self.names.with_secrets();
        let mut texts: Vec<(Vec<&str>, &str)> = Vec::new();
        if let Some(basic) = &choice.basic {
            texts.push((vec!["basic", "username"], &basic.username));
            texts.push((vec!["basic", "password"], &basic.password));
        }
        texts.extend(choice.bearer.iter().map(|text| (vec!["bearer"], text.as_str())));
        for (key, named) in [("header", &choice.header), ("query", &choice.query)] {
            texts.extend(named.iter().map(|named| (vec![key, "value"], named.value.as_str())));
        }
        for (key, text) in texts {
            self.template(&below(at, &key), text, &known);
        }
        if let Some(oauth2) = &choice.oauth2 {
            self.oauth2(&below(at, &["oauth2"]), oauth2);
        }
    }

    fn oauth2(&mut self, at: &[&str], oauth2: &OAuth2) {
        let known = self.names.with_secrets();
        let texts = [
            ("token_url", Some(&oauth2.token_url)),
            ("device_url", oauth2.device_url.as_ref()),
            ("client_id", Some(&oauth2.client_id)),
            ("client_secret", oauth2.client_secret.as_ref()),
            ("refresh_token", oauth2.refresh_token.as_ref()),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                self.template(&below(at, &[key]), text, &known);
            }
        }
        for (name, text) in &oauth2.params {
            self.template(&below(at, &["params", name]), text, &known);
        }
        let field = oauth2.refresh_field();
        let kept = field.is_some_and(|field| self.spec.connection.contains_key(field));
        let message = "`rotates` needs a connection field for the token: \
                       `refresh_token: \"{{ field }}\"`";
        self.found_if(oauth2.rotates && !kept, &below(at, &["rotates"]), message);
        let missing = match oauth2.grant {
            OAuth2Grant::Device if oauth2.device_url.is_none() => "device_url",
            OAuth2Grant::RefreshToken if oauth2.refresh_token.is_none() => "refresh_token",
            OAuth2Grant::ClientCredentials if oauth2.client_secret.is_none() => "client_secret",
            _ => return,
        };
        self.found(&below(at, &["grant"]), format!("this grant needs `{missing}`"));
    }

    pub(super) fn limits(&mut self) {
        let spec = self.spec;
        let limits = &spec.limits;
        let slow = limits.requests_per_second.is_some_and(|rate| rate <= 0.0 || !rate.is_finite());
        let wrong = [
            ("requests_per_second", slow),
            ("concurrency", limits.concurrency == 0),
            ("timeout", limits.timeout.0.is_zero()),
            ("max_body_mib", limits.max_body_mib == 0),
        ];
        for (key, wrong) in wrong {
            self.found_if(wrong, &["limits", key], "this limit must be greater than 0");
        }
        let points = limits.points.as_ref();
        if let Some(points) = points {
            let known = self.names.connection();
            self.expression(&["limits", "points", "when"], points.when.as_deref(), &known);
            let at = ["limits", "points", "per_hour"];
            self.found_if(points.per_hour == 0, &at, "this limit must be greater than 0");
            let none = points.record.is_empty();
            let message = "name at least one class of records and its points";
            self.found_if(none, &["limits", "points"], message);
        }
        for (name, stream) in &spec.streams {
            let Some(cost) = &stream.cost else { continue };
            if !points.is_some_and(|points| points.record.contains_key(cost)) {
                let message = format!("`limits.points.record` has no class `{cost}`");
                self.found(&["streams", name, "cost"], message);
            }
        }
    }

    pub(super) fn steps(&mut self) {
        let spec = self.spec;
        self.steps_of("setup", &spec.setup, 0);
        self.steps_of("teardown", &spec.teardown, spec.setup.len());
    }

    fn steps_of(&mut self, key: &str, steps: &[StepSpec], before: usize) {
        let captured = |count: usize| self.spec.setup.iter().take(count);
        for (position, step) in steps.iter().enumerate() {
            let number = position.to_string();
            let at = [key, number.as_str()];
            // A step may use the values that earlier steps captured.
            let mut known = self.names.of_run();
            let count = before.max(position);
            known.extend(captured(count).flat_map(|step| step.capture.keys()).cloned());
            let planned = self.names.of_run();
            self.expression(&below(&at, &["when"]), step.when.as_deref(), &planned);
            let methods = [
                ("get", &step.get),
                ("post", &step.post),
                ("put", &step.put),
                ("delete", &step.delete),
            ];
            let given = methods.map(|(_, path)| path.is_some());
            self.one_of(&at, "`get`, `post`, `put`, `delete`", &given);
            for (method, path) in methods {
                if let Some(path) = path {
                    self.url_path(&below(&at, &[method]), path, &known);
                }
            }
            self.query(&below(&at, &["query"]), &step.query, &known);
            self.headers(&below(&at, &["headers"]), &step.headers, &known);
            self.body(&at, step.body.as_ref(), &known);
            for (name, path) in &step.capture {
                let at = below(&at, &["capture", name]);
                self.variable(&at, name);
                self.path(&at, path);
                if key == "teardown" {
                    let finding = Finding::new(&at, "nothing after `teardown` can use this value");
                    self.findings.push(finding.with_hint("capture it in `setup`"));
                }
            }
        }
    }
}
