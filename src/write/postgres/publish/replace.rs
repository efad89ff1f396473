//! A table that gives way to its staging table, or whose rows do.

use tokio_postgres::{Transaction, error::SqlState};

use crate::error::Result;
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::Stage;
use crate::write::postgres::name::{LONGEST, TableName, literal, quoted};
use crate::write::postgres::publish::columns::adapt;
use crate::write::postgres::publish::statement::{dropped, failed, insert, run};
use crate::write::postgres::publish::{merge, primary_key};
use crate::write::postgres::sql::catalog;
use crate::write::postgres::sql::catalog::Existing;
use crate::write::postgres::sql::grants::{Grant, default_grants, grants};

/// The stage takes the old table's place; where something holds on to that, it is filled anew.
pub(crate) async fn replace(
    transaction: &Transaction<'_>,
    stage: &Stage,
    old: &Existing,
) -> Result<()> {
    if !old.is_plain(&stage.key) {
        return fill(transaction, stage, old).await;
    }
    run(transaction, stage, "SAVEPOINT weir_swap").await?;
    run(transaction, stage, &format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", stage.name)).await?;
    // Someone may have come between.
    let old = &catalog::inspect(transaction, &stage.name).await?.ok_or_else(|| dropped(stage))?;
    if !old.is_plain(&stage.key) {
        run(transaction, stage, "ROLLBACK TO weir_swap").await?;
        return fill(transaction, stage, old).await;
    }
    let moved = move_beside(transaction, stage).await?;
    let carried = carried(transaction, &moved, old).await?;
    match transaction.batch_execute(&format!("DROP TABLE {}", stage.name)).await {
        Ok(()) => {}
        Err(error) if failure::is(&error, &SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            run(transaction, stage, "ROLLBACK TO weir_swap").await?;
            return fill(transaction, stage, old).await;
        }
        Err(error) => return Err(failed(stage, &error)),
    }
    run(transaction, stage, &carried).await?;
    rename(transaction, &moved).await
}

/// Moves the stage into the schema of its table, with the grants that tables get there.
pub(crate) async fn move_beside(transaction: &Transaction<'_>, stage: &Stage) -> Result<Stage> {
    let moved = stage.in_schema(&stage.name.schema);
    if moved.table == stage.table {
        return Ok(moved);
    }
    let (table, schema) = (&stage.table, quoted(&stage.name.schema));
    run(transaction, stage, &format!("ALTER TABLE {table} SET SCHEMA {schema}")).await?;
    let grants = default_grants(transaction, &stage.name.schema).await;
    for grant in grants.map_err(|error| failed(stage, &error))? {
        run(transaction, stage, &grant.statement(&moved.table)).await?;
    }
    Ok(moved)
}

/// The stage becomes the table.
pub(crate) async fn rename(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let table = &stage.table;
    let dropped = stage.own_columns().into_iter().map(|name| format!("DROP COLUMN {name}"));
    let dropped = dropped.collect::<Vec<_>>().join(", ");
    let statement = format!("ALTER TABLE {table} {dropped}, REPLICA IDENTITY DEFAULT");
    run(transaction, stage, &statement).await?;
    let statement = format!("ALTER TABLE {table} RENAME TO {}", quoted(&stage.name.table));
    run(transaction, stage, &statement).await?;
    if !stage.has_key() {
        return Ok(());
    }
    let index = stage.table.sibling(stage.key_name());
    if let Some(free) = free_key_name(transaction, stage).await? {
        let statement = format!("ALTER INDEX {index} RENAME TO {}", quoted(&free.table));
        run(transaction, stage, &statement).await?;
    }
    Ok(())
}

/// Makes the table, with nothing in it.
pub(crate) async fn define(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    run(transaction, stage, &stage.definition()).await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.table)).await?;
    primary_key::add(transaction, stage).await?;
    let moved = move_beside(transaction, stage).await?;
    rename(transaction, &moved).await
}

/// `table_pkey`, or with a number if that is taken; `None` when ten are.
async fn free_key_name(transaction: &Transaction<'_>, stage: &Stage) -> Result<Option<TableName>> {
    let table = &stage.name.table;
    let end = (0..=LONGEST - 6).rev().find(|end| table.is_char_boundary(*end)).unwrap_or(0);
    let base = table.get(..end).unwrap_or_default();
    for number in 0..10 {
        let suffix = if number == 0 { String::new() } else { number.to_string() };
        let name = stage.name.sibling(format!("{base}_pkey{suffix}"));
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

/// SQL that gives the stage the old table's other columns, its grants, its comment, and those of
/// columns without docs.
async fn carried(transaction: &Transaction<'_>, stage: &Stage, old: &Existing) -> Result<String> {
    let mut statements = Vec::new();
    let table = &stage.table;
    let others = old.others(&stage.schema);
    if !others.is_empty() {
        statements.push(format!("ALTER TABLE {table} {}", others.join(", ")));
    }
    let kept = grants(transaction, old.oid).await.map_err(|error| failed(stage, &error))?;
    if !kept.is_empty() {
        let new = transaction
            .query_one("SELECT $1::text::regclass::oid", &[&table.to_string()])
            .await
            .map_err(|error| failed(stage, &error))?;
        // What default privileges gave it is not what the old table had.
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
            &[&old.oid],
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

/// The table stays, its rows give way to the stage's.
pub(crate) async fn fill(
    transaction: &Transaction<'_>,
    stage: &Stage,
    old: &Existing,
) -> Result<()> {
    old.check(&stage.name, &stage.schema)?;
    adapt(transaction, stage, old).await?;
    let (name, table) = (&stage.name, &stage.table);
    // Readers go on and see the old rows; nobody writes in between.
    run(transaction, stage, &format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")).await?;
    if old.referenced && !stage.key.is_empty() && old.has_all(&stage.key) {
        // Rows that others refer to must not go and come back: only the difference is written.
        let matching = stage.matching("old", "new");
        let delete = format!(
            "DELETE FROM {name} AS old WHERE NOT EXISTS (SELECT FROM {table} AS new WHERE {matching})"
        );
        run(transaction, stage, &delete).await?;
        return merge::upsert(transaction, stage, old).await;
    }
    empty(transaction, stage).await?;
    insert(transaction, stage).await
}

/// Removes all rows of the table. Truncating it would lock readers out until all new rows are in.
async fn empty(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let name = &stage.name;
    run(transaction, stage, "SAVEPOINT weir_empty").await?;
    match transaction.batch_execute(&format!("DELETE FROM {name}")).await {
        // It is published, and has no replica identity by which rows could be deleted.
        Err(error) if failure::is(&error, &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
            run(transaction, stage, "ROLLBACK TO weir_empty").await?;
            run(transaction, stage, &format!("TRUNCATE TABLE {name}")).await
        }
        done => done.map_err(|error| failed(stage, &error)),
    }
}
