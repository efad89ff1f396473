//! A table that its staging table replaces, or whose rows the staged rows replace.

use tokio_postgres::{Transaction, error::SqlState};

use crate::error::Result;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::name::{MAX_NAME, TableName, literal, quoted};
use crate::write::postgres::publish::columns::add_missing_columns;
use crate::write::postgres::publish::statement::{dropped, failed, insert, run};
use crate::write::postgres::publish::{merge, primary_key};
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::postgres::sql::grants::{Grant, default_grants, grants};

/// Replaces the table by the staging table. If other objects depend on the table, replaces its rows instead.
pub(crate) async fn replace(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<()> {
    if !existing.is_plain(&stage.key) {
        return replace_contents(transaction, stage, existing).await;
    }
    run(transaction, stage, "SAVEPOINT weir_swap").await?;
    run(transaction, stage, &format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", stage.target))
        .await?;
    // Another session may have changed the table meanwhile.
    let existing =
        &catalog::inspect(transaction, &stage.target).await?.ok_or_else(|| dropped(stage))?;
    if !existing.is_plain(&stage.key) {
        run(transaction, stage, "ROLLBACK TO weir_swap").await?;
        return replace_contents(transaction, stage, existing).await;
    }
    let moved = move_beside(transaction, stage).await?;
    let preserved_ddl = preserved_ddl(transaction, &moved, existing).await?;
    match transaction.batch_execute(&format!("DROP TABLE {}", stage.target)).await {
        Ok(()) => {}
        Err(error) if failure::is(&error, &SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            run(transaction, stage, "ROLLBACK TO weir_swap").await?;
            return replace_contents(transaction, stage, existing).await;
        }
        Err(error) => return Err(failed(stage, &error)),
    }
    run(transaction, stage, &preserved_ddl).await?;
    rename(transaction, &moved).await
}

/// Moves the staging table into the schema of its table, with the default grants of that schema.
pub(crate) async fn move_beside(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
) -> Result<StagingTable> {
    let moved = stage.in_schema(&stage.target.schema);
    if moved.staging == stage.staging {
        return Ok(moved);
    }
    let (table, schema) = (&stage.staging, quoted(&stage.target.schema));
    run(transaction, stage, &format!("ALTER TABLE {table} SET SCHEMA {schema}")).await?;
    let grants = default_grants(transaction, &stage.target.schema).await;
    for grant in grants.map_err(|error| failed(stage, &error))? {
        run(transaction, stage, &grant.statement(&moved.staging)).await?;
    }
    Ok(moved)
}

/// Renames the staging table to the name of its table.
pub(crate) async fn rename(transaction: &Transaction<'_>, stage: &StagingTable) -> Result<()> {
    let table = &stage.staging;
    let dropped = stage.own_columns().into_iter().map(|name| format!("DROP COLUMN {name}"));
    let dropped = dropped.collect::<Vec<_>>().join(", ");
    let statement = format!("ALTER TABLE {table} {dropped}, REPLICA IDENTITY DEFAULT");
    run(transaction, stage, &statement).await?;
    let statement = format!("ALTER TABLE {table} RENAME TO {}", quoted(&stage.target.table));
    run(transaction, stage, &statement).await?;
    if !stage.has_key() {
        return Ok(());
    }
    let index = stage.staging.sibling(stage.key_name());
    if let Some(free) = free_key_name(transaction, stage).await? {
        let statement = format!("ALTER INDEX {index} RENAME TO {}", quoted(&free.table));
        run(transaction, stage, &statement).await?;
    }
    Ok(())
}

/// Creates the table, without rows.
pub(crate) async fn define(transaction: &Transaction<'_>, stage: &StagingTable) -> Result<()> {
    run(transaction, stage, &stage.definition()).await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.staging)).await?;
    primary_key::add(transaction, stage).await?;
    let moved = move_beside(transaction, stage).await?;
    rename(transaction, &moved).await
}

/// A free name for the primary key: `table_pkey`, or one with a number; `None` when ten names are taken.
async fn free_key_name(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
) -> Result<Option<TableName>> {
    let table = &stage.target.table;
    let end = (0..=MAX_NAME - 6).rev().find(|end| table.is_char_boundary(*end)).unwrap_or(0);
    let base = table.get(..end).unwrap_or_default();
    for number in 0..10 {
        let suffix = if number == 0 { String::new() } else { number.to_string() };
        let name = stage.target.sibling(format!("{base}_pkey{suffix}"));
        let taken = transaction
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name.to_string()])
            .await
            .map_err(|error| failed(stage, &error))?;
        if !taken.get::<_, bool>(0) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// SQL that gives the staging table the existing table's other columns, its grants, its comment, and the comments of
/// columns without documentation.
async fn preserved_ddl(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<String> {
    let mut statements = Vec::new();
    let table = &stage.staging;
    let others = existing.others(&stage.schema);
    if !others.is_empty() {
        statements.push(format!("ALTER TABLE {table} {}", others.join(", ")));
    }
    let kept = grants(transaction, existing.oid).await.map_err(|error| failed(stage, &error))?;
    if !kept.is_empty() {
        let new = transaction
            .query_one("SELECT $1::text::regclass::oid", &[&table.to_string()])
            .await
            .map_err(|error| failed(stage, &error))?;
        // Its default privileges may differ from the privileges of the existing table.
        let given = grants(transaction, new.get(0)).await;
        for Grant { grantee, .. } in given.map_err(|error| failed(stage, &error))? {
            statements.push(format!("REVOKE ALL ON TABLE {table} FROM {grantee}"));
        }
        statements.extend(kept.iter().map(|grant| grant.statement(table)));
    }
    let comments = transaction
        .query(
            "SELECT a.attname, d.description FROM pg_description d LEFT JOIN pg_attribute a \
             ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0 \
             WHERE d.classoid = 'pg_class'::regclass AND d.objoid = $1",
            &[&existing.oid],
        )
        .await
        .map_err(|error| failed(stage, &error))?;
    for comment in comments {
        let text = literal(comment.get(1));
        match comment.get::<_, Option<&str>>(0) {
            None => statements.push(format!("COMMENT ON TABLE {table} IS {text}")),
            Some(column) => {
                let documented =
                    stage.schema.columns.iter().any(|c| c.name == column && c.doc.is_some());
                if !documented {
                    let column = quoted(column);
                    statements.push(format!("COMMENT ON COLUMN {table}.{column} IS {text}"));
                }
            }
        }
    }
    Ok(statements.join("; "))
}

/// Replaces the rows of the table by the staged rows; the table itself stays.
pub(crate) async fn replace_contents(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<()> {
    existing.check(&stage.target, &stage.schema)?;
    add_missing_columns(transaction, stage, existing).await?;
    let (name, table) = (&stage.target, &stage.staging);
    // Readers continue and see the existing rows; no other session writes meanwhile.
    run(transaction, stage, &format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")).await?;
    if existing.referenced && !stage.key.is_empty() && existing.has_all(&stage.key) {
        // Rows that other tables reference must not be deleted and inserted again: only the difference is written.
        let matching = stage.matching("old", "new");
        let delete = format!(
            "DELETE FROM {name} AS old WHERE NOT EXISTS (SELECT FROM {table} AS new WHERE {matching})"
        );
        run(transaction, stage, &delete).await?;
        return merge::upsert(transaction, stage, existing).await;
    }
    empty(transaction, stage).await?;
    insert(transaction, stage).await
}

/// Removes all rows of the table. TRUNCATE would lock readers out until all new rows are written.
async fn empty(transaction: &Transaction<'_>, stage: &StagingTable) -> Result<()> {
    let name = &stage.target;
    run(transaction, stage, "SAVEPOINT weir_empty").await?;
    match transaction.batch_execute(&format!("DELETE FROM {name}")).await {
        // The table is published, and has no replica identity by which rows could be deleted.
        Err(error) if failure::is(&error, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
            run(transaction, stage, "ROLLBACK TO weir_empty").await?;
            run(transaction, stage, &format!("TRUNCATE TABLE {name}")).await
        }
        done => done.map_err(|error| failed(stage, &error)),
    }
}
