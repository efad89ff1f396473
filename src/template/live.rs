//! Values that can be replaced while scopes use them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use minijinja::Value;

/// Shared values; every scope with them sees the current ones.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<RwLock<BTreeMap<String, Value>>>);

impl Live {
    /// Replaces all values.
    pub fn replace(&self, values: BTreeMap<String, Value>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = values;
    }

    /// The value of this name.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
