//! The request for the number of records of a stream.

use crate::error::{Error, Result};
use crate::path::Path;
use crate::plan::draft::Draft;
use crate::plan::requests::templates;
use crate::plan::streams::stage::StreamDraft;
use crate::spec::{Count, Stream};
use crate::template::{Expression, Template};

/// The request for the number of records of a stream, compiled.
#[derive(Debug)]
pub struct CountPlan {
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    /// Path of the number in the response.
    pub at: Path,
    /// Names of the streams whose records the number counts together, including this stream.
    pub of: Vec<String>,
}

impl Draft<'_> {
    /// Compiles the count request of a stream, if the spec declares one.
    pub(crate) fn count(&self, stage: &StreamDraft<'_>) -> Result<Option<CountPlan>> {
        let Some(count) = &stage.stream.count else { return Ok(None) };
        if let Some(text) = &count.when {
            let holds = Expression::parse(text)
                .and_then(|when| when.holds(&self.scope(&stage.variables)))
                .map_err(|error| Error::input(format!("`count`: `when`: {error}")))?;
            if !holds {
                return Ok(None);
            }
        }
        let asked = |stream: &Stream| stream.count.as_ref().is_some_and(|one| is_same(one, count));
        let of = self.documents.spec.streams.iter().filter(|(_, stream)| asked(stream));
        Ok(Some(CountPlan {
            path: templates::template(&count.get)?,
            query: templates::query(&count.query)?,
            at: Path::parse(&count.at).map_err(Error::from_path)?,
            of: of.map(|(name, _)| name.clone()).collect(),
        }))
    }
}

/// Whether two requests ask for the same number.
fn is_same(one: &Count, other: &Count) -> bool {
    (&one.get, &one.query, &one.at) == (&other.get, &other.query, &other.at)
}
