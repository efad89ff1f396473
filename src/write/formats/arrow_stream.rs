//! Arrow IPC streams: the format of staged rows.

use std::io::Read;

use arrow_array::RecordBatch;
use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use arrow_schema::{ArrowError, SchemaRef};

use crate::error::{Error, Result};

/// One stream with these batches.
pub(crate) fn encode(
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = RecordBatch>,
) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(|error| failed(&error))?;
    for batch in batches {
        writer.write(&batch).map_err(|error| failed(&error))?;
    }
    writer.into_inner().map_err(|error| failed(&error))
}

/// The first rows of a stream. What follows them was not saved by a checkpoint, and may be incomplete.
pub(crate) struct StreamRows {
    reader: StreamReader<Box<dyn Read + Send>>,
    /// Rows that are still to be read.
    left: u64,
}

impl StreamRows {
    /// Reads `rows` rows; `columns` are the positions of the columns to read, all when `None`.
    pub(crate) fn new(
        bytes: Box<dyn Read + Send>,
        rows: u64,
        columns: Option<Vec<usize>>,
    ) -> Result<Self> {
        let reader = StreamReader::try_new(bytes, columns).map_err(|error| failed(&error))?;
        Ok(Self { reader, left: rows })
    }
}

impl Iterator for StreamRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let batch = match self.reader.next() {
            Some(batch) => batch.map_err(|error| failed(&error)),
            None => {
                Err(Error::target("staged rows are missing").with_hint("start over with `--fresh`"))
            }
        };
        Some(batch.map(|batch| {
            let rows = (batch.num_rows() as u64).min(self.left);
            self.left -= rows;
            batch.slice(0, usize::try_from(rows).unwrap_or(usize::MAX))
        }))
    }
}

/// The error of staged rows that cannot be read or written.
pub(crate) fn failed(error: &ArrowError) -> Error {
    Error::target("staged rows cannot be read or written")
        .because(error.to_string())
        .with_hint("start over with `--fresh`")
}
