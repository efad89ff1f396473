//! One value of a queue.

use std::sync::Arc;

/// A value, and the version of the record it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueItem {
    pub(crate) value: Arc<str>,
    /// Its record's value of the cursor.
    pub(crate) stamp: Option<i64>,
    /// What comes along with it: a JSON list of texts and nulls; empty where nothing does.
    pub(crate) carried: Arc<str>,
}

impl QueueItem {
    /// Its values of what comes along.
    pub(crate) fn values(&self) -> Vec<Option<String>> {
        serde_json::from_str(&self.carried).unwrap_or_default()
    }
}
