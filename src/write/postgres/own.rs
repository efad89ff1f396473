//! The schema of weir's own, in which its staging tables and its ledger stand, beside the user's schemas.
//!
//! Staging tables that no run goes on with are removed by [`tidy`].

use tokio_postgres::{Client, GenericClient, error::SqlState};

use super::{
    failure,
    name::{self, STAGE, TableName, quoted},
    pool::Lease,
};
use crate::error::{Error, Result};

/// Name of the schema.
pub(super) const OWN: &str = "_weir";
/// What the comment of a staging table begins with.
const STAGING: &str = "staging of weir's replication ";
/// Staging tables of runs that began longer ago than this are removed by any run.
const STALE: &str = "14 days";

/// Staging tables of this role: schema, name, comment, and the time before which they are stale, in the
/// form with which ids of runs begin.
const STAGES: &str = "SELECT n.nspname, c.relname::text, obj_description(c.oid, 'pg_class'), \
        to_char((now() - $1::text::interval) AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND starts_with(c.relname::text, $2) \
        AND pg_get_userbyid(c.relowner) = current_user";

/// Comment of a staging table.
pub(super) fn marking(replication: &str, run_id: &str) -> String {
    format!("{STAGING}{replication}, run {run_id}")
}

/// The schema for tables of weir's own: `_weir`, made when it is missing. `None` where this role may
/// neither make it nor create tables in it.
pub(super) async fn usable(client: &Client) -> Result<Option<&'static str>> {
    let failed = |error| failure::statement(format!("schema {OWN} cannot be used"), &error);
    let found = client
        .query_opt(
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE') \
             FROM pg_namespace WHERE nspname = $1",
            &[&OWN],
        )
        .await
        .map_err(failed)?;
    if let Some(found) = found {
        return Ok(found.get::<_, bool>(0).then_some(OWN));
    }
    match client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(OWN))).await {
        Ok(()) => Ok(Some(OWN)),
        // Another run has just created it.
        Err(error)
            if failure::is(&error, &SqlState::UNIQUE_VIOLATION)
                || failure::is(&error, &SqlState::DUPLICATE_SCHEMA) =>
        {
            Ok(Some(OWN))
        }
        Err(error) if failure::is(&error, &SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Removes the staging tables of a replication, but for those of the run `keep`, and stale ones of any.
/// Tables that a living run writes are locked by it and stay.
pub(super) async fn tidy(lease: &mut Lease, replication: &str, keep: Option<&str>) -> Result<()> {
    let failed = |error| failure::statement("staging tables cannot be looked up", &error);
    let stages = lease.query(STAGES, &[&STALE, &STAGE]).await.map_err(failed)?;
    for stage in stages {
        let table = TableName { schema: stage.get(0), table: stage.get(1) };
        let (comment, stale): (Option<&str>, &str) = (stage.get(2), stage.get(3));
        if !is_left_over(comment.unwrap_or_default(), (replication, keep), stale) {
            continue;
        }
        let Some(key) = table.lock_key_of_stage() else { continue };
        // What cannot be removed now, the next run tries again.
        if let Err(error) = remove(lease, &table, key).await {
            tracing::debug!(%table, error = error.chain(), "a staging table stays");
        }
    }
    Ok(())
}

/// Whether no run goes on with a staging table of this comment.
fn is_left_over(comment: &str, (replication, keep): (&str, Option<&str>), stale: &str) -> bool {
    let named = comment.strip_prefix(STAGING).and_then(|rest| rest.rsplit_once(", run "));
    // Earlier versions did not name the replication.
    let named = named.or_else(|| Some(("", comment.strip_prefix("staging of weir's run ")?)));
    let Some((owner, run)) = named else { return false };
    let began = run.get(..stale.len()).filter(|began| began.bytes().all(|b| b.is_ascii_digit()));
    let mine = owner == replication && keep != Some(run);
    mine || keep != Some(run) && began.is_some_and(|began| began < stale)
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

/// Refuses early what the commit would be refused: making a table in a schema without the right to.
pub(super) async fn may_create(client: &Client, name: &TableName) -> Result<()> {
    let failed = |error| failure::statement(format!("table {name} cannot be made"), &error);
    let row = client
        .query_one(
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'), \
                 current_user::text FROM pg_namespace WHERE nspname = $1",
            &[&name.schema],
        )
        .await
        .map_err(failed)?;
    if row.get(0) {
        return Ok(());
    }
    let (schema, user) = (quoted(&name.schema), quoted(row.get(1)));
    Err(Error::target(format!("table {name} cannot be made"))
        .because(format!("permission denied for schema {schema}"))
        .with_hint(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}")))
}

/// What default privileges give to tables that are made in a schema: grantee, privilege, and whether it may
/// be passed on.
pub(super) async fn default_grants<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
) -> Result<Vec<(String, String, bool)>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
                 ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable \
             FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace, \
                 aclexplode(d.defaclacl) a \
             WHERE n.nspname = $1 AND d.defaclobjtype = 'r' \
                 AND pg_get_userbyid(d.defaclrole) = current_user",
            &[&schema],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// SQL: the staging tables of a table, in the schema of weir's own or beside it. Parameters: the table's
/// schema, the beginning of their names.
pub(super) fn stages_of(column: &str) -> String {
    format!(
        "SELECT {column} FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname IN ({}, $1) AND c.relkind = 'r' AND starts_with(c.relname::text, $2)",
        name::literal(OWN)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_goes_on_with_stays() {
        let stale = "20260110000000";
        let of = |replication, run| marking(replication, run);
        for (comment, left_over) in [
            (of("nightly", "20260112000000000aa"), false),
            (of("nightly", "20260111000000000bb"), true),
            (of("other, run x", "20260111000000000bb"), false),
            (of("other", "20260109000000000cc"), true),
            (of("other", "reset"), false),
            ("staging of weir's run 20260109000000000cc".to_owned(), true),
            ("staging of weir's run 20260111000000000cc".to_owned(), false),
            ("somebody's own".to_owned(), false),
            (String::new(), false),
        ] {
            let found = is_left_over(&comment, ("nightly", Some("20260112000000000aa")), stale);
            assert_eq!(found, left_over, "{comment}");
        }
    }
}
