//! A column of a stream, and what happens to fields without one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::OneOrMany;
use crate::schema::ColumnType;

/// A column: its type, and where its value comes from.
///
/// Written `id: text` (the field of the same name), `{ int: version.number }` (a path),
/// `{ text: [a.b, c.d] }` (the first that is there and not null) or `{ text: "{{ page_id }}" }` (a
/// template over the slice's variables, inputs, connection fields, and `row.<column>`).
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSpec {
    /// Type.
    pub kind: ColumnType,
    /// Paths or one template; the column's own name when absent.
    pub from: Option<OneOrMany<String>>,
    /// Value of a row that has none.
    pub default: Option<serde_json::Value>,
    /// What it means.
    pub doc: Option<String>,
}

/// What becomes of fields that no column declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// They are kept in the column `_extra`.
    #[default]
    Keep,
    /// They are dropped.
    Ignore,
    /// The stream fails.
    Fail,
}
