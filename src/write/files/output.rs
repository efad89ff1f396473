//! Batches through an encoder into a sink, part by part.

use arrow_array::RecordBatch;

use crate::error::Result;
use crate::write::files::sink::Sink;
use crate::write::formats::codec::{Codec, Encoder, Encoding};

/// Bytes of memory of a piece of a batch; the sizes of parts are checked after each piece.
const PIECE: usize = 256 * 1024;
/// Encoded bytes that the sink gets at once.
const CHUNK: usize = 256 * 1024;

/// The new content of an object, while it is encoded.
pub(crate) struct EncodedOutput {
    codec: &'static dyn Codec,
    encoding: Encoding,
    encoder: Box<dyn Encoder>,
    sink: Box<dyn Sink>,
    /// Size at which a part is ended, in bytes; unlimited when `None`.
    limit: Option<u64>,
    /// Bytes of the current part that the sink has.
    sent: u64,
    rows: u64,
}

impl EncodedOutput {
    /// `limit` is the size at which a part is ended, in bytes.
    pub(crate) fn new(
        codec: &'static dyn Codec,
        encoding: Encoding,
        sink: Box<dyn Sink>,
        limit: Option<u64>,
    ) -> Result<Self> {
        let encoder = codec.encoder(&encoding)?;
        Ok(Self { codec, encoding, encoder, sink, limit, sent: 0, rows: 0 })
    }

    /// Number of rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let step = rows_per_piece(batch);
        for start in (0..rows).step_by(step) {
            self.piece(&batch.slice(start, step.min(rows - start))).await?;
            // Encoding is work for the CPU: give other tasks a turn.
            tokio::task::yield_now().await;
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Makes all rows visible; the path that messages show.
    pub(crate) async fn publish(self) -> Result<String> {
        let Self { encoder, mut sink, rows, .. } = self;
        sink.append(encoder.finish()?).await?;
        sink.publish(rows).await
    }

    async fn piece(&mut self, piece: &RecordBatch) -> Result<()> {
        let size = self.sent + self.encoder.pending() as u64;
        if self.limit.is_some_and(|limit| size >= limit) {
            let next = self.codec.encoder(&self.encoding)?;
            let bytes = std::mem::replace(&mut self.encoder, next).finish()?;
            self.sink.append(bytes).await?;
            self.sink.end_part().await?;
            self.sent = 0;
        }
        self.encoder.write(piece)?;
        if self.encoder.ready() >= CHUNK {
            let bytes = self.encoder.take();
            self.sent += bytes.len() as u64;
            self.sink.append(bytes).await?;
        }
        Ok(())
    }
}

fn rows_per_piece(batch: &RecordBatch) -> usize {
    let row = batch.get_array_memory_size() / batch.num_rows().max(1);
    (PIECE / row.max(1)).clamp(1, 8192)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use arrow_array::{BinaryArray, Int64Array};
    use arrow_schema::{DataType, Field, Schema};

    #[test]
    fn a_piece_has_a_bounded_size_and_at_least_one_row() {
        let small = Arc::new(Int64Array::from(vec![1; 100_000]));
        let schema = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
        let small = RecordBatch::try_new(Arc::new(schema), vec![small]).unwrap();
        assert_eq!(rows_per_piece(&small), 8192);
        let value = vec![0_u8; PIECE * 2];
        let large = Arc::new(BinaryArray::from(vec![value.as_slice(); 2]));
        let schema = Schema::new(vec![Field::new("a", DataType::Binary, false)]);
        let large = RecordBatch::try_new(Arc::new(schema), vec![large]).unwrap();
        assert_eq!(rows_per_piece(&large), 1);
    }
}
