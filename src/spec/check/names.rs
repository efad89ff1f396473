//! The variables that templates of a spec may use.

use std::collections::BTreeSet;

use crate::spec::language::api::Spec;

/// Variables of every template of a request or column.
pub(super) const ALWAYS: [&str; 5] =
    ["columns", "stream_name", "run_id", "run_date", "run_timestamp"];

/// Variable that holds a cursor's bound.
pub(super) const CURSOR: &str = "cursor";

pub(super) struct Names {
    /// Non-secret connection fields.
    fields: BTreeSet<String>,
    secrets: BTreeSet<String>,
    inputs: BTreeSet<String>,
    captured: BTreeSet<String>,
}

impl Names {
    pub(super) fn new(spec: &Spec) -> Self {
        let by_secrecy = |secret: bool| {
            let fields = spec.connection.iter().filter(move |(_, field)| field.secret == secret);
            fields.map(|(name, _)| name.clone()).collect()
        };
        let captured = spec.setup.iter().flat_map(|step| step.capture.keys());
        Self {
            fields: by_secrecy(false),
            secrets: by_secrecy(true),
            inputs: spec.inputs.keys().cloned().collect(),
            captured: captured.cloned().collect(),
        }
    }

    /// Variables of templates that depend on the connection only.
    pub(super) fn connection(&self) -> BTreeSet<String> {
        self.fields.clone()
    }

    /// Variables of templates for authentication.
    pub(super) fn with_secrets(&self) -> BTreeSet<String> {
        self.fields.union(&self.secrets).cloned().collect()
    }

    /// Variables of requests before and after the streams.
    pub(super) fn of_run(&self) -> BTreeSet<String> {
        let run = ["run_id", "run_date", "run_timestamp"].map(str::to_owned);
        self.fields.union(&self.inputs).cloned().chain(run).collect()
    }

    /// Variables of templates that weir renders before a stream sends requests.
    pub(super) fn planned(&self) -> BTreeSet<String> {
        self.fields.union(&self.inputs).cloned().chain(ALWAYS.map(str::to_owned)).collect()
    }

    /// Variables of a stream's requests, including those that the requests define.
    pub(super) fn with(&self, variables: &BTreeSet<String>) -> BTreeSet<String> {
        let mut all = self.planned();
        all.extend(self.captured.union(variables).cloned());
        all
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.secrets.contains(name)
    }
}
