//! JSONL: one JSON object per line, plain or compressed.

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use indexmap::IndexMap;
use serde_json::value::RawValue;

use crate::error::Result;
use crate::schema::{Column, ColumnType, TableSchema};
use crate::write::formats::codec::{Codec, Encoder, Encoding, RowReader, cannot_encode};
use crate::write::formats::compression::{Compressor, decompressed};
use crate::write::formats::existing::ExistingFile;
use crate::write::formats::fit::{decoded, refuse_unknown};
use crate::write::formats::format::Compression;
use crate::write::formats::json_text;

/// Lines that make a batch.
const LINES: usize = 1024;

/// The format.
#[derive(Debug)]
pub(crate) struct Jsonl(pub(crate) Compression);

/// The fields of one line, in their order.
type LineFields = IndexMap<String, Box<RawValue>>;

impl Codec for Jsonl {
    fn encoder(&self, encoding: &Encoding) -> Result<Box<dyn Encoder>> {
        let output = Compressor::new(self.0, encoding.settings.zstd_level);
        let output = output.map_err(|error| cannot_encode(&error))?;
        let names = json_text::names(&encoding.schema);
        Ok(Box::new(JsonlEncoder { names, lines: Vec::new(), output }))
    }

    fn other_columns(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Vec<Column>> {
        let names = self.first_row(file)?.into_keys();
        let others = names.filter(|name| schema.position(name).is_none());
        Ok(others.map(|name| Column::new(name, ColumnType::Json)).collect())
    }

    fn column_names(&self, file: &ExistingFile) -> Result<Option<Vec<String>>> {
        let names: Vec<String> = self.first_row(file)?.into_keys().collect();
        Ok((!names.is_empty()).then_some(names))
    }

    fn count_live(&self, file: &ExistingFile) -> Result<u64> {
        #[derive(serde::Deserialize)]
        struct DeletedField<'line> {
            #[serde(borrow, default, rename = "_weir_deleted_at")]
            deleted: Option<&'line RawValue>,
        }
        let mut count = 0;
        for line in self.lines(file)?.lines() {
            let line = line.map_err(|error| file.unreadable(error))?;
            if line.trim().is_empty() {
                continue;
            }
            let row: DeletedField<'_> =
                serde_json::from_str(&line).map_err(|error| file.unreadable(error))?;
            count += u64::from(row.deleted.is_none_or(|time| time.get() == "null"));
        }
        Ok(count)
    }

    fn count(&self, file: &ExistingFile) -> Result<u64> {
        let lines = self.lines(file)?;
        count_lines(lines).map_err(|error| file.unreadable(error))
    }

    fn read(&self, file: &ExistingFile, schema: &TableSchema) -> Result<Box<dyn RowReader>> {
        Ok(Box::new(JsonlReader {
            file: file.clone(),
            schema: schema.clone(),
            arrow: schema.arrow(),
            lines: self.lines(file)?,
        }))
    }
}

impl Jsonl {
    fn lines(&self, file: &ExistingFile) -> Result<Box<dyn BufRead + Send>> {
        decompressed(self.0, file.open()?).map_err(|error| file.unreadable(error))
    }

    fn first_row(&self, file: &ExistingFile) -> Result<LineFields> {
        let mut line = String::new();
        let read = self.lines(file)?.read_line(&mut line);
        read.map_err(|error| file.unreadable(error))?;
        fields(file, &line)
    }
}

/// The fields of a line; none for an empty line.
fn fields(file: &ExistingFile, line: &str) -> Result<LineFields> {
    if line.trim().is_empty() {
        return Ok(LineFields::new());
    }
    serde_json::from_str(line).map_err(|error| file.unreadable(error))
}

/// Number of lines that are not blank; the last one may lack its line break.
fn count_lines(mut text: impl BufRead) -> io::Result<u64> {
    let (mut count, mut in_row) = (0, false);
    loop {
        let piece = text.fill_buf()?;
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

struct JsonlEncoder {
    /// What is written before each value of a row.
    names: Vec<Vec<u8>>,
    /// The lines of one batch, before compression.
    lines: Vec<u8>,
    output: Compressor,
}

impl Encoder for JsonlEncoder {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.output {
            Compressor::Plain(bytes) => json_text::encode(batch, &self.names, bytes),
            output => {
                self.lines.clear();
                json_text::encode(batch, &self.names, &mut self.lines)?;
                output.write_all(&self.lines).map_err(|error| cannot_encode(&error))
            }
        }
    }

    fn ready(&self) -> usize {
        self.output.get_ref().len()
    }

    fn pending(&self) -> usize {
        self.ready()
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.output.get_mut())
    }

    fn finish(self: Box<Self>) -> Result<Vec<u8>> {
        self.output.finish().map_err(|error| cannot_encode(&error))
    }
}

struct JsonlReader {
    file: ExistingFile,
    schema: TableSchema,
    arrow: SchemaRef,
    lines: Box<dyn BufRead + Send>,
}

impl RowReader for JsonlReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut rows = Vec::new();
        let mut line = String::new();
        while rows.len() < LINES {
            line.clear();
            if self.lines.read_line(&mut line).map_err(|error| self.file.unreadable(error))? == 0 {
                break;
            }
            let fields = fields(&self.file, &line)?;
            if !fields.is_empty() {
                rows.push(fields);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let names = rows.iter().flat_map(IndexMap::keys);
        refuse_unknown(&self.file, &self.schema, names.map(String::as_str))?;
        let columns = self.schema.columns.iter().map(|column| {
            let values = rows.iter().map(|row| row.get(&column.name).map(|raw| raw.get()));
            let values: Vec<Option<&str>> =
                values.map(|value| value.filter(|raw| *raw != "null")).collect();
            decoded(&self.file, column, &values)
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.arrow), columns);
        batch.map(Some).map_err(|error| self.file.unreadable(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_no_rows_and_the_last_line_may_be_open() {
        let cases = [("", 0), ("{}", 1), ("{}\n", 1), ("\n \n{}\r\n\n", 1), ("{}\n{}\n{}", 3)];
        for (text, rows) in cases {
            assert_eq!(count_lines(text.as_bytes()).unwrap(), rows, "{text:?}");
        }
    }
}
