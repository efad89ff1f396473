//! The names that templates of a spec may use.

use std::collections::BTreeSet;

use crate::spec::Spec;

pub(super) struct Names {
    /// Connection fields that may be shown.
    fields: BTreeSet<String>,
    secrets: BTreeSet<String>,
    /// Inputs and what `setup` captures.
    others: BTreeSet<String>,
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
            others: spec.inputs.keys().chain(captured).cloned().collect(),
        }
    }

    /// For what is decided by the connection alone.
    pub(super) fn connection(&self) -> BTreeSet<String> {
        self.fields.clone()
    }

    /// For authentication.
    pub(super) fn with_secrets(&self) -> BTreeSet<String> {
        self.fields.union(&self.secrets).cloned().collect()
    }

    /// For requests.
    pub(super) fn open(&self) -> BTreeSet<String> {
        self.fields.union(&self.others).cloned().collect()
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.secrets.contains(name)
    }
}
