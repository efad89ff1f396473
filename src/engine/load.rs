//! Batches to a writer, in a task of their own, so that the target works while pages arrive.

use std::sync::Arc;

use arrow_array::{BooleanArray, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::error::{Error, Kind, Result};
use crate::write::Writer;

/// Batches that may wait for the writer.
const WAITING: usize = 1;
/// Batches, and bytes of memory, at which small batches are handed over as one. A batch of a few rows
/// takes far more memory than its values.
const BATCHES: usize = 64;
const BYTES: usize = 1 << 20;

/// Takes batches for one table.
pub(super) struct Loader {
    batches: mpsc::Sender<RecordBatch>,
    task: JoinHandle<Result<Box<dyn Writer>>>,
}

impl Loader {
    /// Starts the task that feeds a writer.
    pub(super) fn start(writer: Box<dyn Writer>, schema: SchemaRef) -> Self {
        let (batches, waiting) = mpsc::channel(WAITING);
        Self { batches, task: tokio::spawn(load(writer, schema, waiting)) }
    }

    /// The way in for batches; once the task has failed, sending fails too.
    pub(super) fn batches(&self) -> mpsc::Sender<RecordBatch> {
        self.batches.clone()
    }

    /// Waits until all batches are written, and gives the writer back for its commit.
    pub(super) async fn finish(self) -> Result<Box<dyn Writer>> {
        drop(self.batches);
        let panicked = |error| Error::target("the writer broke").because(error);
        self.task.await.map_err(panicked)?
    }
}

async fn load(
    mut writer: Box<dyn Writer>,
    schema: SchemaRef,
    mut waiting: mpsc::Receiver<RecordBatch>,
) -> Result<Box<dyn Writer>> {
    let mut pending: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    while let Some(batch) = waiting.recv().await {
        bytes += batch.get_array_memory_size();
        pending.push(staged(&schema, &batch)?);
        if pending.len() >= BATCHES || bytes >= BYTES {
            writer.write(merged(&schema, &mut pending)?).await?;
            bytes = 0;
        }
    }
    if !pending.is_empty() {
        writer.write(merged(&schema, &mut pending)?).await?;
    }
    Ok(writer)
}

fn merged(schema: &SchemaRef, pending: &mut Vec<RecordBatch>) -> Result<RecordBatch> {
    let batches = std::mem::take(pending);
    if let [_] = batches.as_slice() {
        return batches.into_iter().next().ok_or_else(|| Error::target("there is no batch"));
    }
    concat_batches(&Arc::clone(schema), &batches)
        .map_err(|error| Error::new(Kind::Shape, "batches do not fit together").because(error))
}

/// A batch with the columns of its staging.
fn staged(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_value(0, batch.num_rows())));
    columns.push(Arc::new(BooleanArray::new_null(batch.num_rows())));
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error| Error::new(Kind::Shape, "rows cannot be staged").because(error))
}
