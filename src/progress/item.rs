//! A value of a queue.

use std::sync::Arc;

/// A value of a queue, with the version and the payload of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueItem {
    pub(crate) value: Arc<str>,
    /// Version of the record: the value of its cursor.
    pub(crate) stamp: Option<i64>,
    /// The payload: a JSON list of texts and nulls, or empty.
    pub(crate) carried: Arc<str>,
}

impl QueueItem {
    /// The values of the payload.
    pub(crate) fn values(&self) -> Vec<Option<String>> {
        serde_json::from_str(&self.carried).unwrap_or_default()
    }
}
