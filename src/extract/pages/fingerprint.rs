//! Fingerprints of records: hashes by which a later run recognises a record that has not changed.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::extract::messages::SeenRecord;
use crate::plan::{FingerprintPlan, Output};
use crate::progress::item::QueueItem;
use crate::progress::row_keys::{hash_rows, with_text};

/// Name of the temporary column with fingerprints.
const FINGERPRINT: &str = "fingerprint";

/// A record's id and fingerprint; `None` if the record has no version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Fingerprint(pub(crate) String, pub(crate) Option<i64>);

impl Fingerprint {
    /// The record to save, and whether its row in the target stays.
    pub(crate) fn seen(self, stays: bool) -> SeenRecord {
        SeenRecord { item: self.item(), stays, whole: true }
    }

    pub(crate) fn item(self) -> QueueItem {
        QueueItem { value: self.0.into(), stamp: self.1, carried: "".into() }
    }
}

/// Adds a column with fingerprints to a page's rows.
pub(crate) fn add_fingerprints(
    batch: &RecordBatch,
    plan: &FingerprintPlan,
    page: &Page,
) -> Result<RecordBatch> {
    let versions = page.taps.get(plan.version);
    let version = |row| versions.filter(|all| all.is_valid(row)).map(|all| all.value(row));
    let hashes = hash_rows(batch, &plan.columns).into_iter().enumerate();
    let fingerprints: Int64Array = hashes
        .map(|(row, hash)| {
            // Together with the id, half of the hash is enough.
            Some((with_text(hash, version(row)?) >> 64) as i64)
        })
        .collect();
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(FINGERPRINT, DataType::Int64, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(fingerprints));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)
}

/// Removes that column. Returns the fingerprints with the ids of the rows.
pub(crate) fn take_fingerprints(
    mut batch: RecordBatch,
    output: &Output,
) -> Result<(RecordBatch, Vec<Fingerprint>)> {
    let fingerprints = batch.remove_column(batch.num_columns().saturating_sub(1));
    let fingerprints = fingerprints.as_primitive::<Int64Type>().iter();
    let fingerprints =
        ids(&batch, output)?.into_iter().zip(fingerprints).map(|(id, hash)| Fingerprint(id, hash));
    let fingerprints = fingerprints.collect();
    // The batch has the table's schema again.
    let batch = RecordBatch::try_new(output.table.schema.arrow(), batch.columns().to_vec());
    Ok((batch.map_err(broken)?, fingerprints))
}

/// The ids of rows. The key must not contain nulls.
pub(crate) fn ids(batch: &RecordBatch, output: &Output) -> Result<Vec<String>> {
    let column: Option<&ArrayRef> = output.key.first().map(|position| batch.column(*position));
    match column {
        Some(column) if column.data_type() == &DataType::Utf8 => {
            Ok(column.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
        }
        Some(column) if column.data_type() == &DataType::Int64 => {
            Ok(column.as_primitive::<Int64Type>().values().iter().map(i64::to_string).collect())
        }
        _ => Err(Error::new(Kind::Shape, "fingerprints need a key of type text or int")),
    }
}

pub(crate) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::new(Kind::Shape, "fingerprints cannot be computed").because(error)
}
