//! The request that checks whether a record still exists.

use crate::error::Result;
use crate::plan::draft::Draft;
use crate::plan::requests::templates;
use crate::plan::streams::stage::StreamDraft;
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
    pub(crate) fn confirm(stage: &StreamDraft<'_>) -> Result<Option<ConfirmPlan>> {
        let (Some(confirm), [key]) = (&stage.stream.confirm_deletes, &*stage.stream.key) else {
            return Ok(None);
        };
        let (path, query) = (templates::template(&confirm.get)?, templates::query(&confirm.query)?);
        Ok(Some(ConfirmPlan { path, query, key: key.clone() }))
    }
}
