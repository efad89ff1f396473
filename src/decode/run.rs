//! The decoding of one response into columns.

use arrow_array::cast::AsArray;
use serde_json::Value;

use super::arrays::push;
use super::column::{self, ColumnBuilder};
use super::decoder::{Decoder, ERRORS};
use super::extra::ExtraBuilder;
use super::layout::{Others, Page};
use super::trie::ValueUse;
use crate::schema::ColumnType;
use crate::secret;

/// Rank of a column without a value in the current record.
const UNSET: u8 = u8::MAX;

/// Why a builder exists: the indexes come from the same layout.
const HAS_BUILDER: &str = "every column and tap of the layout has a builder";

/// The decoding of one response into columns.
pub(super) struct Decoding<'decoder> {
    pub(super) decoder: &'decoder Decoder,
    columns: Vec<ColumnBuilder>,
    /// Per column: rank of the path that provided the current record's value, or [`UNSET`].
    ranks: Vec<u8>,
    taps: Vec<ColumnBuilder>,
    pub(super) extra: Option<ExtraBuilder>,
    pub(super) captures: Vec<Option<Value>>,
    pub(super) rows: usize,
    pub(super) records_found: bool,
    pub(super) misfits: u64,
    pub(super) first_misfit: Option<String>,
    column_misfits: Vec<u64>,
}

impl<'decoder> Decoding<'decoder> {
    pub(super) fn new(decoder: &'decoder Decoder) -> Self {
        let layout = &decoder.layout;
        Self {
            decoder,
            columns: layout.columns.iter().map(|column| ColumnBuilder::new(column.kind)).collect(),
            ranks: vec![UNSET; layout.columns.len()],
            taps: layout.taps.iter().map(|_| ColumnBuilder::new(ColumnType::Text)).collect(),
            extra: (layout.others == Others::Keep).then(ExtraBuilder::default),
            captures: vec![None; layout.captures.len() + ERRORS.len()],
            rows: 0,
            records_found: false,
            misfits: 0,
            first_misfit: None,
            column_misfits: vec![0; layout.columns.len()],
        }
    }

    /// Counts a type mismatch of a column.
    pub(super) fn misses(&mut self, column: usize) {
        if let Some(count) = self.column_misfits.get_mut(column) {
            *count += 1;
        }
    }

    pub(super) fn is_innermost(&self, level: usize) -> bool {
        level + 1 == self.decoder.levels.len()
    }

    /// Whether a column or tap takes the whole record of this level.
    pub(super) fn wants_whole(&self, level: usize) -> bool {
        let root = self.decoder.levels.get(level).and_then(|level| level.trie.node(0));
        let whole =
            |target: &ValueUse| matches!(target, ValueUse::Column { .. } | ValueUse::Tap(_));
        root.is_some_and(|root| root.targets.iter().any(whole))
    }

    fn columns_of(&self, level: usize) -> &'decoder [usize] {
        self.decoder.levels.get(level).map(|level| level.columns.as_slice()).unwrap_or_default()
    }

    /// Resets the ranks at the start of a record.
    pub(super) fn begin_record(&mut self, level: usize) {
        for index in self.columns_of(level) {
            if let Some(rank) = self.ranks.get_mut(*index) {
                *rank = UNSET;
            }
        }
    }

    /// Completes a record. Columns without a value get their default or null; the values of a
    /// record that encloses others are repeated for each of them.
    pub(super) fn end_record(&mut self, level: usize, rows_before: usize) {
        if self.is_innermost(level) {
            self.rows += 1;
            for tap in &mut self.taps {
                if tap.len() < self.rows {
                    tap.push_null();
                }
            }
            if let Some(extra) = &mut self.extra {
                extra.end_record();
            }
        }
        let inside = self.rows - rows_before;
        for index in self.columns_of(level) {
            let unset = self.ranks.get(*index).is_none_or(|rank| *rank == UNSET);
            let column = self.columns.get_mut(*index).expect(HAS_BUILDER);
            if unset {
                let source = self.decoder.layout.columns.get(*index);
                let default = source.and_then(|source| source.default.as_deref());
                push(column, default);
            }
            match inside.checked_sub(1) {
                Some(more) => column.repeat_last(more),
                None => column.truncate(rows_before),
            }
        }
    }

    /// Sets the value of a column, unless a path with a lower rank has already set it.
    pub(super) fn set_column(
        &mut self,
        index: usize,
        rank: u8,
        raw: &str,
    ) -> Result<(), column::Misfit> {
        let current = self.ranks.get_mut(index).expect(HAS_BUILDER);
        let column = self.columns.get_mut(index).expect(HAS_BUILDER);
        if *current <= rank {
            return Ok(());
        }
        if *current != UNSET {
            column.truncate(column.len() - 1);
            *current = UNSET;
        }
        column.push_json(raw)?;
        *current = rank;
        Ok(())
    }

    pub(super) fn set_tap(&mut self, index: usize, raw: &str) {
        let tap = self.taps.get_mut(index).expect(HAS_BUILDER);
        if tap.len() == self.rows && tap.push_json(raw).is_err() {
            tap.push_null();
        }
    }

    pub(super) fn finish(mut self) -> Page {
        let told = self.captures.split_off(self.decoder.layout.captures.len());
        let errors = told.iter().take(2).flatten().find(|value| !is_empty(value));
        let failed = told.iter().skip(2).flatten().any(|value| {
            let word = value.as_str().map(str::to_lowercase);
            *value == Value::Bool(false) || word.is_some_and(|word| FAILED.contains(&word.as_str()))
        });
        let text = |column: ColumnBuilder| column.finish().as_string::<i32>().clone();
        Page {
            rows: self.rows,
            columns: self.columns.into_iter().map(ColumnBuilder::finish).collect(),
            extra: self.extra.map(ExtraBuilder::finish),
            taps: self.taps.into_iter().map(text).collect(),
            captures: self.captures,
            misfits: self.misfits,
            first_misfit: self.first_misfit,
            errors: errors.map(shortened),
            failed,
            column_misfits: self.column_misfits,
        }
    }
}

const FAILED: [&str; 4] = ["error", "failed", "failure", "fail"];

/// Whether a value means that there is no error.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// A value as JSON, at most 200 characters. Secrets are masked before it is truncated, because a
/// part of a secret would not be recognized.
fn shortened(value: &Value) -> String {
    let text = secret::shown(&value.to_string());
    let end = text.char_indices().nth(200).and_then(|(end, _)| text.get(..end));
    end.map_or_else(|| text.clone(), |start| format!("{start}…"))
}
