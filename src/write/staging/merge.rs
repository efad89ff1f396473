//! Staged and existing rows made into the rows of the new table.
//!
//! A merge keeps a few dozen bytes in memory for each staged key, of at most [`KEYS_PER_PASS`] keys at a time.
//! When there are more keys, it takes several passes, and each pass reads all staged and existing rows.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    new_null_array,
    types::{Int64Type, TimestampMicrosecondType},
};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;

use crate::error::Result;
use crate::hash::{Wide as RowHash, narrow, rows as hashes};
use crate::schema::{CHANGE, Column, DELETED_AT, MARK, OWN_COLUMNS, SLICE, TableSchema};
use crate::write::formats::json_text;
use crate::write::staging::columns::{broken, column};
use crate::write::staging::duplicate_keys::{LostCursor, LostRows, Search};
use crate::write::staging::rows::StagedRows;
use crate::write::table::{Deletes, Disposition, Table};
use crate::write::target::CommitInfo;

/// Keys that are kept in memory at once: some 60 MB.
const KEYS_PER_PASS: u64 = 1_000_000;

/// Parents that were marked, and whether their rows were read again by all slices that marked them.
pub(crate) type MarkedParents = HashMap<String, bool>;

/// A merge of the staged rows of a table into its existing rows.
pub(crate) struct Merge<'table> {
    table: &'table Table,
    /// The columns of the new table: those of the stream, then those that only the existing table has.
    schema: TableSchema,
    arrow: SchemaRef,
    info: &'table CommitInfo,
    staged: &'table StagedRows,
    /// Numbers of slices whose rows are discarded.
    discarded: HashSet<i64>,
    /// Positions of the key's columns.
    key: Vec<usize>,
    passes: u64,
}

/// A staged key.
#[derive(Clone, Copy)]
struct StagedKey {
    /// Number of its row.
    row: u64,
    content: u64,
    place: u64,
    existing: ExistingRow,
}

/// The existing row with a staged key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExistingRow {
    /// There is none, or it is marked as deleted.
    None,
    /// It has the same content.
    Same,
    /// It has another content.
    Updated,
    /// It has another content, and another value in a column of [`Table::place`].
    Moved,
}

impl<'table> Merge<'table> {
    /// `others` are the columns that only the existing table has.
    pub(crate) fn new(
        table: &'table Table,
        others: Vec<Column>,
        info: &'table CommitInfo,
        staged: &'table StagedRows,
    ) -> Self {
        let mut schema = table.schema.clone();
        schema.columns.extend(others);
        let key = schema.key.iter().filter_map(|name| schema.position(name)).collect();
        let passes = match table.disposition {
            Disposition::Merge => staged.count().div_ceil(KEYS_PER_PASS).max(1),
            _ => 1,
        };
        let (arrow, discarded) = (schema.arrow(), info.discarded_slices.iter().copied().collect());
        Self { table, schema, arrow, info, staged, discarded, key, passes }
    }

    /// The columns of the new table.
    pub(crate) fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// Number of passes.
    pub(crate) fn passes(&self) -> u64 {
        self.passes
    }

    /// Positions of the columns that make up the content of a row.
    fn content(&self) -> Vec<usize> {
        let columns = self.table.schema.columns.iter().enumerate();
        columns
            .filter(|(_, column)| !column.name.starts_with(OWN_COLUMNS))
            .map(|(at, _)| at)
            .collect()
    }

    /// Positions of the columns of [`Table::place`].
    fn place(&self) -> Vec<usize> {
        self.table.place.iter().filter_map(|name| self.table.schema.position(name)).collect()
    }

    /// The rows of a staged batch that count, without the columns that only staged rows have; and the number of
    /// each among all staged rows. `first` is the number of the batch's first row.
    fn rows(
        &self,
        batch: &RecordBatch,
        first: u64,
        lost: &mut LostCursor<'_>,
    ) -> Result<(RecordBatch, Vec<u64>)> {
        let slices = column(batch, SLICE)?.as_primitive::<Int64Type>();
        let marks = column(batch, MARK)?.as_boolean();
        let mut kept = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let lost = lost.has(first + row as u64)?;
            kept.push(!lost && marks.is_null(row) && !self.discarded.contains(&slices.value(row)));
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

    /// The staged rows that lose to other staged rows with the same key.
    pub(crate) async fn lost(&self) -> Result<LostRows> {
        Search::new(self.table, self.staged, &self.discarded, self.content()).run().await
    }

    /// The rows of a staged batch that stay: the last one per key.
    pub(crate) fn last_per_key(
        &self,
        batch: &RecordBatch,
        first: u64,
        lost: &mut LostCursor<'_>,
    ) -> Result<RecordBatch> {
        Ok(self.rows(batch, first, lost)?.0)
    }

    /// The parents that were marked.
    pub(crate) async fn parents(&self) -> Result<MarkedParents> {
        let mut parents = HashMap::new();
        let Some(at) = self.parent_column() else { return Ok(parents) };
        let mut staged = self.staged.batches();
        while let Some((batch, _)) = staged.next().await? {
            let slices = column(&batch, SLICE)?.as_primitive::<Int64Type>();
            let marks = column(&batch, MARK)?.as_boolean();
            if marks.null_count() == batch.num_rows() {
                continue;
            }
            let texts = json_text::texts(batch.schema().field(at), batch.column(at))?;
            for (row, parent) in texts.into_iter().enumerate() {
                let counts = marks.is_valid(row) && !self.discarded.contains(&slices.value(row));
                if let Some(parent) = parent.filter(|_| counts) {
                    *parents.entry(parent).or_insert(true) &= marks.value(row);
                }
            }
        }
        Ok(parents)
    }

    fn parent_column(&self) -> Option<usize> {
        self.table.replaces.as_ref().and_then(|name| self.schema.position(name))
    }

    /// The staged keys of a pass.
    pub(crate) async fn keys(&self, pass: u64, lost: &LostRows) -> Result<PassKeys> {
        let mut lost = lost.cursor();
        let (content, place) = (self.content(), self.place());
        let mut keys = PassKeys { pass, passes: self.passes, staged: HashMap::new() };
        let mut staged = self.staged.batches();
        while let Some((batch, first)) = staged.next().await? {
            let (rows, numbers) = self.rows(&batch, first, &mut lost)?;
            let (contents, places) = (hashes(&rows, &content), hashes(&rows, &place));
            let numbered = hashes(&rows, &self.key).into_iter().zip(numbers);
            for ((key, row), (content, place)) in numbered.zip(contents.into_iter().zip(places)) {
                if keys.has_turn(key) {
                    let (content, place) = (narrow(content), narrow(place));
                    let existing = ExistingRow::None;
                    keys.staged.insert(key, StagedKey { row, content, place, existing });
                }
            }
        }
        Ok(keys)
    }

    /// The rows of an existing batch that stay, with those found deleted marked; and the number of rows found
    /// deleted. Notes in `keys` which staged keys have an existing row.
    pub(crate) fn surviving_rows(
        &self,
        batch: &RecordBatch,
        keys: &mut PassKeys,
        parents: &MarkedParents,
    ) -> Result<(RecordBatch, u64)> {
        let (content, place) = (self.content(), self.place());
        let (contents, places) = (hashes(batch, &content), hashes(batch, &place));
        let replaced = match self.parent_column() {
            Some(at) => Some(json_text::texts(batch.schema().field(at), batch.column(at))?),
            None => None,
        };
        let deleted = batch.column_by_name(DELETED_AT);
        let was_deleted = |row: usize| deleted.is_some_and(|column| column.is_valid(row));
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        let rows = hashes(batch, &self.key).into_iter().zip(contents.into_iter().zip(places));
        for (row, (key, (content, place))) in rows.enumerate() {
            if !keys.has_turn(key) {
                kept.push(false);
                gone.push(false);
                continue;
            }
            if let Some(staged) = keys.staged.get_mut(&key) {
                staged.existing = match (was_deleted(row), staged.content == narrow(content)) {
                    (true, _) => ExistingRow::None,
                    (false, true) => ExistingRow::Same,
                    (false, false) if staged.place == narrow(place) => ExistingRow::Updated,
                    (false, false) => ExistingRow::Moved,
                };
                kept.push(staged.existing == ExistingRow::Same);
                gone.push(false);
                continue;
            }
            let is_gone = match &replaced {
                None => self.info.deletable.is_gone(),
                Some(parents_of_rows) => {
                    let parent = parents_of_rows.get(row).and_then(Option::as_ref);
                    let marked = parent.and_then(|parent| parents.get(parent)).copied();
                    self.info.deletable.is_gone_with_parent(marked)
                }
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

    /// The first column of the key of each row of an existing batch whose key was not staged, except rows that
    /// are marked as deleted.
    pub(crate) fn missing(
        &self,
        batch: &RecordBatch,
        keys: &PassKeys,
        parents: &MarkedParents,
    ) -> Result<Vec<String>> {
        // Without the key in its columns, nothing can be looked up.
        let Some(&at) = self.key.first() else { return Ok(Vec::new()) };
        let texts = json_text::texts(batch.schema().field(at), batch.column(at))?;
        let stays = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| parents.get(text).is_some_and(|read_again| !read_again))
        };
        // Requests need the text itself, without the quotes of JSON.
        let plain = |text: String| serde_json::from_str::<String>(&text).unwrap_or(text);
        let deleted = batch.column_by_name(DELETED_AT);
        let rows = hashes(batch, &self.key).into_iter().zip(texts).enumerate();
        let missing = rows.filter(|(row, (key, text))| {
            let was_deleted = deleted.is_some_and(|column| column.is_valid(*row));
            let unseen = keys.has_turn(*key) && !keys.staged.contains_key(key);
            unseen && !was_deleted && !stays(text)
        });
        Ok(missing.filter_map(|(_, (_, text))| text.map(plain)).collect())
    }

    /// The batch with the rows that are `gone` marked as deleted.
    fn marked(&self, batch: &RecordBatch, gone: &[bool]) -> Result<RecordBatch> {
        let mut columns = batch.columns().to_vec();
        if let Some(at) = self.schema.position(DELETED_AT) {
            let existing = batch.column(at).as_primitive::<TimestampMicrosecondType>();
            let time = self.info.at.timestamp_micros();
            let times = existing.iter().zip(gone);
            let times: TimestampMicrosecondArray =
                times.map(|(existing, gone)| if *gone { Some(time) } else { existing }).collect();
            replace(&mut columns, at, Arc::new(times.with_timezone("UTC")));
        }
        if let Some(at) = self.schema.position(CHANGE) {
            let existing = batch.column(at).as_string::<i32>();
            let changes = existing.iter().zip(gone);
            let changes: StringArray = changes
                .map(|(existing, gone)| if *gone { Some("deleted") } else { existing })
                .collect();
            replace(&mut columns, at, Arc::new(changes));
        }
        RecordBatch::try_new(batch.schema(), columns).map_err(broken)
    }

    /// The rows of a staged batch that are written, each with its kind of change. The caller must have passed
    /// all existing rows to [`Merge::surviving_rows`] before.
    pub(crate) fn new_rows(
        &self,
        batch: &RecordBatch,
        first: u64,
        keys: &PassKeys,
        lost: &mut LostCursor<'_>,
    ) -> Result<RecordBatch> {
        let (rows, numbers) = self.rows(batch, first, lost)?;
        let staged: Vec<Option<&StagedKey>> = hashes(&rows, &self.key)
            .into_iter()
            .zip(numbers)
            .map(|(key, number)| keys.staged.get(&key).filter(|staged| staged.row == number))
            .collect();
        let wanted: BooleanArray = staged
            .iter()
            .map(|staged| Some(staged.is_some_and(|one| one.existing != ExistingRow::Same)))
            .collect();
        let mut columns = rows.columns().to_vec();
        if let Some(at) = self.table.schema.position(CHANGE) {
            let change = |staged: Option<&StagedKey>| {
                Some(match staged.map(|staged| staged.existing) {
                    Some(ExistingRow::Moved) => "moved",
                    Some(ExistingRow::Updated) => "updated",
                    _ => "new",
                })
            };
            let changes: StringArray = staged.iter().copied().map(change).collect();
            replace(&mut columns, at, Arc::new(changes));
        }
        for other in self.schema.columns.iter().skip(columns.len()) {
            columns.push(new_null_array(&other.kind.arrow(), rows.num_rows()));
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.arrow), columns).map_err(broken)?;
        filter_record_batch(&rows, &wanted).map_err(broken)
    }
}

/// The staged keys of one pass.
pub(crate) struct PassKeys {
    /// Number of the pass, from 0.
    pass: u64,
    passes: u64,
    staged: HashMap<RowHash, StagedKey>,
}

impl PassKeys {
    /// Number of keys.
    pub(crate) fn count(&self) -> u64 {
        self.staged.len() as u64
    }

    /// Whether the pass handles the rows with this key.
    fn has_turn(&self, key: RowHash) -> bool {
        self.passes == 1 || key % RowHash::from(self.passes) == RowHash::from(self.pass)
    }
}

fn replace(columns: &mut [ArrayRef], at: usize, array: ArrayRef) {
    *columns.get_mut(at).expect("the column is part of the schema") = array;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_turn_in_exactly_one_pass() {
        for passes in [1, 2, 3, 7] {
            for key in 0..50 {
                let turns = (0..passes).filter(|pass| {
                    PassKeys { pass: *pass, passes, staged: HashMap::new() }.has_turn(key)
                });
                assert_eq!(turns.count(), 1, "key {key} of {passes} passes");
            }
        }
    }
}
