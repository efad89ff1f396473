//! A target in memory, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;
use async_trait::async_trait;

use crate::error::{Error, Kind, Result};
use crate::schema::{CHANGE, DELETED_AT, MARK, SLICE};
use crate::state::{Change, Entries, Holder, Lock, Store};
use crate::write::duplicate_keys::{
    DuplicateKeys, Example, Loss, LossKind, MAX_SHOWN, check_strict, versions,
};
use crate::write::leftovers::Leftovers;
use crate::write::owner::{ExistingTable, Owner};
use crate::write::slice_number::Apart;
use crate::write::table::{Deletes, Disposition, Table};
use crate::write::target::{CommitInfo, Committed, Target, Watch, Writer};

/// The values of a row's key.
type RowKey = Vec<Option<Vec<u8>>>;

/// Keeps the rows of every committed table, staged rows, and states. Its memory is unbounded: it is for tests.
/// Clones share everything, so that a new run finds what a killed run left.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Committed rows by object, each row a batch.
    tables: HashMap<String, Vec<RecordBatch>>,
    /// Staged rows by object, with the id of their run; each row is a batch.
    staged: HashMap<String, (String, Vec<RecordBatch>)>,
    owners: HashMap<String, Owner>,
    states: HashMap<String, Entries>,
    locks: HashMap<String, Holder>,
}

impl Memory {
    /// An empty target; its clones share their tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The rows of a table, each a batch; `None` when the table was never committed.
    pub fn batches(&self, object: &str) -> Option<Vec<RecordBatch>> {
        locked(&self.contents).tables.get(object).cloned()
    }

    /// The names of all tables, sorted.
    pub fn objects(&self) -> Vec<String> {
        let mut objects: Vec<String> = locked(&self.contents).tables.keys().cloned().collect();
        objects.sort_unstable();
        objects
    }

    /// Number of durable staged rows of all tables.
    pub fn staged(&self) -> usize {
        let contents = locked(&self.contents);
        contents.staged.values().flat_map(|(_, batches)| batches).map(RecordBatch::num_rows).sum()
    }
}

#[async_trait]
impl Target for Memory {
    fn accepts(&self, table: &Table) -> Result<()> {
        if table.disposition == Disposition::Merge && table.schema.key.is_empty() {
            let what = format!("stream `{}` has no key to merge its rows by", table.stream);
            return Err(Error::input(what));
        }
        Ok(())
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        self.accepts(table)?;
        let mut contents = locked(&self.contents);
        let known = contents.staged.get(&table.object).filter(|(run, _)| *run == table.run_id);
        let rows = match (staged, known) {
            (None, _) => Vec::new(),
            (Some(_), None) => return Ok(None),
            (Some(count), Some((_, batches))) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                if batches.len() < count {
                    return Ok(None);
                }
                batches.iter().take(count).cloned().collect()
            }
        };
        contents.staged.insert(table.object.clone(), (table.run_id.clone(), rows.clone()));
        Ok(Some(Box::new(MemoryWriter {
            table: table.clone(),
            contents: Arc::clone(&self.contents),
            rows,
        })))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        locked(&self.contents).tables.entry(table.object.clone()).or_default();
        Ok(table.object.clone())
    }

    async fn missing_part(&self, table: &Table) -> Result<Option<String>> {
        let there = locked(&self.contents).tables.contains_key(&table.object);
        Ok((!there).then(|| format!("table `{}` no longer exists", table.object)))
    }

    async fn existing(&self, table: &Table) -> Result<Option<ExistingTable>> {
        let rows = self.count(table).await?;
        let owner = locked(&self.contents).owners.get(&table.object).cloned();
        let object = table.object.clone();
        Ok(rows.map(|rows| ExistingTable { object, rows: Some(rows), owner }))
    }

    async fn tidy(&self, _: &Leftovers) -> Result<()> {
        Ok(())
    }

    fn set_watch(&self, _: Watch) {}

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        let contents = locked(&self.contents);
        Ok(contents.tables.get(&table.object).map(|rows| live(rows)))
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn Store>> {
        let (contents, replication) = (Arc::clone(&self.contents), replication.to_owned());
        Ok(Arc::new(MemoryStore { contents, replication }))
    }
}

struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
    replication: String,
}

struct MemoryLock {
    contents: Arc<Mutex<Contents>>,
    replication: String,
    held: AtomicBool,
}

#[async_trait]
impl Store for MemoryStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        let mut contents = locked(&self.contents);
        if let Some(other) = contents.locks.get(&self.replication) {
            let what = format!("another run of `{}` is in progress: {other}", self.replication);
            return Err(Error::new(Kind::Busy, what));
        }
        contents.locks.insert(self.replication.clone(), holder.clone());
        let (contents, replication) = (Arc::clone(&self.contents), self.replication.clone());
        Ok(Box::new(MemoryLock { contents, replication, held: AtomicBool::new(true) }))
    }

    async fn load(&self) -> Result<Entries> {
        Ok(locked(&self.contents).states.get(&self.replication).cloned().unwrap_or_default())
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        save(&mut locked(&self.contents), &self.replication, changes);
        Ok(())
    }
}

impl Lock for MemoryLock {
    fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        locked(&self.contents).locks.remove(&self.replication);
    }
}

fn save(contents: &mut Contents, replication: &str, changes: &[Change]) {
    let entries = contents.states.entry(replication.to_owned()).or_default();
    for change in changes {
        match &change.value {
            Some(value) => entries.insert(change.key.clone(), value.clone()),
            None => entries.remove(&change.key),
        };
    }
}

struct MemoryWriter {
    table: Table,
    contents: Arc<Mutex<Contents>>,
    /// Batches of one staged row each.
    rows: Vec<RecordBatch>,
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.rows.extend((0..batch.num_rows()).map(|row| batch.slice(row, 1)));
        Ok(())
    }

    async fn replaced(&mut self) -> Result<Vec<(String, u64)>> {
        Ok(Vec::new())
    }

    fn staged(&self) -> u64 {
        self.rows.len() as u64
    }

    async fn checkpoint(&mut self, state: &[Change]) -> Result<()> {
        let mut contents = locked(&self.contents);
        let staged = (self.table.run_id.clone(), self.rows.clone());
        contents.staged.insert(self.table.object.clone(), staged);
        save(&mut contents, &self.table.replication, state);
        Ok(())
    }

    async fn commit(self: Box<Self>, info: &CommitInfo, state: &[Change]) -> Result<Committed> {
        let Self { table, contents, rows } = *self;
        let staged = CommitRows::new(&table, &rows, &info.discarded_slices)?;
        let (written, repeated) = (staged.rows.len() as u64, staged.duplicates.repeated);
        let notices = staged.duplicates.notices(staged.example.clone(), &table.stream);
        check_strict(table.strict, &notices)?;
        let mut contents = locked(&contents);
        let existing = contents.tables.entry(table.object.clone()).or_default();
        let mut deleted = 0;
        match table.disposition {
            Disposition::Replace | Disposition::Truncate => *existing = staged.rows,
            Disposition::Append => existing.extend(staged.rows),
            Disposition::Merge => deleted = merge(existing, staged, &table, info)?,
        }
        let live = live(existing);
        if let Some(owner) = Owner::of(&table, Some(live)) {
            contents.owners.insert(table.object.clone(), owner);
        }
        contents.staged.remove(&table.object);
        save(&mut contents, &table.replication, state);
        Ok(Committed { object: table.object, rows: written, deleted, repeated, notices })
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        locked(&self.contents).staged.remove(&self.table.object);
        Ok(())
    }
}

/// The staged rows of a commit: rows, markers, and rows that lose.
struct CommitRows {
    /// The row that is written for each key, with the columns of the table.
    rows: Vec<RecordBatch>,
    /// Marked parents, and whether all slices that marked them have read their rows again.
    parents: BTreeMap<RowKey, bool>,
    duplicates: DuplicateKeys,
    /// The first two rows that collide.
    example: Option<Example>,
}

impl CommitRows {
    fn new(table: &Table, staged: &[RecordBatch], discarded: &[i64]) -> Result<Self> {
        let (rows, parents) = (Vec::new(), BTreeMap::new());
        let mut all = Self { rows, parents, duplicates: DuplicateKeys::default(), example: None };
        let is_discarded =
            |row: &RecordBatch| slice_of(row).is_some_and(|slice| discarded.contains(&slice));
        let columns: Vec<usize> = (0..table.schema.columns.len()).collect();
        // The rows of each key, later in the order in which each loses to the next.
        let mut keys: BTreeMap<RowKey, Vec<(Option<i64>, i64, usize)>> = BTreeMap::new();
        for (number, row) in staged.iter().enumerate().filter(|(_, row)| !is_discarded(row)) {
            if let Some(read_again) = mark_of(row) {
                let parent = key_of(row, table.replaces.as_slice());
                *all.parents.entry(parent).or_insert(true) &= read_again;
                continue;
            }
            let key = match table.schema.key.as_slice() {
                [] => vec![Some(number.to_be_bytes().to_vec())],
                key => key_of(row, key),
            };
            let slice = slice_of(row).unwrap_or_default();
            keys.entry(key).or_default().push((version_of(row, table), slice, number));
        }
        let mut winners = Vec::new();
        let mut collided = Vec::new();
        for rows in keys.values_mut() {
            rows.sort_unstable();
            winners.extend(rows.last().map(|(.., row)| *row));
            for pair in rows.windows(2) {
                let [(version, slice, row), (next_version, next_slice, next)] = pair else {
                    unreachable!("windows of two have two items")
                };
                let [one, other] =
                    [row, next].map(|row| staged.get(*row).expect("the row was staged"));
                let differing = differing(one, other);
                let newer = version.is_some() && next_version.is_some() && version != next_version;
                let (apart, differs) = (Apart::of(*slice, *next_slice), !differing.is_empty());
                let kind = Loss { apart, differs, newer }.kind();
                all.duplicates.add(kind, 1);
                if kind == LossKind::Collision {
                    collided.push((*row, shown(one, &table.schema.key), differing));
                }
            }
        }
        let first = collided.into_iter().min();
        all.example = first.map(|(_, key, columns)| Example { key, columns });
        winners.sort_unstable();
        for row in winners.into_iter().filter_map(|row| staged.get(row)) {
            all.rows.push(row.project(&columns).map_err(broken)?);
        }
        Ok(all)
    }
}

/// Columns in which two staged rows differ, without those that weir fills itself.
fn differing(one: &RecordBatch, other: &RecordBatch) -> Vec<String> {
    let schema = one.schema();
    let names = schema.fields().iter().map(|field| field.name());
    let differs = |name: &&String| one.column_by_name(name) != other.column_by_name(name);
    names.filter(|name| !name.starts_with("_weir_")).filter(differs).cloned().collect()
}

/// A key as messages show it.
fn shown(row: &RecordBatch, key: &[String]) -> String {
    let value = |name: &String| {
        let column = row.column_by_name(name)?;
        let text = match column.data_type() {
            DataType::Utf8 => column.as_string::<i32>().value(0).to_owned(),
            DataType::Int64 => column.as_primitive::<Int64Type>().value(0).to_string(),
            _ => format!("{:?}", cell(column)),
        };
        Some(format!("{name}={}", text.chars().take(MAX_SHOWN).collect::<String>()))
    };
    key.iter().filter_map(value).collect::<Vec<_>>().join(", ")
}

fn version_of(row: &RecordBatch, table: &Table) -> Option<i64> {
    let versions = versions(row.column_by_name(table.version.as_ref()?)?)?;
    versions.is_valid(0).then(|| versions.value(0))
}

/// Merges staged rows into a table; the number of rows that it found deleted at the source.
fn merge(
    existing: &mut Vec<RecordBatch>,
    staged: CommitRows,
    table: &Table,
    info: &CommitInfo,
) -> Result<u64> {
    let key = &table.schema.key;
    let mut before: HashMap<RowKey, RecordBatch> =
        existing.drain(..).map(|row| (key_of(&row, key), row)).collect();
    let mut deleted = 0;
    let mut rows = Vec::new();
    for row in staged.rows {
        let there = before.remove(&key_of(&row, key));
        rows.push(changed(&row, there.as_ref(), table)?);
    }
    for (_, row) in before {
        let gone = match &table.replaces {
            Some(column) => {
                let parent = key_of(&row, std::slice::from_ref(column));
                info.deletable.is_gone_with_parent(staged.parents.get(&parent).copied())
            }
            None => info.deletable.is_gone(),
        };
        let known = is_deleted(&row);
        match table.deletes {
            Deletes::Remove if gone => deleted += 1,
            Deletes::Mark if gone && !known => {
                deleted += 1;
                let at = TimestampMicrosecondArray::from(vec![info.at.timestamp_micros()]);
                let row = with(&row, DELETED_AT, Arc::new(at.with_timezone("UTC")))?;
                rows.push(with(&row, CHANGE, Arc::new(StringArray::from(vec!["deleted"])))?);
            }
            _ => rows.push(row),
        }
    }
    *existing = rows;
    Ok(deleted)
}

/// A staged row with its `_weir_change`, given the existing row.
fn changed(row: &RecordBatch, before: Option<&RecordBatch>, table: &Table) -> Result<RecordBatch> {
    let Some(before) = before.filter(|before| !is_deleted(before)) else {
        return with(row, CHANGE, Arc::new(StringArray::from(vec!["new"])));
    };
    let own = |name: &str| name.starts_with("_weir_");
    let schema = row.schema();
    let differs: Vec<&String> = schema
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| !own(name) && row.column_by_name(name) != before.column_by_name(name))
        .collect();
    if differs.is_empty() {
        return Ok(before.clone());
    }
    let moved = differs.iter().any(|name| table.place.contains(name));
    let change = if moved { "moved" } else { "updated" };
    with(row, CHANGE, Arc::new(StringArray::from(vec![change])))
}

/// Rows that are not marked as deleted.
fn live(rows: &[RecordBatch]) -> u64 {
    rows.iter().filter(|row| !is_deleted(row)).count() as u64
}

fn is_deleted(row: &RecordBatch) -> bool {
    row.column_by_name(DELETED_AT).is_some_and(|at| at.is_valid(0))
}

/// The row with another value in a column; the row itself when it has no such column.
fn with(row: &RecordBatch, name: &str, value: ArrayRef) -> Result<RecordBatch> {
    let Ok(at) = row.schema().index_of(name) else { return Ok(row.clone()) };
    let mut columns = row.columns().to_vec();
    if let Some(slot) = columns.get_mut(at) {
        *slot = value;
    }
    RecordBatch::try_new(row.schema(), columns).map_err(broken)
}

fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::target("cannot merge the rows").because(error)
}

fn slice_of(row: &RecordBatch) -> Option<i64> {
    let slices = row.column_by_name(SLICE)?.as_primitive_opt::<Int64Type>()?;
    slices.is_valid(0).then(|| slices.value(0))
}

fn mark_of(row: &RecordBatch) -> Option<bool> {
    let marks = row.column_by_name(MARK)?.as_boolean_opt()?;
    marks.is_valid(0).then(|| marks.value(0))
}

fn key_of(row: &RecordBatch, key: &[String]) -> RowKey {
    key.iter().map(|name| cell(row.column_by_name(name)?.as_ref())).collect()
}

fn cell(array: &dyn Array) -> Option<Vec<u8>> {
    if array.is_null(0) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(0).as_bytes().to_vec(),
        DataType::Binary => array.as_binary::<i32>().value(0).to_vec(),
        DataType::Boolean => vec![u8::from(array.as_boolean().value(0))],
        DataType::Int64 => array.as_primitive::<Int64Type>().value(0).to_be_bytes().to_vec(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(0).to_be_bytes().to_vec(),
        DataType::Date32 => array.as_primitive::<Date32Type>().value(0).to_be_bytes().to_vec(),
        DataType::Decimal128(..) => {
            array.as_primitive::<Decimal128Type>().value(0).to_be_bytes().to_vec()
        }
        DataType::Timestamp(..) => {
            array.as_primitive::<TimestampMicrosecondType>().value(0).to_be_bytes().to_vec()
        }
        _ => return None,
    })
}

fn locked(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}
