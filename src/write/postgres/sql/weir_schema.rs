//! The schema of weir's own, in which its staging tables and its ledger stand, beside the user's schemas.
//!
//! Staging tables that no run goes on with are removed by [`tidy`].

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tokio_postgres::{Client, error::SqlState};

use crate::error::Result;
use crate::write::leftovers::Leftovers;
use crate::write::postgres::failure;
use crate::write::postgres::name;
use crate::write::postgres::name::{STAGE, TableName, WEIR_SCHEMA, quoted};
use crate::write::postgres::session::pool::Lease;

/// What the comment of a staging table begins with.
const STAGING: &str = "staging of weir's replication ";

/// Staging tables of this role: schema, name and comment.
const STAGES: &str = "SELECT n.nspname, c.relname::text, obj_description(c.oid, 'pg_class') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND starts_with(c.relname::text, $1) \
        AND pg_get_userbyid(c.relowner) = current_user";

/// Comment of a staging table.
pub(crate) fn marking(replication: &str, run_id: &str) -> String {
    format!("{STAGING}{replication}, run {run_id}")
}

/// The schema for tables of weir's own: `_weir`, made when it is missing. `None` where this role may
/// neither make it nor create tables in it.
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

/// Removes the staging tables that are left over. Tables that a living run writes are locked by it and stay.
pub(crate) async fn tidy(lease: &mut Lease, leftovers: &Leftovers) -> Result<()> {
    let failed = |error| failure::statement("staging tables cannot be looked up", &error);
    let stages = lease.query(STAGES, &[&STAGE]).await.map_err(failed)?;
    for stage in stages {
        let table = TableName { schema: stage.get(0), table: stage.get(1) };
        let comment: Option<&str> = stage.get(2);
        let Some((replication, run_id, at)) = comment.and_then(marked) else { continue };
        let Some(key) = table.lock_key_of_stage() else { continue };
        if !leftovers.include(replication, run_id, at) {
            continue;
        }
        // What cannot be removed now, the next run tries again.
        if let Err(error) = remove(lease, &table, key).await {
            tracing::debug!(%table, error = error.chain(), "a staging table stays");
        }
    }
    Ok(())
}

/// The end of a staging table's comment: a day.
pub(crate) fn dated(at: DateTime<Utc>) -> String {
    at.format(" (%Y-%m-%d)").to_string()
}

/// Replication and run of a staging table, and the day on which a process last went on with it, as its comment
/// says.
fn marked(comment: &str) -> Option<(&str, &str, DateTime<Utc>)> {
    let (replication, rest) = comment.strip_prefix(STAGING)?.rsplit_once(", run ")?;
    let (run, date) = rest.strip_suffix(')')?.split_once(" (")?;
    let day = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    Some((replication, run, day.and_time(NaiveTime::MIN).and_utc()))
}

async fn remove(lease: &mut Lease, table: &TableName, key: i64) -> Result<()> {
    let failed = |error| failure::statement(format!("{table} cannot be removed"), &error);
    let transaction = lease.transaction().await.map_err(failed)?;
    let free = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&key]).await;
    if free.map_err(failed)?.get(0) {
        let statement = format!("SET LOCAL lock_timeout = '1s'; DROP TABLE IF EXISTS {table}");
        transaction.batch_execute(&statement).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)
}

/// SQL: the staging tables of a table, in the schema of weir's own or beside it. Parameters: the table's
/// schema, the beginning of their names.
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
    fn a_comment_says_whose_a_staging_table_is() {
        let at = "2026-01-11T00:00:00Z".parse().unwrap();
        let comment = marking("nightly, run x", "20260111000000000bb") + &dated(at);
        assert_eq!(marked(&comment), Some(("nightly, run x", "20260111000000000bb", at)));
        assert_eq!(marked("somebody's own"), None);
    }
}
