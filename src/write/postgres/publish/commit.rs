//! Staged rows made visible, all in one transaction.

use tokio_postgres::Transaction;

use crate::error::Result;
use crate::write::duplicate_keys::check_strict;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::publish::columns::add_missing_columns;
use crate::write::postgres::publish::duplicate_keys::{self, DuplicateReport};
use crate::write::postgres::publish::replace::{move_beside, rename, replace, replace_contents};
use crate::write::postgres::publish::statement::{dropped, failed, insert, run};
use crate::write::postgres::publish::{merge, primary_key};
use crate::write::postgres::session::lock_wait::LockWaits;
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::table::Disposition;
use crate::write::target::CommitInfo;

/// What a commit did.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Number of rows that were written.
    pub(crate) rows: u64,
    /// Number of existing rows that were marked or removed.
    pub(crate) deleted: u64,
    /// Staged rows that lost to others with the same key.
    pub(crate) duplicates: DuplicateReport,
}

/// Publishes staged rows in an open transaction. The work on the staged rows comes first, so that the table is locked
/// for as short a time as possible.
pub(crate) async fn publish(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    info: &CommitInfo,
    waits: &mut LockWaits<'_>,
) -> Result<Published> {
    let prepared = waits.run(transaction, || prepare(transaction, stage, info)).await?;
    let (rows, duplicates) = prepared;
    let deleted = waits.run(transaction, || write(transaction, stage, info)).await?;
    Ok(Published { rows, deleted, duplicates })
}

/// Prepares the staged rows; their number, and the rows that lost to others.
async fn prepare(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    info: &CommitInfo,
) -> Result<(u64, DuplicateReport)> {
    run(transaction, stage, "SET LOCAL synchronous_commit TO DEFAULT").await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.staging)).await?;
    stage.remove(transaction, &info.discarded_slices).await?;
    merge::extract_markers(transaction, stage).await?;
    let duplicates = if stage.becomes_table {
        primary_key::add(transaction, stage).await?
    } else {
        duplicate_keys::remove_losers(transaction, stage).await?
    };
    check_strict(stage.strict, &duplicates.notices)?;
    let count = format!("SELECT count(*) FROM {}", stage.staging);
    let count = transaction.query_one(&count, &[]).await.map_err(|error| failed(stage, &error))?;
    let count = u64::try_from(count.get::<_, i64>(0)).expect("a count is not negative");
    Ok((count, duplicates))
}

/// Writes the staged rows into the table, or replaces the table by the staging table; the number of existing rows that
/// the source no longer has.
async fn write(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    info: &CommitInfo,
) -> Result<u64> {
    let mut deleted = 0;
    match catalog::inspect(transaction, &stage.target).await? {
        None if stage.becomes_table => {
            merge::mark_all_new(transaction, stage).await?;
            let moved = move_beside(transaction, stage).await?;
            rename(transaction, &moved).await?;
        }
        None => return Err(dropped(stage)),
        Some(existing) => match stage.disposition {
            Disposition::Replace => replace(transaction, stage, &existing).await?,
            Disposition::Truncate => replace_contents(transaction, stage, &existing).await?,
            Disposition::Append => append(transaction, stage, &existing).await?,
            Disposition::Merge => {
                existing.check(&stage.target, &stage.schema)?;
                add_missing_columns(transaction, stage, &existing).await?;
                deleted = merge::merge(transaction, stage, &existing, info).await?;
            }
        },
    }
    merge::drop_markers(transaction, stage).await?;
    Ok(deleted)
}

async fn append(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<()> {
    existing.check(&stage.target, &stage.schema)?;
    add_missing_columns(transaction, stage, existing).await?;
    insert(transaction, stage).await
}
