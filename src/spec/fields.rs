//! The values of a connection's fields.

use std::collections::BTreeMap;

use crate::secret::Secret;
use crate::template::Value;

/// A connection's values, by field.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Those that may be shown.
    pub open: BTreeMap<String, String>,
    /// Those that may not.
    pub secret: BTreeMap<String, Secret>,
}

impl Fields {
    /// The open values, as templates see them.
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

    /// All values, secrets too, for authentication alone.
    pub fn with_secrets(&self) -> BTreeMap<String, Value> {
        let mut all = self.variables();
        let secrets = self.secret.iter();
        all.extend(secrets.map(|(name, value)| (name.clone(), Value::from(value.expose()))));
        all
    }
}
