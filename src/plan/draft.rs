//! The context that all parts of planning share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::plan::documents::{Documents, PlanOptions, Run};
use crate::replication::{Mode, StreamOptions};
use crate::template::{Scope, Value};

/// The context for resolving a stream.
pub(super) struct Draft<'plan> {
    pub(super) documents: Documents<'plan>,
    pub(super) options: &'plan PlanOptions,
    pub(super) run: &'plan Run,
    pub(super) variables: &'plan BTreeMap<String, Value>,
    /// Source of the tables: the spec and the base URL.
    pub(super) source: &'plan str,
}

impl Draft<'_> {
    /// Name of the replication.
    pub(super) fn name(&self) -> &str {
        self.documents.replication.name.as_deref().unwrap_or(self.documents.default_name)
    }

    pub(super) fn mode(&self, settings: &StreamOptions) -> Mode {
        self.options.mode.or(settings.mode).unwrap_or_default()
    }

    /// Maximum number of requests in flight over all streams.
    pub(super) fn concurrency(&self) -> u32 {
        let own = self.documents.replication.limits.concurrency;
        own.unwrap_or(self.documents.spec.limits.concurrency).max(1)
    }

    pub(super) fn scope(&self, variables: &BTreeMap<String, Value>) -> Arc<Scope> {
        let mut all = self.variables.clone();
        all.extend(variables.clone());
        Arc::new(Scope::new(all))
    }
}

impl Error {
    /// A path of the spec that is not valid.
    pub(super) fn from_path(error: crate::path::PathError) -> Self {
        Self::input("the spec has an invalid path").because(error)
    }
}
