//! What is taken from a response, and what comes of it.

use std::fmt;

use arrow_array::{ArrayRef, StringArray};
use serde_json::Value;

use crate::path::Path;
use crate::schema::ColumnType;

/// What is to be taken from a response.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Path of the records; `[]` in it enters records that enclose others: `results[].labels`. What `[]`
    /// stands behind is a list.
    pub records: Path,
    /// Whether the records are a list, of which pages come: one object is an error then, but where the
    /// records are the response itself.
    pub paged: bool,
    /// Whether null in the place of the records says that there are none; else it is an error.
    pub null_is_none: bool,
    /// Columns, in the order in which they are wanted.
    pub columns: Vec<ColumnSource>,
    /// Paths in a record whose values are wanted as text beside the columns.
    pub taps: Vec<Path>,
    /// Paths outside the records, for finding the next page.
    pub captures: Vec<Path>,
    /// What becomes of other fields of a record.
    pub others: Others,
    /// Paths in a record that are dropped whatever `others` says.
    pub ignore: Vec<Path>,
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub struct ColumnSource {
    /// Type.
    pub kind: ColumnType,
    /// Paths in a record, `^` leading to the enclosing record; the first that is there and not null
    /// gives the value.
    pub paths: Vec<Path>,
    /// JSON text of the value of a record that has none.
    pub default: Option<String>,
}

/// What becomes of fields of a record that are on no path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They are kept as one JSON object.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
    /// They are an error.
    Refuse,
}

/// What a response held.
#[derive(Debug)]
pub struct Page {
    /// Number of records.
    pub rows: usize,
    /// One array per column of the layout, each of `rows` values.
    pub columns: Vec<ArrayRef>,
    /// Per record its other fields and misfits as a JSON object, or null; absent unless kept.
    pub extra: Option<ArrayRef>,
    /// One array per tap, each of `rows` values.
    pub taps: Vec<StringArray>,
    /// One value per capture.
    pub captures: Vec<Option<Value>>,
    /// Values that did not fit their column.
    pub misfits: u64,
    /// Path of the first of them.
    pub first_misfit: Option<String>,
    /// Errors that the response tells of beside its records.
    pub errors: Option<String>,
    /// Whether the response says that it has failed (`success: false`, `status: error`).
    pub failed: bool,
    /// Per column of the layout the values that did not fit it.
    pub column_misfits: Vec<u64>,
}

/// Why a response could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not whole, valid JSON.
    Malformed(String),
    /// It is something else than JSON, and will be so again.
    NotJson(String),
    /// It is JSON, but not of the shape that the layout expects.
    Shape(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(formatter, "the answer is not valid JSON: {why}"),
            Self::NotJson(what) => write!(formatter, "the answer is not JSON: {what}"),
            Self::Shape(why) => write!(formatter, "the answer has another shape: {why}"),
        }
    }
}

impl std::error::Error for DecodeError {}
