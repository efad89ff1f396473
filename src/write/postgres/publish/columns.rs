//! Columns and types that a table lacks, added before its rows are written.

use tokio_postgres::Transaction;

use crate::error::Result;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::publish::statement::{failed, run};
use crate::write::postgres::session::lock_wait::{LockWaits, WaitContext, Waited};
use crate::write::postgres::session::pool::PooledClient;
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::table::Disposition;

/// Adds the columns and types that the table lacks, in a transaction of its own: the strong lock that this needs is
/// not held while rows are merged.
pub(crate) async fn add_missing_columns_first(
    pooled: &mut PooledClient,
    stage: &StagingTable,
    waiter: WaitContext<'_>,
) -> Result<Option<Waited>> {
    let Some(existing) = catalog::inspect(&**pooled, &stage.target).await? else { return Ok(None) };
    let swapped = stage.disposition == Disposition::Replace && existing.is_plain(&stage.key);
    if swapped || existing.changes_for(&stage.schema).is_empty() {
        return Ok(None);
    }
    let transaction = pooled.transaction().await.map_err(|error| failed(stage, &error))?;
    let mut waits = LockWaits::begin(&transaction, waiter).await?;
    waits.run(&transaction, || inspect_and_add(&transaction, stage)).await?;
    transaction.commit().await.map_err(|error| failed(stage, &error))?;
    Ok(waits.waited())
}

/// Finds out what the table lacks, and adds it.
async fn inspect_and_add(transaction: &Transaction<'_>, stage: &StagingTable) -> Result<()> {
    let Some(existing) = catalog::inspect(transaction, &stage.target).await? else { return Ok(()) };
    existing.check(&stage.target, &stage.schema)?;
    add_missing_columns(transaction, stage, &existing).await
}

/// Adds the columns and types that the table lacks.
pub(crate) async fn add_missing_columns(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<()> {
    let changes = existing.changes_for(&stage.schema);
    if changes.is_empty() {
        return Ok(());
    }
    run(transaction, stage, &format!("ALTER TABLE {} {}", stage.target, changes.join(", "))).await
}
