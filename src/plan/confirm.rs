//! How a stream asks whether a record is still there.

use super::draft::Draft;
use super::stage::Stage;
use super::templates;
use crate::error::Result;
use crate::template::Template;

/// The request that tells whether one record is still there.
#[derive(Debug)]
pub struct ConfirmPlan {
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// The key's column, under whose name the templates see its value.
    pub key: String,
}

impl Draft<'_> {
    /// How a record of a stream is asked for, if its spec knows how.
    pub(super) fn confirm(stage: &Stage<'_>) -> Result<Option<ConfirmPlan>> {
        let (Some(confirm), [key]) = (&stage.stream.confirm_deletes, &*stage.stream.key) else {
            return Ok(None);
        };
        let (path, query) = (templates::template(&confirm.get)?, templates::query(&confirm.query)?);
        Ok(Some(ConfirmPlan { path, query, key: key.clone() }))
    }
}
