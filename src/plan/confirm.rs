//! The request that checks whether a record still exists.

use super::draft::Draft;
use super::stage::StreamDraft;
use super::templates;
use crate::error::Result;
use crate::template::Template;

/// The request that checks whether a record still exists, compiled.
#[derive(Debug)]
pub struct ConfirmPlan {
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// The column of the key. Templates use its value by this name.
    pub key: String,
}

impl Draft<'_> {
    /// Compiles the request, if the spec declares one for the stream.
    pub(super) fn confirm(stage: &StreamDraft<'_>) -> Result<Option<ConfirmPlan>> {
        let (Some(confirm), [key]) = (&stage.stream.confirm_deletes, &*stage.stream.key) else {
            return Ok(None);
        };
        let (path, query) = (templates::template(&confirm.get)?, templates::query(&confirm.query)?);
        Ok(Some(ConfirmPlan { path, query, key: key.clone() }))
    }
}
