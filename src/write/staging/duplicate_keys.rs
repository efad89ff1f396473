//! Staged rows that lose to another staged row with the same key, found by sorting the hashes of all keys.
//!
//! One pass over the key columns finds the rows that lose. Only when there are any, a second pass compares
//! their contents. The sorters bound the memory, whatever the number of rows.

use std::collections::HashSet;

use arrow_array::{Array, Int64Array, RecordBatch, cast::AsArray, types::Int64Type};

use crate::error::Result;
use crate::hash::{Wide as RowHash, rows as hashes};
use crate::schema::{MARK, SLICE};
use crate::secret;
use crate::write::duplicate_keys::{DuplicateKeys, Example, Loss, LossKind, MAX_SHOWN, versions};
use crate::write::formats::json_text;
use crate::write::slice_number::Apart;
use crate::write::staging::columns::{broken, column};
use crate::write::staging::rows::StagedRows;
use crate::write::staging::sort::{Iter, SortRecord, Sorted, Sorter};
use crate::write::table::Table;

/// A staged row. Rows sort by key; of those with the same key, the row that is kept is the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StagedRow {
    key: RowHash,
    version: Option<i64>,
    slice: i64,
    row: u64,
}

impl SortRecord for StagedRow {
    const BYTES: usize = 16 + 1 + 8 + 8 + 8;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.push(u8::from(self.version.is_some()));
        out.extend_from_slice(&self.version.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&self.slice.to_le_bytes());
        out.extend_from_slice(&self.row.to_le_bytes());
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            key: RowHash::from_le_bytes(*bytes.first_chunk()?),
            version: Some(number(17)?).filter(|_| bytes.get(16) == Some(&1)),
            slice: number(25)?,
            row: number(33)?.cast_unsigned(),
        })
    }
}

/// A row whose content is compared with another one's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct WantedRow {
    row: u64,
    /// Number of the row of the pair that loses; it names the pair.
    pair: u64,
}

impl SortRecord for WantedRow {
    const BYTES: usize = 16;

    fn put(&self, out: &mut Vec<u8>) {
        self.row.put(out);
        self.pair.put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        Some(Self { row: u64::get(bytes)?, pair: u64::get(bytes.get(8..)?)? })
    }
}

/// One row of a pair, with its content. The row that is dropped is the first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Compared {
    pair: u64,
    wins: bool,
    row: u64,
    content: RowHash,
    slice: i64,
    version: Option<i64>,
}

impl SortRecord for Compared {
    const BYTES: usize = 8 + 1 + StagedRow::BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        self.pair.put(out);
        out.push(u8::from(self.wins));
        let Self { content: key, version, slice, row, .. } = *self;
        StagedRow { key, version, slice, row }.put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let StagedRow { key: content, version, slice, row } = StagedRow::get(bytes.get(9..)?)?;
        let (pair, wins) = (u64::get(bytes)?, bytes.get(8) == Some(&1));
        Some(Self { pair, wins, row, content, slice, version })
    }
}

/// The staged rows that lose.
pub(crate) struct LostRows {
    /// Their numbers; `None` when no row loses.
    rows: Option<Sorted<u64>>,
    /// How many there are, by kind.
    pub(crate) counts: DuplicateKeys,
    /// The first two rows that collide.
    pub(crate) example: Option<Example>,
}

impl LostRows {
    /// Looks rows up in their order.
    pub(crate) fn cursor(&self) -> LostCursor<'_> {
        LostCursor { rows: self.rows.as_ref().map(Sorted::iter), next: None }
    }
}

/// Looks rows up in their order.
pub(crate) struct LostCursor<'lost> {
    rows: Option<Iter<'lost, u64>>,
    next: Option<u64>,
}

impl LostCursor<'_> {
    /// Whether a row loses. The numbers of rows must not decrease from call to call.
    pub(crate) fn has(&mut self, row: u64) -> Result<bool> {
        while self.next.is_none_or(|next| next < row) {
            let Some(next) = self.rows.as_mut().and_then(Iterator::next).transpose()? else {
                return Ok(false);
            };
            self.next = Some(next);
        }
        Ok(self.next == Some(row))
    }
}

/// A search for rows with the same key.
pub(crate) struct Search<'table> {
    table: &'table Table,
    staged: &'table StagedRows,
    /// Numbers of slices whose rows are discarded.
    discarded: &'table HashSet<i64>,
    /// Positions of the columns that make up the content of a row.
    content: Vec<usize>,
}

impl<'table> Search<'table> {
    pub(crate) fn new(
        table: &'table Table,
        staged: &'table StagedRows,
        discarded: &'table HashSet<i64>,
        content: Vec<usize>,
    ) -> Self {
        Self { table, staged, discarded, content }
    }

    /// Finds all rows that lose.
    pub(crate) async fn run(&self) -> Result<LostRows> {
        let mut lost = LostRows { rows: None, counts: DuplicateKeys::default(), example: None };
        if self.table.schema.key.is_empty() {
            return Ok(lost);
        }
        let (rows, wanted) = self.pairs().await?;
        if rows.is_empty() {
            return Ok(lost);
        }
        let mut first = None;
        let mut before: Option<Compared> = None;
        for compared in self.compared(&wanted).await?.iter() {
            let compared = compared?;
            let Some(loser) = before.replace(compared).filter(|one| one.pair == compared.pair)
            else {
                continue;
            };
            let versions = loser.version.zip(compared.version);
            let loss = Loss {
                apart: Apart::of(loser.slice, compared.slice),
                differs: loser.content != compared.content,
                newer: versions.is_some_and(|(one, other)| one != other),
            };
            let kind = loss.kind();
            lost.counts.add(kind, 1);
            if kind == LossKind::Collision && first.is_none() {
                first = Some([loser.row, compared.row]);
            }
        }
        if let Some(pair) = first {
            lost.example = self.example(pair).await?;
        }
        lost.rows = Some(rows);
        Ok(lost)
    }

    /// The rows that lose, and the pairs of each such row with the row to which it loses.
    async fn pairs(&self) -> Result<(Sorted<u64>, Sorted<WantedRow>)> {
        let folder = self.staged.scratch();
        let (mut lost, mut wanted) = (Sorter::new(&folder), Sorter::new(&folder));
        let mut before: Option<StagedRow> = None;
        for staged in self.by_key().await?.iter() {
            let staged = staged?;
            if let Some(other) = before.replace(staged).filter(|one| one.key == staged.key) {
                lost.push(other.row)?;
                for row in [other.row, staged.row] {
                    wanted.push(WantedRow { row, pair: other.row })?;
                }
            }
        }
        Ok((lost.done()?, wanted.done()?))
    }

    /// All rows that count, sorted by key.
    async fn by_key(&self) -> Result<Sorted<StagedRow>> {
        let mut sorter = Sorter::new(&self.staged.scratch());
        let key = self.table.schema.key.iter().map(String::as_str);
        let names = key.clone().chain(self.table.version.as_deref()).chain([SLICE, MARK]);
        let mut batches = self.staged.columns(&names.collect::<Vec<_>>())?;
        while let Some((batch, first)) = batches.next().await? {
            let at = |name: &str| batch.schema().index_of(name).map_err(broken);
            let key: Vec<usize> = key.clone().map(at).collect::<Result<_>>()?;
            let marks = column(&batch, MARK)?.as_boolean();
            let (slices, versions) = (slices(&batch)?, self.versions(&batch)?);
            for (row, key) in hashes(&batch, &key).into_iter().enumerate() {
                let slice = slices.value(row);
                if marks.is_null(row) && !self.discarded.contains(&slice) {
                    let version = versions.as_ref().filter(|all| all.is_valid(row));
                    let version = version.map(|all| all.value(row));
                    sorter.push(StagedRow { key, version, slice, row: first + row as u64 })?;
                }
            }
        }
        sorter.done()
    }

    /// The contents of the rows that are wanted, pair by pair.
    async fn compared(&self, wanted: &Sorted<WantedRow>) -> Result<Sorted<Compared>> {
        let mut sorter = Sorter::new(&self.staged.scratch());
        let mut wanted = wanted.iter().peekable();
        let mut batches = self.staged.batches();
        while let Some((batch, first)) = batches.next().await? {
            let end = first + batch.num_rows() as u64;
            let is_here =
                |wanted: &Result<WantedRow>| wanted.as_ref().map_or(true, |one| one.row < end);
            let (slices, versions) = (slices(&batch)?, self.versions(&batch)?);
            while let Some(one) = wanted.next_if(is_here) {
                let WantedRow { row, pair } = one?;
                let at = usize::try_from(row - first).unwrap_or_default();
                let content = hashes(&batch.slice(at, 1), &self.content);
                let version = versions.as_ref().filter(|all| all.is_valid(at));
                sorter.push(Compared {
                    pair,
                    wins: row != pair,
                    row,
                    content: content.first().copied().unwrap_or_default(),
                    slice: slices.value(at),
                    version: version.map(|all| all.value(at)),
                })?;
            }
        }
        sorter.done()
    }

    /// A description of two rows, for messages.
    async fn example(&self, pair: [u64; 2]) -> Result<Option<Example>> {
        let mut found = Vec::new();
        let mut batches = self.staged.batches();
        while let Some((batch, first)) = batches.next().await? {
            let rows = pair.iter().filter_map(|row| row.checked_sub(first));
            let rows = rows.filter_map(|row| usize::try_from(row).ok());
            let rows = rows.filter(|row| *row < batch.num_rows());
            found.extend(rows.map(|row| batch.slice(row, 1)));
        }
        let [one, other] = found.as_slice() else { return Ok(None) };
        let mut key = Vec::new();
        for name in &self.table.schema.key {
            let schema = one.schema();
            let field = schema.field_with_name(name).map_err(broken)?;
            let text = json_text::texts(field, column(one, name)?)?.into_iter().flatten().next();
            let text = text.unwrap_or_default();
            let text: String =
                secret::line(text.trim_matches('"')).chars().take(MAX_SHOWN).collect();
            key.push(format!("{name}={text}"));
        }
        let differs = |at: &&usize| one.column(**at) != other.column(**at);
        let name = |at: &usize| one.schema().field(*at).name().clone();
        let columns = self.content.iter().filter(differs).map(name).collect();
        Ok(Some(Example { key: key.join(", "), columns }))
    }

    /// The version of each row; `None` when the table has no version column.
    fn versions(&self, batch: &RecordBatch) -> Result<Option<Int64Array>> {
        let Some(name) = &self.table.version else { return Ok(None) };
        Ok(versions(column(batch, name)?))
    }
}

fn slices(batch: &RecordBatch) -> Result<&Int64Array> {
    Ok(column(batch, SLICE)?.as_primitive::<Int64Type>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_rows_with_the_same_key_the_winner_comes_last() {
        let row = |version, slice, row| StagedRow { key: 7, version, slice, row };
        for (loser, winner) in [
            (row(None, 1, 1), row(None, 1, 2)),
            (row(None, 1, 2), row(None, 2, 1)),
            (row(None, 9, 9), row(Some(0), 1, 1)),
            (row(Some(1), 9, 9), row(Some(2), 1, 1)),
            (row(Some(-1), 1, 1), row(Some(0), 1, 1)),
        ] {
            assert!(loser < winner);
        }
        assert!(row(Some(9), 9, 9) < StagedRow { key: 8, ..row(None, 0, 0) });
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let key = RowHash::MAX - 5;
        for version in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
            let staged = StagedRow { key, version, slice: -3, row: u64::MAX };
            let mut bytes = Vec::new();
            staged.put(&mut bytes);
            assert_eq!(bytes.len(), StagedRow::BYTES);
            assert!(StagedRow::get(&bytes) == Some(staged));
            assert!(StagedRow::get(&bytes[1..]).is_none());
            for wins in [false, true] {
                let compared = Compared { pair: 5, wins, row: 6, content: key, slice: 1, version };
                let mut bytes = Vec::new();
                compared.put(&mut bytes);
                assert_eq!(bytes.len(), Compared::BYTES);
                assert!(Compared::get(&bytes) == Some(compared));
            }
        }
        let mut bytes = Vec::new();
        WantedRow { row: 1, pair: 2 }.put(&mut bytes);
        assert!(WantedRow::get(&bytes) == Some(WantedRow { row: 1, pair: 2 }));
    }
}
