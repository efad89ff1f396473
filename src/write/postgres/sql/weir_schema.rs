//! weir's own schema `_weir`, which holds its staging tables and its ledger.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tokio_postgres::{Client, error::SqlState};

use crate::error::Result;
use crate::write::leftovers::Leftovers;
use crate::write::postgres::failure;
use crate::write::postgres::name::{self, STAGE, TableName, WEIR_SCHEMA, quoted};
use crate::write::postgres::session::pool::PooledClient;

/// Beginning of the comment of a staging table. Stored in databases: it must not change.
const STAGING: &str = "staging of weir's replication ";

/// Staging tables of this role: schema, name and comment.
const STAGES: &str = "SELECT n.nspname, c.relname::text, obj_description(c.oid, 'pg_class') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND starts_with(c.relname::text, $1) \
        AND pg_get_userbyid(c.relowner) = current_user";

/// Beginning of the comment of a run's staging tables.
pub(crate) fn stage_comment(replication: &str, run_id: &str) -> String {
    format!("{STAGING}{replication}, run {run_id}")
}

/// The schema for weir's own tables, created when it is missing. `None` when this role may neither create the
/// schema nor create tables in it.
pub(crate) async fn usable(client: &Client) -> Result<Option<&'static str>> {
    let failed = |error| failure::statement(format!("schema {WEIR_SCHEMA} cannot be used"), &error);
    let found = client
        .query_opt(
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE') \
             FROM pg_namespace WHERE nspname = $1",
            &[&WEIR_SCHEMA],
        )
        .await
        .map_err(failed)?;
    if let Some(found) = found {
        return Ok(found.get::<_, bool>(0).then_some(WEIR_SCHEMA));
    }
    match client
        .batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(WEIR_SCHEMA)))
        .await
    {
        Ok(()) => Ok(Some(WEIR_SCHEMA)),
        // Another run has just created it.
        Err(error)
            if failure::is(&error, &SqlState::UNIQUE_VIOLATION)
                || failure::is(&error, &SqlState::DUPLICATE_SCHEMA) =>
        {
            Ok(Some(WEIR_SCHEMA))
        }
        Err(error) if failure::is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Removes leftover staging tables. A table that a living run writes is locked and stays.
pub(crate) async fn tidy(pooled: &mut PooledClient, leftovers: &Leftovers) -> Result<()> {
    let failed = |error| failure::statement("staging tables cannot be looked up", &error);
    let stages = pooled.query(STAGES, &[&STAGE]).await.map_err(failed)?;
    for stage in stages {
        let table = TableName { schema: stage.get(0), table: stage.get(1) };
        let comment: Option<&str> = stage.get(2);
        let Some((replication, run_id, at)) = comment.and_then(parse_comment) else { continue };
        let Some(key) = table.lock_key_of_stage() else { continue };
        if !leftovers.include(replication, run_id, at) {
            continue;
        }
        // The next run tries again to remove what cannot be removed now.
        if let Err(error) = remove(pooled, &table, key).await {
            tracing::debug!(%table, error = error.chain(), "a staging table stays");
        }
    }
    Ok(())
}

/// End of the comment of a staging table: a day.
pub(crate) fn comment_date(at: DateTime<Utc>) -> String {
    at.format(" (%Y-%m-%d)").to_string()
}

/// Replication and run of a staging table, and the day on which a process last resumed it, read from its comment.
fn parse_comment(comment: &str) -> Option<(&str, &str, DateTime<Utc>)> {
    let (replication, rest) = comment.strip_prefix(STAGING)?.rsplit_once(", run ")?;
    let (run, date) = rest.strip_suffix(')')?.split_once(" (")?;
    let day = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    Some((replication, run, day.and_time(NaiveTime::MIN).and_utc()))
}

async fn remove(pooled: &mut PooledClient, table: &TableName, key: i64) -> Result<()> {
    let failed = |error| failure::statement(format!("{table} cannot be removed"), &error);
    let transaction = pooled.transaction().await.map_err(failed)?;
    let free = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&key]).await;
    if free.map_err(failed)?.get(0) {
        let statement = format!("SET LOCAL lock_timeout = '1s'; DROP TABLE IF EXISTS {table}");
        transaction.batch_execute(&statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// SQL that selects the staging tables of a table, in weir's own schema or in the table's. Parameters: the table's
/// schema, and the prefix of their names.
pub(crate) fn stages_of(column: &str) -> String {
    format!(
        "SELECT {column} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname IN ({}, $1) AND c.relkind = 'r' AND starts_with(c.relname::text, $2)",
        name::literal(WEIR_SCHEMA)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_the_run_of_a_staging_table() {
        let at = "2026-01-11T00:00:00Z".parse().unwrap();
        let comment = stage_comment("nightly, run x", "20260111000000000bb") + &comment_date(at);
        assert_eq!(parse_comment(&comment), Some(("nightly, run x", "20260111000000000bb", at)));
        assert_eq!(parse_comment("a comment of a user"), None);
    }
}
