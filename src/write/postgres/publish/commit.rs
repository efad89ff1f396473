//! Staged rows made visible, all in one transaction.

use tokio_postgres::Transaction;

use crate::error::Result;
use crate::write::duplicate_keys::check_strict;
use crate::write::postgres::load::stage::Stage;
use crate::write::postgres::publish::columns::adapt;
use crate::write::postgres::publish::duplicate_keys::{self, Told};
use crate::write::postgres::publish::replace::{fill, move_beside, rename, replace};
use crate::write::postgres::publish::statement::{dropped, failed, insert, run};
use crate::write::postgres::publish::{merge, primary_key};
use crate::write::postgres::session::lock_wait::Waits;
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::table::Disposition;
use crate::write::target::Ending;

/// What a commit did.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Rows that are now in the table.
    pub(crate) rows: u64,
    /// Old rows that were marked or removed.
    pub(crate) deleted: u64,
    /// Staged rows that gave way to others with the same key.
    pub(crate) told: Told,
}

/// Publishes a stage in an open transaction. The work on the staged rows comes first, so that the table is
/// locked for as short a time as can be.
pub(crate) async fn publish(
    transaction: &Transaction<'_>,
    stage: &Stage,
    ending: &Ending,
    waits: &mut Waits<'_>,
) -> Result<Published> {
    let prepared = waits.take(transaction, || prepare(transaction, stage, ending)).await?;
    let (rows, told) = prepared;
    let deleted = waits.take(transaction, || place(transaction, stage, ending)).await?;
    Ok(Published { rows, deleted, told })
}

/// Makes the staged rows ready; how many they are, and what gave way to others.
async fn prepare(
    transaction: &Transaction<'_>,
    stage: &Stage,
    ending: &Ending,
) -> Result<(u64, Told)> {
    run(transaction, stage, "SET LOCAL synchronous_commit TO DEFAULT").await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.table)).await?;
    stage.remove(transaction, &ending.void).await?;
    merge::set_marks_aside(transaction, stage).await?;
    let told = if stage.lasting {
        primary_key::add(transaction, stage).await?
    } else {
        duplicate_keys::settle(transaction, stage).await?
    };
    check_strict(stage.strict, &told.notices)?;
    let count = format!("SELECT count(*) FROM {}", stage.table);
    let count = transaction.query_one(&count, &[]).await.map_err(|error| failed(stage, &error))?;
    Ok((u64::try_from(count.get::<_, i64>(0)).unwrap_or_default(), told))
}

/// Puts the staged rows into the table, or the stage into its place; how many old rows are gone.
async fn place(transaction: &Transaction<'_>, stage: &Stage, ending: &Ending) -> Result<u64> {
    let mut deleted = 0;
    match catalog::inspect(transaction, &stage.name).await? {
        None if stage.lasting => {
            merge::call_all_new(transaction, stage).await?;
            let moved = move_beside(transaction, stage).await?;
            rename(transaction, &moved).await?;
        }
        None => return Err(dropped(stage)),
        Some(old) => match stage.disposition {
            Disposition::Replace => replace(transaction, stage, &old).await?,
            Disposition::Truncate => fill(transaction, stage, &old).await?,
            Disposition::Append => append(transaction, stage, &old).await?,
            Disposition::Merge => {
                old.check(&stage.name, &stage.schema)?;
                adapt(transaction, stage, &old).await?;
                deleted = merge::merge(transaction, stage, &old, ending).await?;
            }
        },
    }
    merge::drop_marks(transaction, stage).await?;
    Ok(deleted)
}

async fn append(transaction: &Transaction<'_>, stage: &Stage, old: &Existing) -> Result<()> {
    old.check(&stage.name, &stage.schema)?;
    adapt(transaction, stage, old).await?;
    insert(transaction, stage).await
}
