//! Staged rows that give way to another with the same key, found by sorting the hashes of all keys.
//!
//! One pass over the key columns tells which rows give way. Only where there are any, a second pass
//! compares their contents. Memory is bounded by the sorters, whatever the number of rows.

use std::collections::HashSet;

use arrow_array::{Array, Int64Array, RecordBatch, cast::AsArray, types::Int64Type};

use super::{
    merge::{broken, column},
    sort::{Iter, Record, Sorted, Sorter},
    stage::Staging,
};
use crate::error::Result;
use crate::hash::{Wide as RowHash, rows as hashes};
use crate::schema::{MARK, SLICE};
use crate::secret;
use crate::write::Table;
use crate::write::repeats::{Apart, Example, LONGEST, Loss, Repeats, versions};

/// A staged row; rows with the same key stand together, the one that stays last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Staged {
    key: RowHash,
    version: Option<i64>,
    slice: i64,
    row: u64,
}

impl Record for Staged {
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

/// A row whose content is to be compared: one of a pair, which is named after the row that gives way.
type Wanted = [u64; 2];

impl Record for Wanted {
    const BYTES: usize = 16;

    fn put(&self, out: &mut Vec<u8>) {
        for number in self {
            number.put(out);
        }
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        Some([u64::get(bytes)?, u64::get(bytes.get(8..)?)?])
    }
}

/// One row of a pair, with its content; that which gives way comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Compared {
    pair: u64,
    stays: bool,
    row: u64,
    content: RowHash,
    slice: i64,
    version: Option<i64>,
}

impl Record for Compared {
    const BYTES: usize = 8 + 1 + Staged::BYTES;

    fn put(&self, out: &mut Vec<u8>) {
        self.pair.put(out);
        out.push(u8::from(self.stays));
        let Self { content: key, version, slice, row, .. } = *self;
        Staged { key, version, slice, row }.put(out);
    }

    fn get(bytes: &[u8]) -> Option<Self> {
        let Staged { key: content, version, slice, row } = Staged::get(bytes.get(9..)?)?;
        let (pair, stays) = (u64::get(bytes)?, bytes.get(8) == Some(&1));
        Some(Self { pair, stays, row, content, slice, version })
    }
}

/// The staged rows that give way.
pub(super) struct Lost {
    rows: Option<Sorted<u64>>,
    pub(super) repeats: Repeats,
    pub(super) example: Option<Example>,
}

impl Lost {
    /// Asks of rows in their order.
    pub(super) fn cursor(&self) -> Cursor<'_> {
        Cursor { rows: self.rows.as_ref().map(Sorted::iter), next: None }
    }
}

/// Tells of one row after the other whether it gives way.
pub(super) struct Cursor<'lost> {
    rows: Option<Iter<'lost, u64>>,
    next: Option<u64>,
}

impl Cursor<'_> {
    /// Whether a row gives way; the rows must be asked for in their order.
    pub(super) fn has(&mut self, row: u64) -> Result<bool> {
        while self.next.is_none_or(|next| next < row) {
            let Some(next) = self.rows.as_mut().and_then(Iterator::next).transpose()? else {
                return Ok(false);
            };
            self.next = Some(next);
        }
        Ok(self.next == Some(row))
    }
}

/// Looks for rows with the same key.
pub(super) struct Search<'table> {
    table: &'table Table,
    staging: &'table Staging,
    void: &'table HashSet<i64>,
    /// Columns that make a row another.
    content: Vec<usize>,
}

impl<'table> Search<'table> {
    pub(super) fn new(
        table: &'table Table,
        staging: &'table Staging,
        void: &'table HashSet<i64>,
        content: Vec<usize>,
    ) -> Self {
        Self { table, staging, void, content }
    }

    pub(super) async fn run(&self) -> Result<Lost> {
        let mut lost = Lost { rows: None, repeats: Repeats::default(), example: None };
        if self.table.schema.key.is_empty() {
            return Ok(lost);
        }
        let (rows, wanted) = self.lost().await?;
        if rows.is_empty() {
            return Ok(lost);
        }
        let mut first = None;
        let mut before: Option<Compared> = None;
        for compared in self.compared(&wanted).await?.iter() {
            let compared = compared?;
            let Some(gives_way) = before.replace(compared).filter(|one| one.pair == compared.pair)
            else {
                continue;
            };
            let versions = gives_way.version.zip(compared.version);
            let loss = Loss {
                apart: Apart::of(gives_way.slice, compared.slice),
                differs: gives_way.content != compared.content,
                newer: versions.is_some_and(|(one, other)| one != other),
            };
            let before = lost.repeats.collided;
            lost.repeats.add(loss.verdict(), 1);
            if lost.repeats.collided > before && first.is_none() {
                first = Some([gives_way.row, compared.row]);
            }
        }
        if let Some(pair) = first {
            lost.example = self.example(pair).await?;
        }
        lost.rows = Some(rows);
        Ok(lost)
    }

    /// The rows that give way, and each with the one to which it does.
    async fn lost(&self) -> Result<(Sorted<u64>, Sorted<Wanted>)> {
        let folder = self.staging.scratch();
        let (mut lost, mut wanted) = (Sorter::new(&folder), Sorter::new(&folder));
        let mut before: Option<Staged> = None;
        for staged in self.staged().await?.iter() {
            let staged = staged?;
            if let Some(other) = before.replace(staged).filter(|one| one.key == staged.key) {
                lost.push(other.row)?;
                wanted.push([other.row, other.row])?;
                wanted.push([staged.row, other.row])?;
            }
        }
        Ok((lost.done()?, wanted.done()?))
    }

    /// All rows that count, by their keys.
    async fn staged(&self) -> Result<Sorted<Staged>> {
        let mut sorter = Sorter::new(&self.staging.scratch());
        let key = self.table.schema.key.iter().map(String::as_str);
        let names = key.clone().chain(self.table.version.as_deref()).chain([SLICE, MARK]);
        let mut batches = self.staging.columns(&names.collect::<Vec<_>>())?;
        while let Some((batch, first)) = batches.next().await? {
            let at = |name: &str| batch.schema().index_of(name).map_err(broken);
            let key: Vec<usize> = key.clone().map(at).collect::<Result<_>>()?;
            let marks = column(&batch, MARK)?.as_boolean();
            let (slices, versions) = (slices(&batch)?, self.versions(&batch)?);
            for (row, key) in hashes(&batch, &key).into_iter().enumerate() {
                let slice = slices.value(row);
                if marks.is_null(row) && !self.void.contains(&slice) {
                    let version = versions.as_ref().filter(|all| all.is_valid(row));
                    let version = version.map(|all| all.value(row));
                    sorter.push(Staged { key, version, slice, row: first + row as u64 })?;
                }
            }
        }
        sorter.done()
    }

    /// The contents of the rows that are wanted, pair by pair.
    async fn compared(&self, wanted: &Sorted<Wanted>) -> Result<Sorted<Compared>> {
        let mut sorter = Sorter::new(&self.staging.scratch());
        let mut wanted = wanted.iter().peekable();
        let mut batches = self.staging.batches();
        while let Some((batch, first)) = batches.next().await? {
            let end = first + batch.num_rows() as u64;
            let is_here =
                |wanted: &Result<Wanted>| wanted.as_ref().map_or(true, |one| one[0] < end);
            let (slices, versions) = (slices(&batch)?, self.versions(&batch)?);
            while let Some(one) = wanted.next_if(is_here) {
                let [row, pair] = one?;
                let at = usize::try_from(row - first).unwrap_or_default();
                let content = hashes(&batch.slice(at, 1), &self.content);
                let version = versions.as_ref().filter(|all| all.is_valid(at));
                sorter.push(Compared {
                    pair,
                    stays: row != pair,
                    row,
                    content: content.first().copied().unwrap_or_default(),
                    slice: slices.value(at),
                    version: version.map(|all| all.value(at)),
                })?;
            }
        }
        sorter.done()
    }

    /// What two rows are to a person.
    async fn example(&self, pair: [u64; 2]) -> Result<Option<Example>> {
        let mut found = Vec::new();
        let mut batches = self.staging.batches();
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
            let text = super::json::texts(field, column(one, name)?)?.into_iter().flatten().next();
            let text = text.unwrap_or_default();
            let text: String = secret::line(text.trim_matches('"')).chars().take(LONGEST).collect();
            key.push(format!("{name}={text}"));
        }
        let differs = |at: &&usize| one.column(**at) != other.column(**at);
        let name = |at: &usize| one.schema().field(*at).name().clone();
        let columns = self.content.iter().filter(differs).map(name).collect();
        Ok(Some(Example { key: key.join(", "), columns }))
    }

    /// The version of each row, where the table has one.
    fn versions(&self, batch: &RecordBatch) -> Result<Option<Int64Array>> {
        let Some(name) = &self.table.version else { return Ok(None) };
        Ok(versions(column(batch, name)?))
    }
}

fn slices(batch: &RecordBatch) -> Result<&Int64Array> {
    Ok(column(batch, SLICE)?.as_primitive::<Int64Type>())
}
