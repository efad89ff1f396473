//! JSON bytes to Arrow columns in one pass, along a trie of declared paths.
//!
//! A response is visited once: values on declared paths go straight into column builders, others are
//! skipped or copied into the `_extra` object of their record. No document tree is built.

mod column;
mod extra;
mod scalar;
mod trie;
mod visit;

use std::fmt;

use arrow_array::{ArrayRef, StringArray, cast::AsArray};
use serde_json::Value;

use crate::path::{Path, Step};
use crate::schema::ColumnType;
use crate::secret;

use column::ColumnBuilder;
use extra::ExtraBuilder;
use trie::{Target, Trie};

/// What is to be taken from a response.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Path of the records; `[]` in it enters records that enclose others: `results[].labels`. What `[]`
    /// stands behind is a list.
    pub records: Path,
    /// Whether the records are a list, of which pages come: one object is an error then, but where the
    /// records are the response itself.
    pub paged: bool,
    /// Whether null in the place of the records says that there are none; else it is an error.
    pub null_is_none: bool,
    /// Columns, in the order in which they are wanted.
    pub columns: Vec<ColumnSource>,
    /// Paths in a record whose values are wanted as text beside the columns.
    pub taps: Vec<Path>,
    /// Paths outside the records, for finding the next page.
    pub captures: Vec<Path>,
    /// What becomes of other fields of a record.
    pub others: Others,
    /// Paths in a record that are dropped whatever `others` says.
    pub ignore: Vec<Path>,
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub struct ColumnSource {
    /// Type.
    pub kind: ColumnType,
    /// Paths in a record, `^` leading to the enclosing record; the first that is there and not null
    /// gives the value.
    pub paths: Vec<Path>,
    /// JSON text of the value of a record that has none.
    pub default: Option<String>,
}

/// What becomes of fields of a record that are on no path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others {
    /// They are kept as one JSON object.
    #[default]
    Keep,
    /// They are dropped.
    Drop,
    /// They are an error.
    Refuse,
}

/// What a response held.
#[derive(Debug)]
pub struct Page {
    /// Number of records.
    pub rows: usize,
    /// One array per column of the layout, each of `rows` values.
    pub columns: Vec<ArrayRef>,
    /// Per record its other fields and misfits as a JSON object, or null; absent unless kept.
    pub extra: Option<ArrayRef>,
    /// One array per tap, each of `rows` values.
    pub taps: Vec<StringArray>,
    /// One value per capture.
    pub captures: Vec<Option<Value>>,
    /// Values that did not fit their column.
    pub misfits: u64,
    /// Path of the first of them.
    pub first_misfit: Option<String>,
    /// Errors that the response tells of beside its records.
    pub errors: Option<String>,
    /// Whether the response says that it has failed (`success: false`, `status: error`).
    pub failed: bool,
    /// Per column of the layout the values that did not fit it.
    pub column_misfits: Vec<u64>,
}

/// Why a response could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not whole, valid JSON.
    Malformed(String),
    /// It is something else than JSON, and will be so again.
    NotJson(String),
    /// It is JSON, but not of the shape that the layout expects.
    Shape(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(formatter, "the answer is not valid JSON: {why}"),
            Self::NotJson(what) => write!(formatter, "the answer is not JSON: {what}"),
            Self::Shape(why) => write!(formatter, "the answer has another shape: {why}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A layout made ready.
#[derive(Debug)]
pub struct Decoder {
    layout: Layout,
    /// Around the records.
    envelope: Trie,
    /// From the outermost enclosing record to the record itself.
    levels: Vec<Level>,
}

/// Where a response tells of errors beside its records; then, where it says that it has failed, and how.
const ERRORS: [&str; 5] = ["errors", "error", "success", "ok", "status"];
const FAILED: [&str; 4] = ["error", "failed", "failure", "fail"];

#[derive(Debug)]
struct Level {
    trie: Trie,
    /// Whether its records are a list.
    is_list: bool,
    /// Columns whose values are in records of this level.
    columns: Vec<usize>,
}

impl Decoder {
    /// Compiles a layout.
    ///
    /// # Errors
    /// A path that cannot be followed in one pass: `[]` in a column's path, or more `^` than there
    /// are enclosing records.
    pub fn new(layout: Layout) -> Result<Self, DecodeError> {
        let mut segments: Vec<Vec<Step>> = vec![Vec::new()];
        for step in &layout.records.steps {
            match (step, segments.last_mut()) {
                (Step::Each, _) => segments.push(Vec::new()),
                (step, Some(segment)) => segment.push(step.clone()),
                (_, None) => {}
            }
        }
        // `data[]` is the list at `data`.
        let listed = segments.len() > 1 && segments.last().is_some_and(Vec::is_empty);
        if listed {
            segments.pop();
        }
        let last = segments.len() - 1;
        let is_list =
            |depth| depth < last || listed || layout.paged && !layout.records.steps.is_empty();
        let level = |(depth, _)| Level {
            trie: Trie::default(),
            is_list: is_list(depth),
            columns: Vec::new(),
        };
        let mut levels: Vec<Level> = segments.iter().enumerate().map(level).collect();
        let mut envelope = Trie::default();
        for (depth, segment) in segments.iter().enumerate() {
            let trie = match depth.checked_sub(1).and_then(|outer| levels.get_mut(outer)) {
                Some(level) => &mut level.trie,
                None => &mut envelope,
            };
            trie.add(segment, Target::Records(depth));
        }
        for (index, path) in layout.captures.iter().enumerate() {
            envelope.add(&path.steps, Target::Capture(index));
        }
        if !layout.records.steps.is_empty() {
            for (index, name) in ERRORS.iter().enumerate() {
                let index = layout.captures.len() + index;
                envelope.add(&[Step::Key((*name).to_owned())], Target::Capture(index));
            }
        }
        for (index, column) in layout.columns.iter().enumerate() {
            add_column(&mut levels, index, column)?;
        }
        let innermost = levels.last_mut().expect("a path has at least one segment");
        for (index, path) in layout.taps.iter().enumerate() {
            innermost.trie.add(&path.steps, Target::Tap(index));
        }
        for path in &layout.ignore {
            innermost.trie.add(&path.steps, Target::Ignore);
        }
        Ok(Self { layout, envelope, levels })
    }

    /// Decodes one response's body.
    pub fn decode(&self, body: &[u8]) -> Result<Page, DecodeError> {
        let mut run = Run::new(self);
        visit::document(&mut run, body).map_err(|error| {
            let text = error.to_string();
            match error.classify() {
                serde_json::error::Category::Data => DecodeError::Shape(text),
                _ => not_json(body).map_or(DecodeError::Malformed(text), DecodeError::NotJson),
            }
        })?;
        let found = run.records_found;
        let page = run.finish();
        if let Some(errors) = page.errors.as_ref().filter(|_| !found || page.rows == 0) {
            return Err(DecodeError::Shape(format!(
                "there are no records, and it tells of errors: {errors}"
            )));
        }
        if page.failed && page.rows == 0 {
            let what = "there are no records, and it says that it has failed (`success`, `ok` or `status`)";
            return Err(DecodeError::Shape(what.to_owned()));
        }
        if !found {
            let path = &self.layout.records;
            return Err(DecodeError::Shape(format!("there is nothing at `{path}`")));
        }
        Ok(page)
    }
}

/// What a body is that is not JSON, where that can be told; a body of JSON that is broken or cut short, or a
/// page of HTML that something in between may have sent, can come whole the next time.
fn not_json(body: &[u8]) -> Option<String> {
    let start = body.trim_ascii_start();
    let Some(first) = start.first() else {
        let what = "it is empty; where that means that there are no records, say so by a rule \
                    `{ status: 204, then: empty }` under `responses`";
        return Some(what.to_owned());
    };
    if body.starts_with(b"\xFF\xFE") || body.starts_with(b"\xFE\xFF") {
        return Some("it is UTF-16, and JSON is UTF-8".to_owned());
    }
    let mut values =
        serde_json::Deserializer::from_slice(start).into_iter::<serde::de::IgnoredAny>();
    let one = values.next().is_some_and(|value| value.is_ok());
    let rest = start.get(values.byte_offset()..).unwrap_or_default().trim_ascii_start();
    match first {
        b'<' if start.starts_with(b"<?xml") => Some("it is XML".to_owned()),
        b'<' => None,
        b'{' | b'[' if one && rest.first() == Some(first) => {
            Some("several values follow each other, as in newline-delimited JSON".to_owned())
        }
        b'{' | b'[' => None,
        _ => {
            let text = String::from_utf8_lossy(start.get(..60).unwrap_or(start)).into_owned();
            let line = text.lines().next().unwrap_or_default();
            Some(format!("it begins with {}", Value::from(line)))
        }
    }
}

/// The value at a path of a JSON text; a number that is none of 64 bits is the text of its digits.
pub fn value_at(json: &[u8], path: &Path) -> Option<Value> {
    let layout = Layout { captures: vec![path.clone()], ..Layout::default() };
    let mut envelope = Trie::default();
    envelope.add(&path.steps, Target::Capture(0));
    let decoder = Decoder { layout, envelope, levels: Vec::new() };
    let mut run = Run::new(&decoder);
    visit::document(&mut run, json).ok()?;
    run.captures.into_iter().next().flatten()
}

/// A timestamp as APIs write it, or a date, in microseconds since 1970; `None` when it is neither.
pub fn timestamp(text: &str) -> Option<i64> {
    scalar::timestamp(&serde_json::Value::from(text).to_string())
}

/// An array with the same value in every row, given as JSON text; null when there is none or it does
/// not fit.
pub fn repeated(kind: ColumnType, json: Option<&str>, rows: usize) -> ArrayRef {
    let mut column = ColumnBuilder::new(kind);
    if let Some(more) = rows.checked_sub(1) {
        push(&mut column, json);
        column.repeat_last(more);
    }
    column.finish()
}

/// An array of values given as JSON text; null where there is none or it does not fit.
pub fn array<'json>(
    kind: ColumnType,
    values: impl Iterator<Item = Option<&'json str>>,
) -> ArrayRef {
    let mut column = ColumnBuilder::new(kind);
    for json in values {
        push(&mut column, json);
    }
    column.finish()
}

fn push(column: &mut ColumnBuilder, json: Option<&str>) {
    if json.is_none_or(|json| column.push_json(json).is_err()) {
        column.push_null();
    }
}

fn add_column(
    levels: &mut [Level],
    index: usize,
    column: &ColumnSource,
) -> Result<(), DecodeError> {
    let mut own_level = None;
    for (rank, path) in column.paths.iter().enumerate() {
        let ups = path.steps.iter().take_while(|step| **step == Step::Up).count();
        let steps = path.steps.get(ups..).unwrap_or_default();
        let wrong = |why: &str| DecodeError::Shape(format!("`{path}` {why}"));
        if steps.contains(&Step::Each) {
            return Err(wrong("leads to many values; a column has one, or type `json`"));
        }
        let at = levels.len().checked_sub(1 + ups);
        let at = at.ok_or_else(|| wrong("goes up further than there are enclosing records"))?;
        if own_level.is_some_and(|level| level != at) {
            return Err(wrong("is in another record than the column's other paths"));
        }
        own_level = Some(at);
        if let Some(level) = levels.get_mut(at) {
            let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
            level.trie.add(steps, Target::Column { index, rank });
        }
    }
    let at = own_level.unwrap_or(levels.len() - 1);
    if let Some(level) = levels.get_mut(at) {
        level.columns.push(index);
    }
    Ok(())
}

/// Rank of a column that has no value in the present record yet.
const UNSET: u8 = u8::MAX;

/// One response on its way into columns.
struct Run<'decoder> {
    decoder: &'decoder Decoder,
    columns: Vec<ColumnBuilder>,
    /// Per column the rank of the path that gave the present record's value, or [`UNSET`].
    ranks: Vec<u8>,
    taps: Vec<ColumnBuilder>,
    extra: Option<ExtraBuilder>,
    captures: Vec<Option<Value>>,
    rows: usize,
    records_found: bool,
    misfits: u64,
    first_misfit: Option<String>,
    column_misfits: Vec<u64>,
}

impl<'decoder> Run<'decoder> {
    fn new(decoder: &'decoder Decoder) -> Self {
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

    /// Counts a value that does not fit a column.
    fn misses(&mut self, column: usize) {
        if let Some(count) = self.column_misfits.get_mut(column) {
            *count += 1;
        }
    }

    fn is_innermost(&self, level: usize) -> bool {
        level + 1 == self.decoder.levels.len()
    }

    /// Whether a column or tap has the whole record of this level.
    fn wants_whole(&self, level: usize) -> bool {
        let root = self.decoder.levels.get(level).and_then(|level| level.trie.node(0));
        let whole = |target: &Target| matches!(target, Target::Column { .. } | Target::Tap(_));
        root.is_some_and(|root| root.targets.iter().any(whole))
    }

    fn columns_of(&self, level: usize) -> &'decoder [usize] {
        self.decoder.levels.get(level).map(|level| level.columns.as_slice()).unwrap_or_default()
    }

    /// Forgets the values of the record before.
    fn begin_record(&mut self, level: usize) {
        for index in self.columns_of(level) {
            if let Some(rank) = self.ranks.get_mut(*index) {
                *rank = UNSET;
            }
        }
    }

    /// Completes a record: columns without a value get their default or null, and a record that
    /// encloses others gives its values to each of them.
    fn end_record(&mut self, level: usize, rows_before: usize) {
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
            let Some(column) = self.columns.get_mut(*index) else { continue };
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

    /// Gives a value to a column, unless a path of a better rank has given it one.
    fn set_column(&mut self, index: usize, rank: u8, raw: &str) -> Result<(), column::Misfit> {
        let Some(current) = self.ranks.get_mut(index) else { return Ok(()) };
        let Some(column) = self.columns.get_mut(index) else { return Ok(()) };
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

    fn set_tap(&mut self, index: usize, raw: &str) {
        let Some(tap) = self.taps.get_mut(index) else { return };
        if tap.len() == self.rows && tap.push_json(raw).is_err() {
            tap.push_null();
        }
    }

    fn finish(mut self) -> Page {
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

/// Whether a value says that there is nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// A value as JSON of 200 characters at most; secrets are masked first, since a part of one is not recognised.
fn shortened(value: &Value) -> String {
    let text = secret::shown(&value.to_string());
    let end = text.char_indices().nth(200).and_then(|(end, _)| text.get(..end));
    end.map_or_else(|| text.clone(), |start| format!("{start}…"))
}

#[cfg(test)]
mod tests;
