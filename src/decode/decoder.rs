//! A layout compiled into tries, one per level of nested records.

use super::layout::{ColumnSource, DecodeError, Layout};
use super::trie::{Trie, ValueUse};
use crate::path::PathStep;

/// A compiled layout.
#[derive(Debug)]
pub struct Decoder {
    pub(super) layout: Layout,
    /// Trie of the fields around the records.
    pub(super) envelope: Trie,
    /// One level per record, from the outermost enclosing record to the record itself.
    pub(super) levels: Vec<RecordLevel>,
}

/// Fields in which a response reports errors; then values with which it states that it has failed.
pub(super) const ERRORS: [&str; 5] = ["errors", "error", "success", "ok", "status"];

#[derive(Debug)]
pub(super) struct RecordLevel {
    pub(super) trie: Trie,
    /// Whether its records are a list.
    pub(super) is_list: bool,
    /// Indexes of the columns with values in records of this level.
    pub(super) columns: Vec<usize>,
}

impl Decoder {
    /// Compiles a layout.
    ///
    /// # Errors
    /// A path that cannot be followed in one pass: `[]` in a column's path, or more `^` than there
    /// are enclosing records.
    pub fn new(layout: Layout) -> Result<Self, DecodeError> {
        let mut segments: Vec<Vec<PathStep>> = vec![Vec::new()];
        for step in &layout.records.steps {
            match (step, segments.last_mut()) {
                (PathStep::Each, _) => segments.push(Vec::new()),
                (step, Some(segment)) => segment.push(step.clone()),
                (_, None) => {}
            }
        }
        // `data[]` means the list at `data`.
        let listed = segments.len() > 1 && segments.last().is_some_and(Vec::is_empty);
        if listed {
            segments.pop();
        }
        let last = segments.len() - 1;
        let is_list =
            |depth| depth < last || listed || layout.paged && !layout.records.steps.is_empty();
        let level = |(depth, _)| RecordLevel {
            trie: Trie::default(),
            is_list: is_list(depth),
            columns: Vec::new(),
        };
        let mut levels: Vec<RecordLevel> = segments.iter().enumerate().map(level).collect();
        let mut envelope = Trie::default();
        for (depth, segment) in segments.iter().enumerate() {
            let trie = match depth.checked_sub(1).and_then(|outer| levels.get_mut(outer)) {
                Some(level) => &mut level.trie,
                None => &mut envelope,
            };
            trie.add(segment, ValueUse::Records(depth));
        }
        for (index, path) in layout.captures.iter().enumerate() {
            envelope.add(&path.steps, ValueUse::Capture(index));
        }
        if !layout.records.steps.is_empty() {
            for (index, name) in ERRORS.iter().enumerate() {
                let index = layout.captures.len() + index;
                envelope.add(&[PathStep::Key((*name).to_owned())], ValueUse::Capture(index));
            }
        }
        for (index, column) in layout.columns.iter().enumerate() {
            add_column(&mut levels, index, column)?;
        }
        let innermost = levels.last_mut().expect("a path has at least one segment");
        for (index, path) in layout.taps.iter().enumerate() {
            innermost.trie.add(&path.steps, ValueUse::Tap(index));
        }
        for path in &layout.ignore {
            innermost.trie.add(&path.steps, ValueUse::Ignore);
        }
        Ok(Self { layout, envelope, levels })
    }
}

fn add_column(
    levels: &mut [RecordLevel],
    index: usize,
    column: &ColumnSource,
) -> Result<(), DecodeError> {
    let mut own_level = None;
    for (rank, path) in column.paths.iter().enumerate() {
        let ups = path.steps.iter().take_while(|step| **step == PathStep::Up).count();
        let steps = path.steps.get(ups..).unwrap_or_default();
        let wrong = |why: &str| DecodeError::Shape(format!("`{path}` {why}"));
        if steps.contains(&PathStep::Each) {
            return Err(wrong("leads to many values; a column has one, or type `json`"));
        }
        let at = levels.len().checked_sub(1 + ups);
        let at = at.ok_or_else(|| wrong("has more `^` than there are enclosing records"))?;
        if own_level.is_some_and(|level| level != at) {
            return Err(wrong("is in another record than the column's other paths"));
        }
        own_level = Some(at);
        if let Some(level) = levels.get_mut(at) {
            let rank = u8::try_from(rank).unwrap_or(u8::MAX - 1);
            level.trie.add(steps, ValueUse::Column { index, rank });
        }
    }
    let at = own_level.unwrap_or(levels.len() - 1);
    if let Some(level) = levels.get_mut(at) {
        level.columns.push(index);
    }
    Ok(())
}
