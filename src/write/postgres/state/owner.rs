//! Whose the tables are: a table of weir's own with a row per table, written in the transaction of its rows.

use tokio_postgres::{Client, GenericClient};

use crate::error::Result;
use crate::write::owner::{Owner, Standing};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::Stage;
use crate::write::postgres::name::{TableName, WEIR_SCHEMA};
use crate::write::postgres::sql::catalog;
use crate::write::postgres::sql::weir_schema;
use crate::write::table::Disposition;

/// Name of the table in weir's own schema, and beside the tables where a role may not use that.
const RECORDS: &str = "tables";
const BESIDE: &str = "_weir_tables";

/// The places in which the record of a table may be, the preferred one first.
fn places(name: &TableName) -> [TableName; 2] {
    let own = TableName { schema: WEIR_SCHEMA.to_owned(), table: RECORDS.to_owned() };
    [own, name.sibling(BESIDE)]
}

/// What this role may do with a table of records: read it, and write it; `None` where it is not there.
async fn access(client: &Client, place: &TableName) -> Result<Option<(bool, bool)>> {
    let found = client
        .query_opt(
            "SELECT u AND has_table_privilege(c.oid, 'SELECT'), \
                 u AND has_table_privilege(c.oid, 'SELECT') \
                 AND has_table_privilege(c.oid, 'INSERT') \
                 AND has_table_privilege(c.oid, 'UPDATE') \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, \
                 has_schema_privilege(n.oid, 'USAGE') AS u \
             WHERE n.nspname = $1 AND c.relname = $2",
            &[&place.schema, &place.table],
        )
        .await
        .map_err(|error| failure::statement(format!("{place} cannot be looked up"), &error))?;
    Ok(found.map(|row| (row.get(0), row.get(1))))
}

/// Where the record of a table is written; the table of records is made when it is missing. `None`, with a
/// warning of the log, where this role can make none.
pub(crate) async fn place(client: &Client, name: &TableName) -> Result<Option<TableName>> {
    let may_own = weir_schema::usable(client).await?.is_some();
    for place in places(name) {
        match access(client, &place).await? {
            Some((_, true)) => return Ok(Some(place)),
            Some(_) => continue,
            None if place.schema == WEIR_SCHEMA && !may_own => continue,
            None => {}
        }
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {place} (table_schema text NOT NULL, table_name text NOT NULL, \
                 replication text NOT NULL, source text NOT NULL, run_id text NOT NULL, rows bigint, \
                 written_at timestamptz NOT NULL, PRIMARY KEY (table_schema, table_name))"
        );
        let created = client.batch_execute(&create).await;
        // Another run may have just made it.
        if created.is_ok() || matches!(access(client, &place).await?, Some((_, true))) {
            return Ok(Some(place));
        }
        if let Err(error) = created {
            let error = failure::definition("it is not made", &create, &error);
            tracing::warn!("owners of tables are not recorded in {place}: {}", error.chain());
        }
    }
    Ok(None)
}

/// Records in an open transaction whose the table is.
pub(crate) async fn save<C: GenericClient + Sync>(client: &C, stage: &Stage) -> Result<()> {
    let (Some(owner), Some(place)) = (&stage.owner, &stage.records) else { return Ok(()) };
    let rows = match stage.disposition {
        Disposition::Merge => catalog::count(client, &stage.name).await?,
        _ => None,
    };
    let rows = rows.and_then(|rows| i64::try_from(rows).ok());
    let Owner { replication, source, run_id, .. } = owner;
    let statement = format!(
        "INSERT INTO {place} AS old (table_schema, table_name, replication, source, run_id, rows, \
             written_at) VALUES ($1, $2, $3, $4, $5, $6, now()) \
         ON CONFLICT (table_schema, table_name) DO UPDATE SET \
             (replication, source, run_id, rows, written_at) = ROW(EXCLUDED.replication, \
             EXCLUDED.source, EXCLUDED.run_id, EXCLUDED.rows, EXCLUDED.written_at)"
    );
    let (schema, table) = (&stage.name.schema, &stage.name.table);
    client
        .execute(&statement, &[schema, table, replication, source, run_id, &rows])
        .await
        .map(drop)
        .map_err(|error| {
            failure::statement(format!("the owner of {} cannot be recorded", stage.name), &error)
        })
}

/// The record of a table: the newest of all places that this role may read.
async fn read(client: &Client, name: &TableName) -> Result<Option<Owner>> {
    let mut newest = None;
    for place in places(name) {
        if !matches!(access(client, &place).await?, Some((true, _))) {
            continue;
        }
        let query = format!(
            "SELECT replication, source, run_id, rows, extract(epoch FROM written_at)::float8 \
             FROM {place} WHERE table_schema = $1 AND table_name = $2"
        );
        let found = client.query_opt(&query, &[&name.schema, &name.table]).await;
        let failed = |error| failure::statement(format!("{place} cannot be read"), &error);
        let Some(row) = found.map_err(failed)? else { continue };
        let (written, rows): (f64, Option<i64>) = (row.get(4), row.get(3));
        let rows = rows.and_then(|rows| u64::try_from(rows).ok());
        let (replication, source, run_id) = (row.get(0), row.get(1), row.get(2));
        let owner = Owner { replication, source, run_id, rows };
        if newest.as_ref().is_none_or(|(before, _)| *before < written) {
            newest = Some((written, owner));
        }
    }
    Ok(newest.map(|(_, owner)| owner))
}

/// What stands where a table is to be written.
pub(crate) async fn standing(
    client: &Client,
    name: &TableName,
    disposition: Disposition,
) -> Result<Option<Standing>> {
    if catalog::inspect(client, name).await?.is_none() {
        return Ok(None);
    }
    let (object, owner) = (name.to_string(), read(client, name).await?);
    let rows = if owner.is_none() {
        let any = client.query_one(&format!("SELECT EXISTS (SELECT FROM {name})"), &[]).await;
        let failed = |error| failure::statement(format!("{name} cannot be read"), &error);
        (!any.map_err(failed)?.get::<_, bool>(0)).then_some(0)
    } else if disposition == Disposition::Merge {
        catalog::count(client, name).await?
    } else {
        None
    };
    Ok(Some(Standing { object, rows, owner }))
}
