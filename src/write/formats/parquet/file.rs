//! Parquet: row groups of bounded memory, and files that another program may have written again.

use std::{fs::File, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef, SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::ParquetMetaData,
        properties::{EnabledStatistics, WriterProperties},
    },
};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::schema::{Column, ColumnType, DELETED_AT, TableSchema};
use crate::write::formats::codec::{Codec, Encoder, Encoding, RowReader, cannot_encode};
use crate::write::formats::existing::{self, ExistingFile};
use crate::write::formats::fit::{decoded, refuse_unknown};
use crate::write::formats::json_text;
use crate::write::formats::memory_limit::MemoryShare;
use crate::write::formats::parquet::foreign_types;
use crate::write::formats::settings::Settings;

/// The format.
#[derive(Debug)]
pub(crate) struct Parquet;

impl Codec for Parquet {
    fn encoder(&self, encoding: &Encoding) -> Result<Box<dyn Encoder>> {
        let schema = Arc::clone(&encoding.schema);
        let properties = properties(encoding.settings)?;
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))
            .map_err(|error| cannot_encode(&error))?;
        let memory = MemoryShare::new(Arc::clone(&encoding.memory));
        let group_bytes = encoding.settings.row_group_bytes;
        Ok(Box::new(ParquetEncoder { schema, writer, group_bytes, memory }))
    }

    fn other_columns(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Vec<Column>> {
        let found = Footer::of(file)?.schema;
        let fields = found.fields().iter().filter(|field| schema.position(field.name()).is_none());
        // Other programs give a column without values no type: there is nothing to keep.
        let is_typed = |field: &&FieldRef| *field.data_type() != DataType::Null;
        let columns = fields.filter(is_typed).map(|field| {
            let kind = kind_of(field).ok_or_else(|| {
                file.unreadable(format!("column `{}` is {}", field.name(), field.data_type()))
            })?;
            Ok(Column::new(field.name(), kind))
        });
        columns.collect()
    }

    fn column_names(&self, file: &ExistingFile) -> Result<Option<Vec<String>>> {
        let found = Footer::of(file)?.schema;
        let names: Vec<String> = found.fields().iter().map(|field| field.name().clone()).collect();
        Ok((!names.is_empty()).then_some(names))
    }

    fn count_live(&self, file: &ExistingFile) -> Result<u64> {
        let mut count = 0;
        for batch in batches(file)? {
            let batch = batch.map_err(|error| file.unreadable(error))?;
            let deleted = batch.column_by_name(DELETED_AT);
            let deleted = deleted.map_or(0, |times| times.len() - times.null_count());
            count += (batch.num_rows() - deleted) as u64;
        }
        Ok(count)
    }

    fn count(&self, file: &ExistingFile) -> Result<u64> {
        Ok(Footer::of(file)?.rows)
    }

    fn read(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Box<dyn RowReader>> {
        let metadata = Footer::of(file)?;
        check_types(file, &metadata.schema, schema)?;
        Ok(Box::new(ParquetReader {
            file: file.clone(),
            schema: schema.clone(),
            arrow: schema.arrow(),
            is_foreign: metadata.is_foreign,
            batches: batches(file)?,
        }))
    }
}

fn properties(settings: Settings) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(settings.zstd_level).map_err(|error| cannot_encode(&error))?;
    // Page statistics and offsets would grow with the rows and are of little use in files of
    // an extract; those of row groups stay.
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(settings.row_group_rows))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .build())
}

struct ParquetEncoder {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    /// Size at which a row group is ended, in encoded bytes.
    group_bytes: usize,
    memory: MemoryShare,
}

impl ParquetEncoder {
    fn put(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(batch)?;
        self.memory.set(self.writer.memory_size());
        if self.writer.in_progress_size() >= self.group_bytes || self.memory.is_over() {
            // A buffer that doubled as it grew would take twice the row group.
            let size = self.writer.in_progress_size();
            self.writer.inner_mut().reserve_exact(size);
            self.writer.flush()?;
            self.writer.sync()?;
            self.memory.set(self.writer.memory_size());
        }
        Ok(())
    }
}

impl Encoder for ParquetEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec());
        let batch = batch.map_err(|error| {
            Error::target("the rows do not fit the table's columns")
                .because(error.to_string())
                .with_hint("a key column must not be null; check the stream's `key`")
        })?;
        self.put(&batch).map_err(|error| cannot_encode(&error))
    }

    fn ready(&self) -> usize {
        self.writer.inner().len()
    }

    fn pending(&self) -> usize {
        self.ready() + self.writer.in_progress_size()
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.writer.into_inner().map_err(|error| cannot_encode(&error))
    }
}

/// What the footer of a file tells.
struct Footer {
    schema: SchemaRef,
    rows: u64,
    /// Whether another program has written the file.
    is_foreign: bool,
}

impl Footer {
    fn of(file: &ExistingFile) -> Result<Self> {
        let read = match file {
            ExistingFile::Local(path) => {
                ParquetRecordBatchReaderBuilder::<File>::try_new(existing::open(path)?)
                    .map(|builder| Self::new(builder.schema(), builder.metadata()))
            }
            ExistingFile::Bytes { bytes, .. } => {
                ParquetRecordBatchReaderBuilder::<Bytes>::try_new(bytes.clone())
                    .map(|builder| Self::new(builder.schema(), builder.metadata()))
            }
        };
        read.map_err(|error| file.unreadable(error))
    }

    fn new(schema: &SchemaRef, metadata: &ParquetMetaData) -> Self {
        let metadata = metadata.file_metadata();
        let created_by = metadata.created_by().unwrap_or_default();
        Self {
            schema: Arc::clone(schema),
            rows: u64::try_from(metadata.num_rows()).unwrap_or(0),
            is_foreign: !created_by.starts_with("parquet-rs"),
        }
    }
}

fn batches(file: &ExistingFile) -> Result<ParquetRecordBatchReader> {
    let reader = match file {
        ExistingFile::Local(path) => {
            ParquetRecordBatchReaderBuilder::try_new(existing::open(path)?)
                .and_then(ParquetRecordBatchReaderBuilder::build)
        }
        ExistingFile::Bytes { bytes, .. } => {
            ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
                .and_then(ParquetRecordBatchReaderBuilder::build)
        }
    };
    reader.map_err(|error| file.unreadable(error))
}

fn check_types(file: &ExistingFile, found: &SchemaRef, schema: &TableSchema) -> Result<()> {
    for field in found.fields() {
        let column = schema.columns.iter().find(|column| column.name == *field.name());
        let Some(column) = column else { continue };
        if *field.data_type() == DataType::Null {
            continue;
        }
        let wanted = column.kind;
        let shown = match kind_of(field) {
            Some(kind) if kind == wanted || kind.widens_to(wanted) => continue,
            Some(kind) => kind.to_string(),
            None => field.data_type().to_string(),
        };
        return Err(file.type_mismatch(&column.name, &format!("`{shown}`"), wanted));
    }
    Ok(())
}

/// The column type of a field, whether weir wrote the file or another program copied what weir wrote.
fn kind_of(field: &Field) -> Option<ColumnType> {
    let json = field.metadata().values().any(|name| name == "arrow.json");
    match foreign_types::kind_of(field.data_type()) {
        Some(ColumnType::Text) if json => Some(ColumnType::Json),
        kind => kind,
    }
}

/// Texts as JSON: those that are JSON as they are, the others as JSON strings.
fn as_json(array: &ArrayRef) -> Vec<Option<String>> {
    let json = |text: &str| match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => text.to_owned(),
        Err(_) => serde_json::Value::from(text).to_string(),
    };
    array.as_string::<i32>().iter().map(|text| text.map(json)).collect()
}

struct ParquetReader {
    file: ExistingFile,
    schema: TableSchema,
    arrow: SchemaRef,
    is_foreign: bool,
    batches: ParquetRecordBatchReader,
}

impl RowReader for ParquetReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(batch) = self.batches.next() else { return Ok(None) };
        let batch = batch.map_err(|error| self.file.unreadable(error))?;
        self.fitted(&batch).map(Some)
    }
}

impl ParquetReader {
    /// A batch of the file in the table's columns.
    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let typed = schema.fields().iter().filter(|field| *field.data_type() != DataType::Null);
        let names = typed.map(|field| field.name().as_str());
        refuse_unknown(&self.file, &self.schema, names)?;
        let columns = self.schema.columns.iter().map(|column| self.column(batch, column));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
            .map_err(|error| self.file.unreadable(error))
    }

    fn column(&self, batch: &RecordBatch, column: &Column) -> Result<ArrayRef> {
        let schema = batch.schema();
        let found = schema.column_with_name(&column.name);
        let found = found.filter(|(_, field)| *field.data_type() != DataType::Null);
        let Some((at, field)) = found else {
            return Ok(new_null_array(&column.kind.arrow(), batch.num_rows()));
        };
        let array = foreign_types::own(batch.column(at))
            .map_err(|why| self.file.unreadable(format!("column `{}`: {why}", column.name)))?;
        // Text and JSON have the same Arrow type.
        let kind = kind_of(field);
        if kind == Some(column.kind) {
            return Ok(array);
        }
        let field = field.clone().with_data_type(array.data_type().clone());
        // Other programs forget which texts are JSON.
        let is_lost =
            self.is_foreign && (kind, column.kind) == (Some(ColumnType::Text), ColumnType::Json);
        let texts = if is_lost { as_json(&array) } else { json_text::texts(&field, &array)? };
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        decoded(&self.file, column, &texts)
    }
}
