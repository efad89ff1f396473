//! The primary key of staged rows.

use tokio_postgres::{GenericClient, error::SqlState};

use crate::error::Result;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::Stage;
use crate::write::postgres::name::quoted;
use crate::write::postgres::publish::duplicate_keys::{Told, settle};

/// Adds the primary key, after of the rows with one key only one is left. What is told of the others.
pub(crate) async fn add<C: GenericClient + Sync>(client: &C, stage: &Stage) -> Result<Told> {
    if !stage.has_key() {
        return settle(client, stage).await;
    }
    let what = || format!("the primary key of {} cannot be created", stage.name);
    let failed = |error| failure::statement(what(), &error);
    let (table, key) = (&stage.table, stage.key_columns());
    let constraint = quoted(&stage.key_name());
    let add = format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} PRIMARY KEY ({key})");
    client.batch_execute("SAVEPOINT weir_key").await.map_err(failed)?;
    match client.batch_execute(&add).await {
        Ok(()) => Ok(Told::default()),
        Err(error) if failure::is(&error, &SqlState::UNIQUE_VIOLATION) => {
            client.batch_execute("ROLLBACK TO weir_key").await.map_err(failed)?;
            let told = settle(client, stage).await?;
            client.batch_execute(&add).await.map_err(failed)?;
            Ok(told)
        }
        Err(error) => Err(failed(error)),
    }
}
