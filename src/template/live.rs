//! Values that are replaced while scopes that show them are in use.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use minijinja::Value;

/// Values that all scopes with it show as they are now.
#[derive(Clone, Debug, Default)]
pub struct Live(Arc<RwLock<BTreeMap<String, Value>>>);

impl Live {
    /// Puts these values in the place of all others.
    pub fn replace(&self, values: BTreeMap<String, Value>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = values;
    }

    /// The value of this name.
    pub(super) fn get(&self, name: &str) -> Option<Value> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
