//! Values of existing files, fitted to the columns of a table.

use arrow_array::{Array, ArrayRef};

use crate::decode;
use crate::error::Result;
use crate::schema::{Column, ColumnType, TableSchema};
use crate::write::formats::existing::ExistingFile;

/// Bytes of a date in JSON, with its quotes.
const DATE: usize = "\"2026-01-31\"".len();

/// JSON texts as a column of a table.
///
/// # Errors
/// A value does not fit the column's type: weir has not written it.
pub(crate) fn decoded(
    file: &ExistingFile,
    column: &Column,
    values: &[Option<&str>],
) -> Result<ArrayRef> {
    // Wider types take what was written in a narrower one.
    let texts: Vec<Option<String>> = values
        .iter()
        .map(|value| {
            value.map(|raw| match column.kind {
                ColumnType::Text if !raw.starts_with('"') => {
                    serde_json::Value::from(raw).to_string()
                }
                _ => raw.to_owned(),
            })
        })
        .collect();
    let array = decode::array(column.kind, texts.iter().map(Option::as_deref));
    // The decoder reads a date from a timestamp too, which would lose the time.
    let is_longer = |text: &&String| column.kind == ColumnType::Date && text.len() > DATE;
    let lost = texts
        .iter()
        .enumerate()
        .find_map(|(row, text)| text.as_ref().filter(|text| array.is_null(row) || is_longer(text)));
    match lost {
        None => Ok(array),
        Some(text) => {
            let shown: String = text.chars().take(40).collect();
            Err(file.type_mismatch(&column.name, &format!("`{shown}` in a row"), column.kind))
        }
    }
}

/// Refuses a column that the table does not have: the columns of a table's first file are added to the
/// table, so a column that only later rows or files have would be lost.
pub(crate) fn refuse_unknown<'name>(
    file: &ExistingFile,
    schema: &TableSchema,
    mut names: impl Iterator<Item = &'name str>,
) -> Result<()> {
    match names.find(|name| schema.position(name).is_none()) {
        None => Ok(()),
        Some(name) => Err(file.unreadable(format!("column `{name}` is in some of the rows only"))),
    }
}
