//! Batches to the bytes of a Parquet or JSONL file. Knows nothing of where the bytes go.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use flate2::write::GzEncoder;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression as ParquetCompression, ZstdLevel},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
};

use super::{
    budget::{Budget, Share},
    json,
    object::{Compression, Format},
    options::Settings,
};
use crate::error::{Error, Result};
use crate::schema::TableSchema;

/// What every part of a table has in common.
#[derive(Debug)]
pub(super) struct Plan {
    format: Format,
    schema: SchemaRef,
    properties: WriterProperties,
    settings: Settings,
    budget: Arc<Budget>,
}

impl Plan {
    pub(super) fn new(
        table: &TableSchema,
        format: Format,
        settings: Settings,
        budget: Arc<Budget>,
    ) -> Result<Self> {
        let level = ZstdLevel::try_new(settings.zstd_level).map_err(|error| broken(&error))?;
        // Page statistics and offsets would grow with the rows and are of little use in files of
        // an extract; those of row groups stay.
        let properties = WriterProperties::builder()
            .set_compression(ParquetCompression::ZSTD(level))
            .set_max_row_group_row_count(Some(settings.row_group_rows))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        Ok(Self { format, schema: with_required_key(table), properties, settings, budget })
    }

    /// An encoder for one more part.
    pub(super) fn encoder(&self) -> Result<Encoder> {
        match self.format {
            Format::Parquet => self.parquet(),
            Format::Jsonl(compression) => {
                let output = Output::new(compression, self.settings.zstd_level);
                let output = output.map_err(|error| broken(&error))?;
                let names = json::names(&self.schema);
                Ok(Encoder::Jsonl(Jsonl { names, lines: Vec::new(), output }))
            }
        }
    }

    fn parquet(&self) -> Result<Encoder> {
        let (schema, properties) = (Arc::clone(&self.schema), self.properties.clone());
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))
            .map_err(|error| broken(&error))?;
        let share = Share::new(Arc::clone(&self.budget));
        let group_bytes = self.settings.row_group_bytes;
        Ok(Encoder::Parquet(Box::new(Parquet { schema, writer, group_bytes, share })))
    }
}

/// Key columns hold no null in any row, and Parquet can say so.
fn with_required_key(table: &TableSchema) -> SchemaRef {
    let arrow = table.arrow();
    let fields = arrow.fields().iter().map(|field| {
        let nullable = !table.key.contains(field.name());
        field.as_ref().clone().with_nullable(nullable)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Encoder of one part.
pub(super) enum Encoder {
    Parquet(Box<Parquet>),
    Jsonl(Jsonl),
}

pub(super) struct Parquet {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    group_bytes: usize,
    share: Share,
}

pub(super) struct Jsonl {
    names: Vec<Vec<u8>>,
    /// The lines of one piece, before compression.
    lines: Vec<u8>,
    output: Output,
}

impl Encoder {
    /// Encodes rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(parquet) => parquet.write(batch),
            Self::Jsonl(jsonl) => jsonl.write(batch),
        }
    }

    /// Encoded bytes that can be taken.
    pub(super) fn ready(&self) -> usize {
        match self {
            Self::Parquet(parquet) => parquet.writer.inner().len(),
            Self::Jsonl(jsonl) => jsonl.output.get_ref().len(),
        }
    }

    /// Encoded bytes not yet taken, with an estimate of those of the open row group.
    pub(super) fn pending(&self) -> usize {
        let open = match self {
            Self::Parquet(parquet) => parquet.writer.in_progress_size(),
            Self::Jsonl(_) => 0,
        };
        self.ready() + open
    }

    /// Takes the encoded bytes.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Parquet(parquet) => parquet.writer.inner_mut(),
            Self::Jsonl(jsonl) => jsonl.output.get_mut(),
        })
    }

    /// Ends the file and returns its last bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(parquet) => parquet.writer.into_inner().map_err(|error| broken(&error)),
            Self::Jsonl(jsonl) => jsonl.output.finish().map_err(|error| broken(&error)),
        }
    }
}

impl Parquet {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec());
        let batch = batch.map_err(|error| {
            Error::target("the rows do not fit the table's columns")
                .because(error.to_string())
                .with_hint("a key column must not be null; check the stream's `key`")
        })?;
        self.put(&batch).map_err(|error| broken(&error))
    }

    fn put(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.writer.write(batch)?;
        self.share.set(self.writer.memory_size());
        if self.writer.in_progress_size() >= self.group_bytes || self.share.is_over() {
            // A buffer that doubled as it grew would take twice the row group.
            let size = self.writer.in_progress_size();
            self.writer.inner_mut().reserve_exact(size);
            self.writer.flush()?;
            self.writer.sync()?;
            self.share.set(self.writer.memory_size());
        }
        Ok(())
    }
}

impl Jsonl {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.output {
            Output::Plain(bytes) => json::encode(batch, &self.names, bytes),
            output => {
                self.lines.clear();
                json::encode(batch, &self.names, &mut self.lines)?;
                output.write_all(&self.lines).map_err(|error| broken(&error))
            }
        }
    }
}

/// Bytes, compressed on their way.
enum Output {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Output {
    fn new(compression: Compression, level: i32) -> io::Result<Self> {
        Ok(match compression {
            Compression::Plain => Self::Plain(Vec::new()),
            Compression::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            Compression::Zstd => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(Vec::new(), level)?))
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn get_ref(&self) -> &Vec<u8> {
        match self {
            Self::Plain(output) => output,
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    fn get_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(output) => output,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

fn broken(error: &dyn std::error::Error) -> Error {
    Error::target("cannot encode the rows").because(error.to_string())
}
