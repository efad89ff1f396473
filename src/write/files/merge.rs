//! Staged rows and the old ones made into the rows of the new object.
//!
//! What is kept in memory is a few dozen bytes for each staged key, of at most [`KEYS`] keys at a time:
//! when there are more, they are dealt with in turns, each of which reads all staged and old rows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray, new_null_array, types::Int64Type,
};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;

use super::{
    object::Format,
    old::OldFile,
    repeats::{Cursor, Lost, Search},
    stage::Staging,
};
use crate::error::{Error, Result};
use crate::hash::{Wide as RowHash, narrow, rows as hashes};
use crate::schema::{CHANGE, DELETED_AT, MARK, OWN_COLUMNS, SLICE, TableSchema};
use crate::write::{Deletes, Disposition, Ending, Seen, Table};

/// Keys that are kept in memory at once: some 60 MB.
const KEYS: u64 = 1_000_000;

/// What is to be made of the staged rows.
pub(super) struct Merge<'table> {
    pub(super) table: &'table Table,
    /// The columns of the new object: the table's, then those that only the old object has.
    pub(super) schema: TableSchema,
    pub(super) ending: &'table Ending,
    pub(super) staging: &'table Staging,
    pub(super) format: Format,
    void: HashSet<i64>,
    /// Positions of the key's columns.
    key: Vec<usize>,
    /// Turns in which the keys are dealt with.
    turns: u64,
}

/// A staged key.
#[derive(Clone, Copy)]
struct Entry {
    /// Number of its row.
    row: u64,
    content: u64,
    place: u64,
    found: Found,
}

/// What the old object had under a staged key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Same,
    Other,
    Moved,
}

impl<'table> Merge<'table> {
    pub(super) fn new(
        table: &'table Table,
        others: Vec<crate::schema::Column>,
        ending: &'table Ending,
        (staging, format): (&'table Staging, Format),
    ) -> Self {
        let mut schema = table.schema.clone();
        schema.columns.extend(others);
        let key = schema.key.iter().filter_map(|name| schema.position(name)).collect();
        let turns = match table.disposition {
            Disposition::Merge => staging.rows().div_ceil(KEYS).max(1),
            _ => 1,
        };
        let void = ending.void.iter().copied().collect();
        Self { table, schema, ending, staging, format, void, key, turns }
    }

    /// How many turns there are.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    /// Columns that make a row another.
    fn content(&self) -> Vec<usize> {
        let columns = self.table.schema.columns.iter().enumerate();
        columns
            .filter(|(_, column)| !column.name.starts_with(OWN_COLUMNS))
            .map(|(at, _)| at)
            .collect()
    }

    fn place(&self) -> Vec<usize> {
        self.table.place.iter().filter_map(|name| self.table.schema.position(name)).collect()
    }

    /// The rows of a staged batch that count, without the columns of their staging; and the number in
    /// the staging of each.
    fn rows(
        &self,
        batch: &RecordBatch,
        first: u64,
        lost: &mut Cursor<'_>,
    ) -> Result<(RecordBatch, Vec<u64>)> {
        let slices = column(batch, SLICE)?.as_primitive::<Int64Type>();
        let marks = column(batch, MARK)?.as_boolean();
        let mut kept = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let lost = lost.has(first + row as u64)?;
            kept.push(!lost && marks.is_null(row) && !self.void.contains(&slices.value(row)));
        }
        let numbers = kept.iter().enumerate().filter(|(_, kept)| **kept);
        let numbers = numbers.map(|(row, _)| first + row as u64).collect();
        let columns: Vec<usize> = (0..self.table.schema.columns.len()).collect();
        let rows = batch.project(&columns).map_err(broken)?;
        if kept.iter().all(|kept| *kept) {
            return Ok((rows, numbers));
        }
        let rows = filter_record_batch(&rows, &BooleanArray::from(kept)).map_err(broken)?;
        Ok((rows, numbers))
    }

    /// The staged rows that give way to others with the same key.
    pub(super) async fn lost(&self) -> Result<Lost> {
        let (table, staging) = (self.table, self.staging);
        Search::new(table, staging, &self.void, self.content()).run().await
    }

    /// The staged rows of a batch that stay.
    pub(super) fn lasting(
        &self,
        batch: &RecordBatch,
        first: u64,
        lost: &mut Cursor<'_>,
    ) -> Result<RecordBatch> {
        Ok(self.rows(batch, first, lost)?.0)
    }

    /// Parents that were marked, and whether their rows were read anew: by all slices that say so.
    pub(super) async fn parents(&self) -> Result<HashMap<String, bool>> {
        let mut parents = HashMap::new();
        let Some(at) = self.table.replaces.as_ref().and_then(|name| self.schema.position(name))
        else {
            return Ok(parents);
        };
        let mut staged = self.staging.batches();
        while let Some((batch, _)) = staged.next().await? {
            let slices = column(&batch, SLICE)?.as_primitive::<Int64Type>();
            let marks = column(&batch, MARK)?.as_boolean();
            if marks.null_count() == batch.num_rows() {
                continue;
            }
            let texts = super::json::texts(batch.schema().field(at), batch.column(at))?;
            for (row, parent) in texts.into_iter().enumerate() {
                let counts = marks.is_valid(row) && !self.void.contains(&slices.value(row));
                if let Some(parent) = parent.filter(|_| counts) {
                    *parents.entry(parent).or_insert(true) &= marks.value(row);
                }
            }
        }
        Ok(parents)
    }

    /// The staged keys of a turn.
    pub(super) async fn keys(&self, turn: u64, lost: &Lost) -> Result<Keys> {
        let mut lost = lost.cursor();
        let (content, place) = (self.content(), self.place());
        let mut entries: HashMap<RowHash, Entry> = HashMap::new();
        let mut staged = self.staging.batches();
        while let Some((batch, first)) = staged.next().await? {
            let (rows, numbers) = self.rows(&batch, first, &mut lost)?;
            let (contents, places) = (hashes(&rows, &content), hashes(&rows, &place));
            let keys = hashes(&rows, &self.key).into_iter().zip(numbers);
            for ((key, row), (content, place)) in keys.zip(contents.into_iter().zip(places)) {
                if self.is_due(key, turn) {
                    let (content, place) = (narrow(content), narrow(place));
                    entries.insert(key, Entry { row, content, place, found: Found::Nothing });
                }
            }
        }
        Ok(Keys { entries })
    }

    fn is_due(&self, key: RowHash, turn: u64) -> bool {
        self.turns == 1 || key % RowHash::from(self.turns) == RowHash::from(turn)
    }

    /// Opens the rows of an old file.
    pub(super) fn old(&self, file: &OldFile) -> Result<super::old::OldRows> {
        file.read(self.format, &self.schema)
    }

    /// The old rows of a batch that stay, those that are found gone marked; and how many these were.
    pub(super) fn kept(
        &self,
        batch: &RecordBatch,
        keys: &mut Keys,
        parents: &HashMap<String, bool>,
        turn: u64,
    ) -> Result<(RecordBatch, u64)> {
        let (content, place) = (self.content(), self.place());
        let (contents, places) = (hashes(batch, &content), hashes(batch, &place));
        let replaced = self.table.replaces.as_ref().and_then(|name| self.schema.position(name));
        let replaced = match replaced {
            Some(at) => Some(super::json::texts(batch.schema().field(at), batch.column(at))?),
            None => None,
        };
        let deleted = batch.column_by_name(DELETED_AT);
        let was_deleted = |row: usize| deleted.is_some_and(|column| column.is_valid(row));
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let rows = hashes(batch, &self.key).into_iter().zip(contents.into_iter().zip(places));
        for (row, (key, (content, place))) in rows.enumerate() {
            if !self.is_due(key, turn) {
                kept.push(false);
                gone.push(false);
                continue;
            }
            if let Some(entry) = keys.entries.get_mut(&key) {
                entry.found = match (was_deleted(row), entry.content == narrow(content)) {
                    (true, _) => Found::Nothing,
                    (false, true) => Found::Same,
                    (false, false) if entry.place == narrow(place) => Found::Other,
                    (false, false) => Found::Moved,
                };
                kept.push(entry.found == Found::Same);
                gone.push(false);
                continue;
            }
            let parent = replaced.as_ref().and_then(|all| all.get(row).cloned().flatten());
            let is_gone = match &replaced {
                None => self.ending.seen == Seen::All,
                Some(_) => match parent.and_then(|parent| parents.get(&parent)) {
                    Some(anew) => *anew && self.ending.seen != Seen::Nothing,
                    None => self.ending.seen == Seen::All,
                },
            };
            let newly = is_gone && !was_deleted(row) && self.table.deletes != Deletes::Ignore;
            gone.push(newly);
            kept.push(!(is_gone && self.table.deletes == Deletes::Remove));
        }
        let count = gone.iter().filter(|gone| **gone).count() as u64;
        let batch = if count > 0 && self.table.deletes == Deletes::Mark {
            self.marked(batch, &gone)?
        } else {
            batch.clone()
        };
        let kept = filter_record_batch(&batch, &BooleanArray::from(kept)).map_err(broken)?;
        Ok((kept, count))
    }

    /// The first column of the key of each old row of a batch that was not staged, but for those that are gone
    /// already.
    pub(super) fn missing(
        &self,
        batch: &RecordBatch,
        (keys, marked): (&Keys, &HashMap<String, bool>),
        turn: u64,
    ) -> Result<Vec<String>> {
        let Some(&at) = self.key.first() else { return Ok(Vec::new()) };
        let texts = super::json::texts(batch.schema().field(at), batch.column(at))?;
        let stays = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| marked.get(text).is_some_and(|anew| !anew))
        };
        // What JSON quotes is asked for as it is.
        let plain = |text: String| serde_json::from_str::<String>(&text).unwrap_or(text);
        let deleted = batch.column_by_name(DELETED_AT);
        let rows = hashes(batch, &self.key).into_iter().zip(texts).enumerate();
        let missing = rows.filter(|(row, (key, text))| {
            let was_deleted = deleted.is_some_and(|column| column.is_valid(*row));
            let unseen = self.is_due(*key, turn) && !keys.entries.contains_key(key);
            unseen && !was_deleted && !stays(text)
        });
        Ok(missing.filter_map(|(_, (_, text))| text.map(plain)).collect())
    }

    fn marked(&self, batch: &RecordBatch, gone: &[bool]) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        if let Some(at) = self.schema.position(DELETED_AT) {
            let old =
                batch.column(at).as_primitive::<arrow_array::types::TimestampMicrosecondType>();
            let time = self.ending.at.timestamp_micros();
            let times =
                old.iter().zip(gone).map(|(old, gone)| if *gone { Some(time) } else { old });
            let times: TimestampMicrosecondArray = times.collect();
            replace(&mut columns, at, Arc::new(times.with_timezone("UTC")));
        }
        if let Some(at) = self.schema.position(CHANGE) {
            let old = batch.column(at).as_string::<i32>();
            let changes = old.iter().zip(gone);
            let changes: StringArray =
                changes.map(|(old, gone)| if *gone { Some("deleted") } else { old }).collect();
            replace(&mut columns, at, Arc::new(changes));
        }
        RecordBatch::try_new(batch.schema(), columns).map_err(broken)
    }

    /// The staged rows of a batch that are written anew, with what they changed.
    pub(super) fn news(
        &self,
        batch: &RecordBatch,
        first: u64,
        (keys, lost): (&Keys, &mut Cursor<'_>),
        arrow: &SchemaRef,
    ) -> Result<RecordBatch> {
        let (rows, numbers) = self.rows(batch, first, lost)?;
        let entries: Vec<Option<&Entry>> = hashes(&rows, &self.key)
            .into_iter()
            .zip(numbers)
            .map(|(key, number)| keys.entries.get(&key).filter(|entry| entry.row == number))
            .collect();
        let wanted: BooleanArray = entries
            .iter()
            .map(|entry| Some(entry.is_some_and(|entry| entry.found != Found::Same)))
            .collect();
        let mut columns = rows.columns().to_vec();
        if let Some(at) = self.table.schema.position(CHANGE) {
            let change = |entry: Option<&Entry>| {
                Some(match entry.map(|entry| entry.found) {
                    Some(Found::Moved) => "moved",
                    Some(Found::Other) => "updated",
                    _ => "new",
                })
            };
            let changes: StringArray = entries.iter().copied().map(change).collect();
            replace(&mut columns, at, Arc::new(changes));
        }
        for other in self.schema.columns.iter().skip(columns.len()) {
            columns.push(new_null_array(&other.kind.arrow(), rows.num_rows()));
        }
        let rows = RecordBatch::try_new(Arc::clone(arrow), columns).map_err(broken)?;
        filter_record_batch(&rows, &wanted).map_err(broken)
    }
}

/// The staged keys of a turn.
pub(super) struct Keys {
    entries: HashMap<RowHash, Entry>,
}

impl Keys {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }
}

fn replace(columns: &mut [ArrayRef], at: usize, array: ArrayRef) {
    if let Some(slot) = columns.get_mut(at) {
        *slot = array;
    }
}

pub(super) fn column<'batch>(batch: &'batch RecordBatch, name: &str) -> Result<&'batch ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::target(format!("staged rows lack `{name}`")))
}

pub(super) fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::target("rows cannot be put together").because(error)
}
