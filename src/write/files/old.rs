//! An object as it is: the rows of its files, in the columns that a merge writes.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, new_null_array};
use arrow_schema::{DataType, Field, FieldRef, SchemaRef};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::{
    arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    file::metadata::ParquetMetaData,
};
use serde_json::value::RawValue;

use super::{
    foreign, json, local,
    object::{Compression, Format},
};
use crate::decode;
use crate::error::{Error, Result};
use crate::schema::{Column, ColumnType, DELETED_AT, TableSchema};

/// Rows of JSONL that make a batch.
const LINES: usize = 1024;
/// Bytes of a date in JSON, with its quotes.
const DATE: usize = "\"2026-01-31\"".len();

/// One file of an object.
#[derive(Clone, Debug)]
pub(super) enum OldFile {
    Local(PathBuf),
    /// Read already; bounded by who reads.
    Bytes {
        name: String,
        bytes: Bytes,
    },
}

impl OldFile {
    fn shown(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Local(path) => Box::new(file(path)?),
            Self::Bytes { bytes, .. } => Box::new(Cursor::new(bytes.clone())),
        })
    }

    fn broken(&self, why: impl std::fmt::Display) -> Error {
        Error::target(format!("`{}` cannot be read", self.shown()))
            .because(why.to_string())
            .with_hint("move it away, or load it anew with the mode full-refresh")
    }

    /// The columns of the file that a table does not have; with their types as far as they can be told.
    pub(super) fn others(&self, format: Format, schema: &TableSchema) -> Result<Vec<Column>> {
        let known = |name: &str| schema.position(name).is_some();
        match format {
            Format::Parquet => {
                let reader = self.parquet()?;
                // Other programs give a column without values no type: there is nothing to keep.
                let is_typed = |field: &&FieldRef| *field.data_type() != DataType::Null;
                let fields = reader.fields().iter().filter(|field| !known(field.name()));
                let fields = fields.filter(is_typed);
                let columns = fields.map(|field| {
                    let kind = kind_of(field).ok_or_else(|| {
                        self.broken(format!("column `{}` is {}", field.name(), field.data_type()))
                    })?;
                    Ok(Column::new(field.name(), kind))
                });
                columns.collect()
            }
            Format::Jsonl(compression) => {
                let names = self.first_row(compression)?.into_iter().map(|(name, _)| name);
                let others = names.filter(|name| !known(name));
                Ok(others.map(|name| Column::new(name, ColumnType::Json)).collect())
            }
        }
    }

    /// Its rows, without those that are marked as deleted.
    pub(super) fn count(&self, format: Format) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct Row<'line> {
            #[serde(borrow, default, rename = "_weir_deleted_at")]
            deleted: Option<&'line RawValue>,
        }
        let mut count = 0;
        match format {
            Format::Parquet => {
                for batch in self.parquet_rows()? {
                    let batch = batch.map_err(|error| self.broken(error))?;
                    let deleted = batch.column_by_name(DELETED_AT);
                    let deleted = deleted.map_or(0, |one| one.len() - one.null_count());
                    count += batch.num_rows() - deleted;
                }
            }
            Format::Jsonl(compression) => {
                for line in self.lines(compression)?.lines() {
                    let line = line.map_err(|error| self.broken(error))?;
                    if line.trim().is_empty() {
                        continue;
                    }
                    let row: Row<'_> =
                        serde_json::from_str(&line).map_err(|error| self.broken(error))?;
                    count += usize::from(row.deleted.is_none_or(|one| one.get() == "null"));
                }
            }
        }
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Its rows, without a look at them: as the file's end tells, or its lines.
    pub(super) fn rows(&self, format: Format) -> Result<u64> {
        let Format::Jsonl(compression) = format else {
            let rows = match self {
                Self::Local(path) => ParquetRecordBatchReaderBuilder::try_new(file(path)?)
                    .map(|builder| builder.metadata().file_metadata().num_rows()),
                Self::Bytes { bytes, .. } => {
                    ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
                        .map(|builder| builder.metadata().file_metadata().num_rows())
                }
            };
            return Ok(u64::try_from(rows.map_err(|error| self.broken(error))?).unwrap_or(0));
        };
        let (mut text, mut count, mut in_row) = (self.lines(compression)?, 0, false);
        loop {
            let piece = text.fill_buf().map_err(|error| self.broken(error))?;
            if piece.is_empty() {
                return Ok(count + u64::from(in_row));
            }
            for byte in piece {
                if *byte == b'\n' {
                    count += u64::from(in_row);
                    in_row = false;
                } else {
                    in_row |= !byte.is_ascii_whitespace();
                }
            }
            let length = piece.len();
            text.consume(length);
        }
    }

    /// The names of the file's columns; `None` when it has no rows to tell them.
    pub(super) fn names(&self, format: Format) -> Result<Option<Vec<String>>> {
        let names: Vec<String> = match format {
            Format::Parquet => {
                self.parquet()?.fields().iter().map(|field| field.name().clone()).collect()
            }
            Format::Jsonl(compression) => {
                self.first_row(compression)?.into_iter().map(|(name, _)| name).collect()
            }
        };
        Ok((!names.is_empty()).then_some(names))
    }

    /// The rows of the file, batch by batch, in these columns.
    ///
    /// # Errors
    /// A column of the file is of a type that cannot become the table's.
    pub(super) fn read(&self, format: Format, schema: &TableSchema) -> Result<OldRows> {
        let source = match format {
            Format::Parquet => {
                self.check_types(schema)?;
                Source::Parquet(self.parquet_rows()?)
            }
            Format::Jsonl(compression) => Source::Jsonl(self.lines(compression)?),
        };
        let foreign = format == Format::Parquet && self.is_foreign()?;
        let arrow = schema.arrow();
        Ok(OldRows { file: self.clone(), schema: schema.clone(), arrow, foreign, source })
    }

    fn check_types(&self, schema: &TableSchema) -> Result<()> {
        for field in self.parquet()?.fields() {
            let Some(at) = schema.position(field.name()) else { continue };
            if *field.data_type() == DataType::Null {
                continue;
            }
            let Some(column) = schema.columns.get(at) else { continue };
            let wanted = column.kind;
            let shown = match kind_of(field) {
                Some(kind) if kind == wanted || kind.widens_to(wanted) => continue,
                Some(kind) => kind.to_string(),
                None => field.data_type().to_string(),
            };
            return Err(self.unfit(&column.name, &format!("`{shown}`"), wanted));
        }
        Ok(())
    }

    /// The error of old values that the table's column cannot take.
    fn unfit(&self, column: &str, found: &str, wanted: ColumnType) -> Error {
        let shown = self.shown();
        Error::target(format!("column `{column}` of `{shown}` is {found}, the stream's is `{wanted}`"))
            .with_hint(format!(
                "name another type under `columns: {{ {column}: … }}` in the replication, move the file \
                 away, or load it anew with the mode full-refresh"
            ))
    }

    fn parquet(&self) -> Result<SchemaRef> {
        let schema = match self {
            Self::Local(path) => ParquetRecordBatchReaderBuilder::try_new(file(path)?)
                .map(|builder| Arc::clone(builder.schema())),
            Self::Bytes { bytes, .. } => ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
                .map(|builder| Arc::clone(builder.schema())),
        };
        schema.map_err(|error| self.broken(error))
    }

    /// Whether another program has written the Parquet file.
    fn is_foreign(&self) -> Result<bool> {
        let by = |metadata: &ParquetMetaData| {
            let by = metadata.file_metadata().created_by().unwrap_or_default();
            !by.starts_with("parquet-rs")
        };
        let foreign = match self {
            Self::Local(path) => ParquetRecordBatchReaderBuilder::try_new(file(path)?)
                .map(|builder| by(builder.metadata())),
            Self::Bytes { bytes, .. } => ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
                .map(|builder| by(builder.metadata())),
        };
        foreign.map_err(|error| self.broken(error))
    }

    fn parquet_rows(&self) -> Result<ParquetRecordBatchReader> {
        let reader = match self {
            Self::Local(path) => ParquetRecordBatchReaderBuilder::try_new(file(path)?)
                .and_then(ParquetRecordBatchReaderBuilder::build),
            Self::Bytes { bytes, .. } => ParquetRecordBatchReaderBuilder::try_new(bytes.clone())
                .and_then(ParquetRecordBatchReaderBuilder::build),
        };
        reader.map_err(|error| self.broken(error))
    }

    fn lines(&self, compression: Compression) -> Result<Box<dyn BufRead + Send>> {
        let bytes = self.open()?;
        Ok(match compression {
            Compression::Plain => Box::new(BufReader::new(bytes)),
            Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(bytes))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(bytes);
                Box::new(BufReader::new(decoder.map_err(|error| self.broken(error))?))
            }
        })
    }

    /// The fields of the first line.
    fn first_row(&self, compression: Compression) -> Result<Vec<(String, Box<RawValue>)>> {
        let mut line = String::new();
        let read = self.lines(compression)?.read_line(&mut line);
        read.map_err(|error| self.broken(error))?;
        self.row(&line)
    }

    /// The fields of a line; nothing for an empty one.
    fn row(&self, line: &str) -> Result<Vec<(String, Box<RawValue>)>> {
        if line.trim().is_empty() {
            return Ok(Vec::new());
        }
        let fields: indexmap::IndexMap<String, Box<RawValue>> =
            serde_json::from_str(line).map_err(|error| self.broken(error))?;
        Ok(fields.into_iter().collect())
    }
}

fn file(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| local::failed("read", path, &error))
}

/// The type of a column that weir has written, or another program from what weir had written.
fn kind_of(field: &Field) -> Option<ColumnType> {
    let json = field.metadata().values().any(|name| name == "arrow.json");
    match foreign::kind_of(field.data_type()) {
        Some(ColumnType::Text) if json => Some(ColumnType::Json),
        kind => kind,
    }
}

/// Texts as JSON: those that are JSON as they are, the others as JSON strings.
fn json_again(array: &ArrayRef) -> Vec<Option<String>> {
    let again = |text: &str| match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => text.to_owned(),
        Err(_) => serde_json::Value::from(text).to_string(),
    };
    array.as_string::<i32>().iter().map(|text| text.map(again)).collect()
}

enum Source {
    Parquet(ParquetRecordBatchReader),
    Jsonl(Box<dyn BufRead + Send>),
}

/// The rows of one file.
pub(super) struct OldRows {
    file: OldFile,
    schema: TableSchema,
    arrow: SchemaRef,
    /// Whether another program has written the file.
    foreign: bool,
    source: Source,
}

impl OldRows {
    /// The next batch; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        match &mut self.source {
            Source::Parquet(reader) => match reader.next() {
                None => Ok(None),
                Some(batch) => {
                    let batch = batch.map_err(|error| self.file.broken(error))?;
                    self.fitted(&batch).map(Some)
                }
            },
            Source::Jsonl(lines) => {
                let mut rows = Vec::new();
                let mut line = String::new();
                while rows.len() < LINES {
                    line.clear();
                    if lines.read_line(&mut line).map_err(|error| self.file.broken(error))? == 0 {
                        break;
                    }
                    let fields = self.file.row(&line)?;
                    if !fields.is_empty() {
                        rows.push(fields.into_iter().collect::<indexmap::IndexMap<_, _>>());
                    }
                }
                if rows.is_empty() {
                    return Ok(None);
                }
                let names = rows.iter().flat_map(indexmap::IndexMap::keys);
                self.refuse_unknown(names.map(String::as_str))?;
                let columns = self.schema.columns.iter().map(|column| {
                    let values: Vec<Option<&str>> = rows
                        .iter()
                        .map(|row| {
                            row.get(&column.name).map(|raw| raw.get()).filter(|raw| *raw != "null")
                        })
                        .collect();
                    self.decoded(column, &values)
                });
                let columns = columns.collect::<Result<Vec<_>>>()?;
                let batch = RecordBatch::try_new(Arc::clone(&self.arrow), columns);
                batch.map(Some).map_err(|error| self.file.broken(error))
            }
        }
    }

    /// JSON texts as a column; a value that does not fit is no value that weir wrote.
    fn decoded(&self, column: &Column, values: &[Option<&str>]) -> Result<ArrayRef> {
        // Wider types take what was written in a narrower one.
        let texts: Vec<Option<String>> = values
            .iter()
            .map(|value| {
                value.map(|raw| match column.kind {
                    ColumnType::Text if !raw.starts_with('"') => {
                        serde_json::Value::from(raw).to_string()
                    }
                    _ => raw.to_owned(),
                })
            })
            .collect();
        let array = decode::array(column.kind, texts.iter().map(Option::as_deref));
        // A date is read from a timestamp too, but would lose its time.
        let is_longer = |text: &&String| column.kind == ColumnType::Date && text.len() > DATE;
        let lost = texts.iter().enumerate().find_map(|(row, text)| {
            text.as_ref().filter(|text| array.is_null(row) || is_longer(text))
        });
        match lost {
            None => Ok(array),
            Some(text) => {
                let shown: String = text.chars().take(40).collect();
                Err(self.file.unfit(&column.name, &format!("`{shown}` in a row"), column.kind))
            }
        }
    }

    /// A column that the first file did not have would be lost.
    fn refuse_unknown<'name>(&self, mut names: impl Iterator<Item = &'name str>) -> Result<()> {
        match names.find(|name| self.schema.position(name).is_none()) {
            None => Ok(()),
            Some(name) => {
                Err(self.file.broken(format!("column `{name}` is in some of the rows only")))
            }
        }
    }

    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let typed = schema.fields().iter().filter(|field| *field.data_type() != DataType::Null);
        self.refuse_unknown(typed.map(|field| field.name().as_str()))?;
        let columns = self.schema.columns.iter().map(|column| {
            let Some((at, field)) = schema.column_with_name(&column.name) else {
                return Ok(new_null_array(&column.kind.arrow(), batch.num_rows()));
            };
            if *field.data_type() == DataType::Null {
                return Ok(new_null_array(&column.kind.arrow(), batch.num_rows()));
            }
            let array = foreign::own(batch.column(at))
                .map_err(|why| self.file.broken(format!("column `{}`: {why}", column.name)))?;
            // Text and JSON are of one Arrow type.
            let kind = kind_of(field);
            if kind == Some(column.kind) {
                return Ok(array);
            }
            let field = field.clone().with_data_type(array.data_type().clone());
            // Other programs forget which texts are JSON.
            let is_lost =
                self.foreign && (kind, column.kind) == (Some(ColumnType::Text), ColumnType::Json);
            let texts = if is_lost { json_again(&array) } else { json::texts(&field, &array)? };
            let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
            self.decoded(column, &texts)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.arrow), columns)
            .map_err(|error| self.file.broken(error))
    }
}
