//! Batches through an encoder into a sink, part by part.

use arrow_array::RecordBatch;

use super::{
    Sink,
    encode::{Encoder, Plan},
};
use crate::error::Result;

/// Bytes of memory that a piece of a batch takes; limits are looked at after each piece.
const PIECE: usize = 256 * 1024;
/// Encoded bytes that are handed to the sink at once.
const CHUNK: usize = 256 * 1024;

/// The new object of a table.
pub(super) struct Out {
    plan: Plan,
    encoder: Encoder,
    sink: Box<dyn Sink>,
    /// Size at which a part is ended, in bytes.
    limit: Option<u64>,
    /// Bytes of the part that the sink has.
    sent: u64,
    rows: u64,
}

impl Out {
    pub(super) fn new(plan: Plan, sink: Box<dyn Sink>, limit: Option<u64>) -> Result<Self> {
        Ok(Self { encoder: plan.encoder()?, plan, sink, limit, sent: 0, rows: 0 })
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let step = rows_per_piece(batch);
        for start in (0..rows).step_by(step) {
            self.piece(&batch.slice(start, step.min(rows - start))).await?;
            // Encoding is work for the CPU: let other tasks have their turn.
            tokio::task::yield_now().await;
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Makes all rows visible; the path for a person.
    pub(super) async fn publish(self) -> Result<String> {
        let Self { encoder, mut sink, rows, .. } = self;
        sink.append(encoder.finish()?).await?;
        sink.publish(rows).await
    }

    async fn piece(&mut self, piece: &RecordBatch) -> Result<()> {
        let size = self.sent + self.encoder.pending() as u64;
        if self.limit.is_some_and(|limit| size >= limit) {
            let next = self.plan.encoder()?;
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
