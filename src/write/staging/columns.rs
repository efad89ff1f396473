//! Columns of staged batches.

use arrow_array::{ArrayRef, RecordBatch};

use crate::error::{Error, Result};

pub(crate) fn column<'batch>(batch: &'batch RecordBatch, name: &str) -> Result<&'batch ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::target(format!("staged rows lack `{name}`")))
}

pub(crate) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::target("rows cannot be put together").because(error)
}
