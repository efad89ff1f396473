//! Statements of a commit, and their errors.

use tokio_postgres::Transaction;

use crate::error::{Error, Result};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::Stage;

pub(crate) async fn run(
    transaction: &Transaction<'_>,
    stage: &Stage,
    statement: &str,
) -> Result<()> {
    let done = transaction.batch_execute(statement).await;
    let what = || format!("table {} cannot be written", stage.name);
    done.map_err(|error| failure::definition(what(), statement, &error))
}

pub(crate) fn failed(stage: &Stage, error: &tokio_postgres::Error) -> Error {
    failure::statement(format!("table {} cannot be written", stage.name), error)
}

/// The error of a table whose rows cannot be merged into.
pub(crate) fn ambiguous(stage: &Stage) -> Error {
    let (name, key) = (&stage.name, stage.key_columns());
    Error::target(format!("table {name} already has several rows with the same {key}"))
        .with_hint("remove the duplicates, or load it once with the mode full-refresh")
}

pub(crate) fn dropped(stage: &Stage) -> Error {
    Error::target(format!("table {} was dropped while it was loaded", stage.name))
        .with_hint("run again")
}

pub(crate) async fn insert(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let (name, table, columns) = (&stage.name, &stage.table, stage.columns());
    let statement =
        format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {table}; DROP TABLE {table}");
    run(transaction, stage, &statement).await
}
