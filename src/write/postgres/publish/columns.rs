//! Columns and types that a table lacks, added before its rows are written.

use tokio_postgres::Transaction;

use crate::error::Result;
use crate::write::postgres::load::stage::Stage;
use crate::write::postgres::publish::statement::{failed, run};
use crate::write::postgres::session::lock_wait::{Waiter, Waits};
use crate::write::postgres::session::pool::Lease;
use crate::write::postgres::sql::catalog;
use crate::write::postgres::sql::catalog::Existing;
use crate::write::table::Disposition;

/// Gives the table the columns and types that it lacks, in a transaction of its own: the strong lock which
/// that takes is not held while rows are merged.
pub(crate) async fn adapt_first(
    lease: &mut Lease,
    stage: &Stage,
    waiter: Waiter<'_>,
) -> Result<Option<(u64, String)>> {
    let Some(old) = catalog::inspect(&**lease, &stage.name).await? else { return Ok(None) };
    let swapped = stage.disposition == Disposition::Replace && old.is_plain(&stage.key);
    if swapped || old.adaptations(&stage.schema).is_empty() {
        return Ok(None);
    }
    let transaction = lease.transaction().await.map_err(|error| failed(stage, &error))?;
    let mut waits = Waits::begin(&transaction, waiter).await?;
    waits.take(&transaction, || adapt_now(&transaction, stage)).await?;
    transaction.commit().await.map_err(|error| failed(stage, &error))?;
    Ok(waits.waited())
}

/// Looks what the table lacks, and adds it.
async fn adapt_now(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let Some(old) = catalog::inspect(transaction, &stage.name).await? else { return Ok(()) };
    old.check(&stage.name, &stage.schema)?;
    adapt(transaction, stage, &old).await
}

/// Gives the table the columns and types that it lacks.
pub(crate) async fn adapt(
    transaction: &Transaction<'_>,
    stage: &Stage,
    old: &Existing,
) -> Result<()> {
    let changes = old.adaptations(&stage.schema);
    if changes.is_empty() {
        return Ok(());
    }
    run(transaction, stage, &format!("ALTER TABLE {} {}", stage.name, changes.join(", "))).await
}
