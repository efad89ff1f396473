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

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that a column of this type keeps, or the value that the error names.
    fn fit(kind: ColumnType, values: &[Option<&str>]) -> Result<usize, String> {
        let file = ExistingFile::Local("rows.jsonl".into());
        let column = Column::new("c", kind);
        decoded(&file, &column, values)
            .map(|array| array.len() - array.null_count())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn values_fit_their_own_type_and_wider_ones() {
        for (kind, value) in [
            (ColumnType::Int, "1"),
            (ColumnType::Float, "1"),
            (ColumnType::Float, "1.5"),
            (ColumnType::Decimal, "1.5"),
            (ColumnType::Bool, "true"),
            (ColumnType::Date, "\"2026-01-31\""),
            (ColumnType::Timestamp, "\"2026-01-31\""),
            (ColumnType::Text, "1"),
            (ColumnType::Text, "{\"a\":1}"),
            (ColumnType::Json, "[1]"),
        ] {
            assert_eq!(fit(kind, &[Some(value), None]), Ok(1), "{kind} {value}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_named() {
        for (kind, value) in [
            (ColumnType::Int, "\"x\""),
            (ColumnType::Bool, "\"x\""),
            (ColumnType::Date, "\"2026-01-31T09:30:00Z\""),
            (ColumnType::Timestamp, "\"soon\""),
        ] {
            let error = fit(kind, &[None, Some(value)]).unwrap_err();
            assert!(error.contains(value) && error.contains("rows.jsonl"), "{kind}: {error}");
        }
    }

    #[test]
    fn a_column_that_the_table_lacks_is_refused() {
        let file = ExistingFile::Local("rows.jsonl".into());
        let columns = vec![Column::new("a", ColumnType::Int)];
        let schema = TableSchema { columns, key: Vec::new() };
        refuse_unknown(&file, &schema, ["a"].into_iter()).unwrap();
        let error = refuse_unknown(&file, &schema, ["a", "b"].into_iter()).unwrap_err();
        assert!(error.chain().contains("`b`"), "{error:?}");
    }
}
