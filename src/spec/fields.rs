//! The values of a connection's fields.

use std::collections::BTreeMap;

use crate::secret::Secret;
use crate::template::Value;

/// The values of a connection, by field.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Values that may be shown.
    pub open: BTreeMap<String, String>,
    /// Secret values.
    pub secret: BTreeMap<String, Secret>,
}

impl Fields {
    /// The non-secret values, as variables of templates.
    pub fn variables(&self) -> BTreeMap<String, Value> {
        self.open.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    }

    /// Whether a field has no value.
    pub fn is_empty(&self, name: &str, secret: bool) -> bool {
        if secret {
            self.secret.get(name).is_none_or(|value| value.expose().is_empty())
        } else {
            self.open.get(name).is_none_or(String::is_empty)
        }
    }

    /// All values including secrets, for authentication only.
    pub fn with_secrets(&self) -> BTreeMap<String, Value> {
        let mut all = self.variables();
        let secrets = self.secret.iter();
        all.extend(secrets.map(|(name, value)| (name.clone(), Value::from(value.expose()))));
        all
    }
}
