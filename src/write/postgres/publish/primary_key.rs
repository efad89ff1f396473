//! The primary key of staged rows.

use tokio_postgres::{GenericClient, error::SqlState};

use crate::error::Result;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::name::quoted;
use crate::write::postgres::publish::duplicate_keys::{DuplicateReport, remove_losers};

/// Adds the primary key. Of rows with the same key, only one is kept; returns what is reported about the others.
pub(crate) async fn add<C: GenericClient + Sync>(
    client: &C,
    stage: &StagingTable,
) -> Result<DuplicateReport> {
    if !stage.has_key() {
        return remove_losers(client, stage).await;
    }
    let what = || format!("the primary key of {} cannot be created", stage.target);
    let failed = |error| failure::statement(what(), &error);
    let (table, key) = (&stage.staging, stage.key_columns());
    let constraint = quoted(&stage.key_name());
    let add = format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} PRIMARY KEY ({key})");
    client.batch_execute("SAVEPOINT weir_key").await.map_err(failed)?;
    match client.batch_execute(&add).await {
        Ok(()) => Ok(DuplicateReport::default()),
        Err(error) if failure::is(&error, &SqlState::UNIQUE_VIOLATION) => {
            client.batch_execute("ROLLBACK TO weir_key").await.map_err(failed)?;
            let report = remove_losers(client, stage).await?;
            client.batch_execute(&add).await.map_err(failed)?;
            Ok(report)
        }
        Err(error) => Err(failed(error)),
    }
}
