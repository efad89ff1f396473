//! Staged rows made visible, all in one transaction.

use tokio_postgres::{Transaction, error::SqlState};

use super::{
    catalog::{self, Existing},
    failure, merge,
    name::{LONGEST, TableName, literal, quoted},
    own,
    pool::Lease,
    repeats::{self, Told},
    stage::Stage,
    wait::{Waiter, Waits},
};
use crate::error::{Error, Result};
use crate::write::{Disposition, Ending, repeats::check_strict};

/// What a commit did.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Rows that are now in the table.
    pub(super) rows: u64,
    /// Old rows that were marked or removed.
    pub(super) deleted: u64,
    /// Staged rows that gave way to others with the same key.
    pub(super) told: Told,
}

/// Publishes a stage in an open transaction. The work on the staged rows comes first, so that the table is
/// locked for as short a time as can be.
pub(super) async fn publish(
    transaction: &Transaction<'_>,
    stage: &Stage,
    ending: &Ending,
    waits: &mut Waits<'_>,
) -> Result<Published> {
    let prepared = waits.take(transaction, || prepare(transaction, stage, ending)).await?;
    let (rows, told) = prepared;
    let deleted = waits.take(transaction, || place(transaction, stage, ending)).await?;
    Ok(Published { rows, deleted, told })
}

/// Makes the staged rows ready; how many they are, and what gave way to others.
async fn prepare(
    transaction: &Transaction<'_>,
    stage: &Stage,
    ending: &Ending,
) -> Result<(u64, Told)> {
    run(transaction, stage, "SET LOCAL synchronous_commit TO DEFAULT").await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.table)).await?;
    stage.remove(transaction, &ending.void).await?;
    merge::set_marks_aside(transaction, stage).await?;
    let told = if stage.lasting {
        stage.add_key(transaction).await?
    } else {
        repeats::settle(transaction, stage).await?
    };
    check_strict(stage.strict, &told.notices)?;
    let count = format!("SELECT count(*) FROM {}", stage.table);
    let count = transaction.query_one(&count, &[]).await.map_err(|error| failed(stage, &error))?;
    Ok((u64::try_from(count.get::<_, i64>(0)).unwrap_or_default(), told))
}

/// Puts the staged rows into the table, or the stage into its place; how many old rows are gone.
async fn place(transaction: &Transaction<'_>, stage: &Stage, ending: &Ending) -> Result<u64> {
    let mut deleted = 0;
    match catalog::inspect(transaction, &stage.name).await? {
        None if stage.lasting => {
            merge::call_all_new(transaction, stage).await?;
            let moved = move_beside(transaction, stage).await?;
            rename(transaction, &moved).await?;
        }
        None => return Err(dropped(stage)),
        Some(old) => match stage.disposition {
            Disposition::Replace => replace(transaction, stage, &old).await?,
            Disposition::Truncate => fill(transaction, stage, &old).await?,
            Disposition::Append => append(transaction, stage, &old).await?,
            Disposition::Merge => {
                old.check(&stage.name, &stage.schema)?;
                adapt(transaction, stage, &old).await?;
                deleted = merge::merge(transaction, stage, &old, ending).await?;
            }
        },
    }
    merge::drop_marks(transaction, stage).await?;
    Ok(deleted)
}

fn dropped(stage: &Stage) -> Error {
    Error::target(format!("table {} was dropped while it was loaded", stage.name))
        .with_hint("run again")
}

/// Gives the table the columns and types that it lacks, in a transaction of its own: the strong lock which
/// that takes is not held while rows are merged.
pub(super) async fn adapt_first(
    lease: &mut Lease,
    stage: &Stage,
    waiter: Waiter<'_>,
) -> Result<Option<(u64, String)>> {
    let Some(old) = catalog::inspect(&**lease, &stage.name).await? else { return Ok(None) };
    let swapped = stage.disposition == Disposition::Replace && old.is_plain(&stage.key);
    if swapped || old.adaptations(&stage.schema).is_empty() {
        return Ok(None);
    }
    let transaction = lease.transaction().await.map_err(|error| failed(stage, &error))?;
    let mut waits = Waits::begin(&transaction, waiter).await?;
    waits.take(&transaction, || adapt_now(&transaction, stage)).await?;
    transaction.commit().await.map_err(|error| failed(stage, &error))?;
    Ok(waits.waited())
}

/// Looks what the table lacks, and adds it.
async fn adapt_now(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let Some(old) = catalog::inspect(transaction, &stage.name).await? else { return Ok(()) };
    old.check(&stage.name, &stage.schema)?;
    adapt(transaction, stage, &old).await
}

pub(super) async fn run(
    transaction: &Transaction<'_>,
    stage: &Stage,
    statement: &str,
) -> Result<()> {
    let done = transaction.batch_execute(statement).await;
    let what = || format!("table {} cannot be written", stage.name);
    done.map_err(|error| failure::definition(what(), statement, &error))
}

pub(super) fn failed(stage: &Stage, error: &tokio_postgres::Error) -> Error {
    failure::statement(format!("table {} cannot be written", stage.name), error)
}

/// The stage takes the old table's place; where something holds on to that, it is filled anew.
async fn replace(transaction: &Transaction<'_>, stage: &Stage, old: &Existing) -> Result<()> {
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
async fn move_beside(transaction: &Transaction<'_>, stage: &Stage) -> Result<Stage> {
    let moved = stage.in_schema(&stage.name.schema);
    if moved.table == stage.table {
        return Ok(moved);
    }
    let (table, schema) = (&stage.table, quoted(&stage.name.schema));
    run(transaction, stage, &format!("ALTER TABLE {table} SET SCHEMA {schema}")).await?;
    let grants = own::default_grants(transaction, &stage.name.schema).await;
    for (grantee, privilege, grantable) in grants.map_err(|error| failed(stage, &error))? {
        let grant = granting(&moved.table, &grantee, &privilege, grantable);
        run(transaction, stage, &grant).await?;
    }
    Ok(moved)
}

/// SQL: one privilege on a table.
fn granting(table: &TableName, grantee: &str, privilege: &str, grantable: bool) -> String {
    let option = if grantable { " WITH GRANT OPTION" } else { "" };
    format!("GRANT {privilege} ON TABLE {table} TO {grantee}{option}")
}

/// The stage becomes the table.
async fn rename(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
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
pub(super) async fn define(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    run(transaction, stage, &stage.definition()).await?;
    run(transaction, stage, &format!("COMMENT ON TABLE {} IS NULL", stage.table)).await?;
    stage.add_key(transaction).await?;
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
    let grants = grants(transaction, stage, old.oid).await?;
    if !grants.is_empty() {
        let new = transaction
            .query_one("SELECT $1::text::regclass::oid", &[&table.to_string()])
            .await
            .map_err(|error| failed(stage, &error))?;
        // What default privileges gave it is not what the old table had.
        for (grantee, ..) in self::grants(transaction, stage, new.get(0)).await? {
            statements.push(format!("REVOKE ALL ON TABLE {table} FROM {grantee}"));
        }
        for (grantee, privilege, grantable) in grants {
            statements.push(granting(table, &grantee, &privilege, grantable));
        }
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

/// Who may do what: grantee, privilege, and whether it may be passed on.
async fn grants(
    transaction: &Transaction<'_>,
    stage: &Stage,
    oid: u32,
) -> Result<Vec<(String, String, bool)>> {
    let rows = transaction
        .query(
            "SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' \
                 ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type, is_grantable \
             FROM pg_class, aclexplode(relacl) WHERE oid = $1",
            &[&oid],
        )
        .await
        .map_err(|error| failed(stage, &error))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
}

/// The table stays, its rows give way to the stage's.
async fn fill(transaction: &Transaction<'_>, stage: &Stage, old: &Existing) -> Result<()> {
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

async fn append(transaction: &Transaction<'_>, stage: &Stage, old: &Existing) -> Result<()> {
    old.check(&stage.name, &stage.schema)?;
    adapt(transaction, stage, old).await?;
    insert(transaction, stage).await
}

async fn insert(transaction: &Transaction<'_>, stage: &Stage) -> Result<()> {
    let (name, table, columns) = (&stage.name, &stage.table, stage.columns());
    let statement =
        format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {table}; DROP TABLE {table}");
    run(transaction, stage, &statement).await
}

/// The error of a table whose rows cannot be merged into.
pub(super) fn ambiguous(stage: &Stage) -> Error {
    let (name, key) = (&stage.name, stage.key_columns());
    Error::target(format!("table {name} already has several rows with the same {key}"))
        .with_hint("remove the duplicates, or load it once with the mode full-refresh")
}

/// Gives the table the columns and types that it lacks.
pub(super) async fn adapt(
    transaction: &Transaction<'_>,
    stage: &Stage,
    old: &Existing,
) -> Result<()> {
    let changes = old.adaptations(&stage.schema);
    if changes.is_empty() {
        return Ok(());
    }
    run(transaction, stage, &format!("ALTER TABLE {} {}", stage.name, changes.join(", "))).await
}
