//! What to decode from a response, and the result.

use std::fmt;

use arrow_array::{ArrayRef, StringArray};
use serde_json::Value;

use crate::path::Path;
use crate::schema::ColumnType;

/// What to decode from a response.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Path of the records. `[]` enters enclosing records: `results[].labels`. A value before `[]`
    /// must be a list.
    pub records: Path,
    /// Whether the listing has pages, so that the records must be a list. A single object is then
    /// an error, unless the records are the response itself.
    pub paged: bool,
    /// Whether null in place of the records means that there are none; otherwise it is an error.
    pub null_is_none: bool,
    /// Columns, in the order of the result.
    pub columns: Vec<ColumnSource>,
    /// Paths in a record whose values are returned as text, in addition to the columns.
    pub taps: Vec<Path>,
    /// Paths outside the records, used to find the next page.
    pub captures: Vec<Path>,
    /// What happens to other fields of a record.
    pub others: Others,
    /// Paths in a record that are always dropped, whatever `others` is.
    pub ignore: Vec<Path>,
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub struct ColumnSource {
    /// Type.
    pub kind: ColumnType,
    /// Paths in a record; `^` leads to the enclosing record. The first path with a value other than
    /// null applies.
    pub paths: Vec<Path>,
    /// JSON text of the default for records without a value.
    pub default: Option<String>,
}

/// What happens to fields of a record that are on no declared path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They are kept in one JSON object.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
    /// They are an error.
    Refuse,
}

/// The decoded response.
#[derive(Debug)]
pub struct Page {
    /// Number of records.
    pub rows: usize,
    /// One array per column of the layout, each of `rows` values.
    pub columns: Vec<ArrayRef>,
    /// Per record: its other fields and values with type mismatches as a JSON object, or null.
    /// `None` unless they are kept.
    pub extra: Option<ArrayRef>,
    /// One array per tap, each of `rows` values.
    pub taps: Vec<StringArray>,
    /// One value per capture.
    pub captures: Vec<Option<Value>>,
    /// Number of type mismatches.
    pub misfits: u64,
    /// Path of the first type mismatch.
    pub first_misfit: Option<String>,
    /// Errors that the response reports beside its records.
    pub errors: Option<String>,
    /// Whether the response states that it has failed (`success: false`, `status: error`).
    pub failed: bool,
    /// Number of type mismatches per column of the layout.
    pub column_misfits: Vec<u64>,
}

/// Why a response could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not complete, valid JSON; a retry may help.
    Malformed(String),
    /// It is not JSON; a retry does not help.
    NotJson(String),
    /// It is JSON, but does not have the structure that the layout expects.
    Shape(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(formatter, "the response is not valid JSON: {why}"),
            Self::NotJson(what) => write!(formatter, "the response is not JSON: {what}"),
            Self::Shape(why) => {
                write!(formatter, "the response has an unexpected structure: {why}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}
