//! Columns of staged batches.

use arrow_array::{ArrayRef, RecordBatch};

use crate::error::{Error, Result};

/// A column of a staged batch.
pub(crate) fn column<'batch>(batch: &'batch RecordBatch, name: &str) -> Result<&'batch ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::target(format!("staged rows lack `{name}`")))
}

/// The error of batches that cannot be processed.
pub(crate) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::target("cannot merge the rows").because(error)
}
