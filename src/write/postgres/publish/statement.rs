//! Statements of a commit, and their errors.

use tokio_postgres::Transaction;

use crate::error::{Error, Result};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::StagingTable;

/// Runs a statement of a commit.
pub(crate) async fn run(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    statement: &str,
) -> Result<()> {
    let done = transaction.batch_execute(statement).await;
    let what = || format!("table {} cannot be written", stage.target);
    done.map_err(|error| failure::definition(what(), statement, &error))
}

/// The error of a statement of a commit.
pub(crate) fn failed(stage: &StagingTable, error: &tokio_postgres::Error) -> Error {
    failure::statement(format!("table {} cannot be written", stage.target), error)
}

/// The error of a table with duplicate keys, into which rows cannot be merged.
pub(crate) fn ambiguous(stage: &StagingTable) -> Error {
    let (name, key) = (&stage.target, stage.key_columns());
    Error::target(format!("table {name} already has several rows with the same {key}"))
        .with_hint("remove the duplicates, or load it once with the mode full-refresh")
}

/// The error of a table that another session dropped during the load.
pub(crate) fn dropped(stage: &StagingTable) -> Error {
    Error::target(format!("table {} was dropped while weir loaded it", stage.target))
        .with_hint("run again")
}

/// Adds the staged rows to the table.
pub(crate) async fn insert(transaction: &Transaction<'_>, stage: &StagingTable) -> Result<()> {
    let (name, table, columns) = (&stage.target, &stage.staging, stage.columns());
    let statement =
        format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {table}; DROP TABLE {table}");
    run(transaction, stage, &statement).await
}
