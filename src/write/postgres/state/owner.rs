//! The owners of tables: a table of records with a row per table, written in the same transaction as its rows.

use tokio_postgres::{Client, GenericClient};

use crate::error::Result;
use crate::write::owner::{ExistingTable, Owner};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::name::{TableName, WEIR_SCHEMA};
use crate::write::postgres::sql::catalog;
use crate::write::postgres::sql::weir_schema;
use crate::write::table::Disposition;

/// Name of the table of records in weir's own schema, and its name in the schema of the tables, for roles that may not
/// use weir's schema. Stored in databases: they must not change.
const RECORDS: &str = "tables";
const BESIDE: &str = "_weir_tables";

/// The tables of records that may have the record of a table, the preferred one first.
fn record_tables(name: &TableName) -> [TableName; 2] {
    let own = TableName { schema: WEIR_SCHEMA.to_owned(), table: RECORDS.to_owned() };
    [own, name.sibling(BESIDE)]
}

/// What this role may do with a table of records.
struct RecordAccess {
    read: bool,
    write: bool,
}

/// The permissions of this role for a table of records; `None` when there is no such table.
async fn access(client: &Client, place: &TableName) -> Result<Option<RecordAccess>> {
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
    Ok(found.map(|row| RecordAccess { read: row.get(0), write: row.get(1) }))
}

/// The table for the record of a table, created when it is missing. `None`, with a warning in the log, when this role
/// cannot create it.
pub(crate) async fn record_table(client: &Client, name: &TableName) -> Result<Option<TableName>> {
    let may_own = weir_schema::usable(client).await?.is_some();
    for place in record_tables(name) {
        match access(client, &place).await? {
            Some(RecordAccess { write: true, .. }) => return Ok(Some(place)),
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
        // Another run may have just created it.
        if created.is_ok()
            || matches!(access(client, &place).await?, Some(RecordAccess { write: true, .. }))
        {
            return Ok(Some(place));
        }
        if let Err(error) = created {
            let error = failure::definition("it cannot be created", &create, &error);
            tracing::warn!("weir cannot record the owners of tables in {place}: {}", error.chain());
        }
    }
    Ok(None)
}

/// Records the owner of a table, in an open transaction.
pub(crate) async fn save<C: GenericClient + Sync>(client: &C, stage: &StagingTable) -> Result<()> {
    let (Some(owner), Some(place)) = (&stage.owner, &stage.records) else { return Ok(()) };
    let rows = match stage.disposition {
        Disposition::Merge => catalog::count(client, &stage.target).await?,
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
    let (schema, table) = (&stage.target.schema, &stage.target.table);
    client
        .execute(&statement, &[schema, table, replication, source, run_id, &rows])
        .await
        .map(drop)
        .map_err(|error| {
            failure::statement(format!("the owner of {} cannot be recorded", stage.target), &error)
        })
}

/// The owner of a table: the newest record in all tables of records that this role may read.
async fn read(client: &Client, name: &TableName) -> Result<Option<Owner>> {
    let mut newest = None;
    for place in record_tables(name) {
        if !matches!(access(client, &place).await?, Some(RecordAccess { read: true, .. })) {
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

/// What exists under the name of a table.
pub(crate) async fn existing(
    client: &Client,
    name: &TableName,
    disposition: Disposition,
) -> Result<Option<ExistingTable>> {
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
    Ok(Some(ExistingTable { object, rows, owner }))
}
