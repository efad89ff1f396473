//! Loading of a spec, and the JSON Schema of its file.

use crate::spec::check;
use crate::spec::former::renamed;
use crate::spec::language::api::Spec;
use crate::spec::schema::as_read;
use crate::yaml::{Document, Problems, lenient};

impl Spec {
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// Everything that is wrong with its form and its meaning.
    pub fn load(file: &str, text: &str) -> Result<Self, Problems> {
        Document::parse(file, text)?.renamed(&renamed()).read_checked(check::check)
    }

    /// Warnings about a valid spec; `text` is the text it was read from.
    pub fn warnings(&self, file: &str, text: &str) -> Problems {
        let document = Document::parse(file, text).map(|document| document.renamed(&renamed()));
        document.map_or_else(|problems| problems, |document| document.locate(check::warnings(self)))
    }
}

/// JSON Schema of a spec's file, for completion and checks in editors.
pub fn json_schema() -> serde_json::Value {
    as_read(lenient(schemars::schema_for!(Spec).to_value()))
}
