//! Target that keeps its tables in memory, for tests.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow_array::{
    Array, BooleanArray, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;
use arrow_select::filter::filter_record_batch;
use async_trait::async_trait;

use super::{Committed, Disposition, Table, Target, Writer};
use crate::error::{Error, Result};

type Tables = Arc<Mutex<HashMap<String, Vec<RecordBatch>>>>;

/// Keeps the batches of every committed table. Unbounded: it is for tests.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    tables: Tables,
}

impl Memory {
    /// An empty target; its clones share their tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The batches of a table in the order they were written; `None` if it was never committed.
    pub fn batches(&self, object: &str) -> Option<Vec<RecordBatch>> {
        locked(&self.tables).get(object).cloned()
    }

    /// The names of all tables, sorted.
    pub fn objects(&self) -> Vec<String> {
        let mut objects: Vec<String> = locked(&self.tables).keys().cloned().collect();
        objects.sort_unstable();
        objects
    }
}

#[async_trait]
impl Target for Memory {
    fn accepts(&self, _: &Table) -> Result<()> {
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&self, table: &Table) -> Result<Box<dyn Writer>> {
        if table.disposition == Disposition::Merge && table.schema.key.is_empty() {
            let what = format!("stream `{}` has no key to merge its rows by", table.stream);
            return Err(Error::input(what));
        }
        let (table, tables) = (table.clone(), Arc::clone(&self.tables));
        Ok(Box::new(MemoryWriter { table, tables, batches: Vec::new() }))
    }
}

struct MemoryWriter {
    table: Table,
    tables: Tables,
    batches: Vec<RecordBatch>,
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.batches.push(batch);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<Committed> {
        let Self { table, tables, mut batches } = *self;
        let rows = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut tables = locked(&tables);
        let old = tables.entry(table.object.clone()).or_default();
        match table.disposition {
            Disposition::Replace | Disposition::Truncate => *old = batches,
            Disposition::Append => old.append(&mut batches),
            Disposition::Merge => {
                old.append(&mut batches);
                keep_last(old, &table.schema.key)?;
            }
        }
        Ok(Committed { object: table.object, rows })
    }
}

/// Keeps the last of the rows with one key.
fn keep_last(batches: &mut Vec<RecordBatch>, key: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    for batch in batches.iter_mut().rev() {
        let mut keeps = Vec::with_capacity(batch.num_rows());
        for row in (0..batch.num_rows()).rev() {
            keeps.push(seen.insert(key_of(batch, key, row)));
        }
        keeps.reverse();
        *batch = filter_record_batch(batch, &BooleanArray::from(keeps))
            .map_err(|error| Error::target("rows cannot be merged").because(error))?;
    }
    batches.retain(|batch| batch.num_rows() > 0);
    Ok(())
}

fn key_of(batch: &RecordBatch, key: &[String], row: usize) -> Vec<Option<Vec<u8>>> {
    key.iter().map(|name| cell(batch.column_by_name(name)?.as_ref(), row)).collect()
}

fn cell(array: &dyn Array, row: usize) -> Option<Vec<u8>> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes().to_vec(),
        DataType::Binary => array.as_binary::<i32>().value(row).to_vec(),
        DataType::Boolean => vec![u8::from(array.as_boolean().value(row))],
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_be_bytes().to_vec(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_be_bytes().to_vec(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(row).to_be_bytes().to_vec(),
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().value(row).to_be_bytes().to_vec()
        }
        DataType::Timestamp(..) => {
            array.as_primitive::<TimestampMicrosecondType>().value(row).to_be_bytes().to_vec()
        }
        _ => return None,
    })
}

fn locked(
    tables: &Mutex<HashMap<String, Vec<RecordBatch>>>,
) -> MutexGuard<'_, HashMap<String, Vec<RecordBatch>>> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}
