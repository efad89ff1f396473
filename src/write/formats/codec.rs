//! The seam of file formats: rows to bytes, and back.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::schema::{Column, TableSchema};
use crate::write::formats::existing::ExistingFile;
use crate::write::formats::memory_limit::MemoryLimit;
use crate::write::formats::settings::Settings;

/// What all files of a table have in common.
#[derive(Debug)]
pub(crate) struct Encoding {
    /// The columns; those of the key are not nullable.
    pub(crate) schema: SchemaRef,
    pub(crate) settings: Settings,
    pub(crate) memory: Arc<MemoryLimit>,
}

impl Encoding {
    pub(crate) fn new(table: &TableSchema, settings: Settings, memory: Arc<MemoryLimit>) -> Self {
        Self { schema: with_required_key(table), settings, memory }
    }
}

/// Key columns hold no null in any row, and Parquet can express that.
fn with_required_key(table: &TableSchema) -> SchemaRef {
    let arrow = table.arrow();
    let fields = arrow.fields().iter().map(|field| {
        let nullable = !table.key.contains(field.name());
        field.as_ref().clone().with_nullable(nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A file format. It does not depend on where the bytes are written.
pub(crate) trait Codec: Send + Sync {
    /// An encoder for one more file of a table.
    fn encoder(&self, encoding: &Encoding) -> Result<Box<dyn Encoder>>;

    /// The columns of a file that a table does not have, with their types if the file declares them.
    fn other_columns(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Vec<Column>>;

    /// The names of a file's columns; `None` when the file declares no columns and has no rows.
    fn column_names(&self, file: &ExistingFile) -> Result<Option<Vec<String>>>;

    /// Number of a file's rows without those that are marked as deleted.
    fn count_live(&self, file: &ExistingFile) -> Result<u64>;

    /// Number of all rows of a file, found without decoding them.
    fn count(&self, file: &ExistingFile) -> Result<u64>;

    /// Reads the rows of a file in the columns of this schema.
    ///
    /// # Errors
    /// A column of the file has a type that cannot become the table's.
    fn read(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Box<dyn RowReader>>;
}

/// Encodes the rows of one file.
pub(crate) trait Encoder: Send {
    /// Encodes rows.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Number of encoded bytes that [`Encoder::take`] would return.
    fn ready(&self) -> usize;

    /// Number of encoded bytes not yet taken, with an estimate for rows that are not yet encoded.
    fn pending(&self) -> usize;

    /// Takes the encoded bytes.
    fn take(&mut self) -> Vec<u8>;

    /// Ends the file and returns its last bytes.
    fn finish(self: Box<Self>) -> Result<Vec<u8>>;
}

/// Reads the rows of one file.
pub(crate) trait RowReader: Send {
    /// The next batch; `None` after the last.
    fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// The error of rows that cannot be encoded.
pub(crate) fn cannot_encode(error: &dyn std::error::Error) -> Error {
    Error::target("cannot encode the rows").because(error.to_string())
}
