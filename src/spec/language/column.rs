//! A column of a stream, and what happens to fields without one.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::schema::ColumnType;
use crate::spec::language::value::OneOrMany;

/// A column: its type, and where its values come from.
///
/// The forms are `id: text` (the field of the same name), `{ int: version.number }` (a path), `{
/// text: [a.b, c.d] }` (the first path with a value that is not null) and `{ text: "{{ page_id }}"
/// }` (a template over the slice's variables, inputs, connection fields, and `row.<column>`).
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSpec {
    /// Type.
    pub kind: ColumnType,
    /// Paths or one template. Absent: the column's name is the path.
    pub from: Option<OneOrMany<String>>,
    /// Value for rows without one.
    pub default: Option<serde_json::Value>,
    /// What the column means.
    pub doc: Option<String>,
}

/// What happens to fields that no column declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// weir keeps them in the column `_extra`.
    #[default]
    Keep,
    /// weir drops them.
    Ignore,
    /// The stream fails.
    Fail,
}
