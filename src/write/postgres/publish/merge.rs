//! A merge of staged rows into a table by key: new rows, changed rows, and rows that the source no longer has.

use tokio_postgres::{Client, Transaction, error::SqlState};

use crate::error::Result;
use crate::schema::{CHANGE, DELETED_AT, MARK, OWN_COLUMNS, SLICE};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::StagingTable;
use crate::write::postgres::name::{TableName, list, literal, quoted};
use crate::write::postgres::publish::statement::{ambiguous, failed, run};
use crate::write::postgres::sql::catalog::{self, Existing};
use crate::write::table::{Deletes, Disposition};
use crate::write::target::{CommitInfo, Deletable};

/// The table of marked parents. It is dropped before the transaction ends. It is not a temporary table, which would
/// need a permission of its own.
fn parents_table(stage: &StagingTable) -> TableName {
    stage.staging.sibling(format!("{}_mark", stage.staging.table))
}

/// Moves the markers out of the staged rows into a table of parents.
pub(crate) async fn extract_markers(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
) -> Result<()> {
    let Some(replaces) = &stage.replaces else { return Ok(()) };
    let (table, parent, mark) = (&stage.staging, quoted(replaces), quoted(MARK));
    let parents = parents_table(stage);
    let statement = format!(
        "CREATE TABLE {parents} AS \
             SELECT {parent} AS parent, bool_and({mark}) AS read_again FROM {table} \
             WHERE {mark} IS NOT NULL GROUP BY 1; \
         CREATE UNIQUE INDEX ON {parents} (parent); ANALYZE {parents}; \
         DELETE FROM {table} WHERE {mark} IS NOT NULL"
    );
    run(transaction, stage, &statement).await
}

/// Drops the table of parents.
pub(crate) async fn drop_markers(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
) -> Result<()> {
    match stage.replaces {
        Some(_) => run(transaction, stage, &format!("DROP TABLE {}", parents_table(stage))).await,
        None => Ok(()),
    }
}

/// Sets `_weir_change` of all staged rows to `new`, if the table has the column.
pub(crate) async fn mark_all_new(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
) -> Result<()> {
    if stage.disposition != Disposition::Merge || stage.schema.position(CHANGE).is_none() {
        return Ok(());
    }
    run(transaction, stage, &format!("UPDATE {} SET {} = 'new'", stage.staging, quoted(CHANGE)))
        .await
}

/// Merges the staged rows into the table; the number of existing rows that the source no longer has.
pub(crate) async fn merge(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
    info: &CommitInfo,
) -> Result<u64> {
    let (table, key) = (&stage.staging, stage.key_columns());
    if gone(stage, info).is_some() && stage.deletes != Deletes::Ignore {
        // If the existing table was never analysed, Postgres may expect too few lookups and scan without an index.
        run(transaction, stage, &format!("CREATE INDEX ON {table} ({key})")).await?;
    }
    run(transaction, stage, &format!("ANALYZE {table}")).await?;
    let deleted = delete(transaction, stage, info).await?;
    upsert(transaction, stage, existing).await?;
    Ok(deleted)
}

/// Keys of existing rows that were not staged, as texts; `None` when there are more than `most`. For keys of one
/// column.
pub(crate) async fn missing(
    client: &Client,
    stage: &StagingTable,
    discarded: &[i64],
    most: usize,
) -> Result<Option<Vec<String>>> {
    let (name, table, matching) = (&stage.target, &stage.staging, stage.matching("old", "new"));
    let (key, slice, mark) = (stage.key_columns(), quoted(SLICE), quoted(MARK));
    let failed = |error| failure::statement(format!("table {name} cannot be read"), &error);
    // A table without the key's columns gets them at commit, all null.
    let existing = catalog::inspect(client, name).await?;
    let Some(existing) = existing.filter(|existing| existing.has_all(&stage.key)) else {
        return Ok(Some(Vec::new()));
    };
    let alive = if existing.has_all(&[DELETED_AT.to_owned()]) {
        format!("old.{} IS NULL AND ", quoted(DELETED_AT))
    } else {
        String::new()
    };
    let statement = format!(
        "SELECT old.{key}::text FROM {name} AS old WHERE {alive}NOT EXISTS (SELECT FROM {table} AS new \
             WHERE {matching} AND new.{mark} IS NOT TRUE AND NOT new.{slice} = ANY($1)) LIMIT {}",
        most + 1
    );
    let rows = client.query(&statement, &[&discarded]).await.map_err(failed)?;
    Ok((rows.len() <= most).then(|| rows.iter().map(|row| row.get(0)).collect()))
}

async fn delete(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    info: &CommitInfo,
) -> Result<u64> {
    let Some(gone) = gone(stage, info) else { return Ok(0) };
    let name = &stage.target;
    let statement = match stage.deletes {
        Deletes::Ignore => return Ok(0),
        Deletes::Remove => format!("DELETE FROM {name} AS old WHERE {gone}"),
        Deletes::Mark => {
            let (at, column) = (literal(&info.at.to_rfc3339()), quoted(DELETED_AT));
            let change = match stage.schema.position(CHANGE) {
                Some(_) => format!(", {} = 'deleted'", quoted(CHANGE)),
                None => String::new(),
            };
            format!(
                "UPDATE {name} AS old SET {column} = {at}::timestamptz{change} \
                 WHERE old.{column} IS NULL AND {gone}"
            )
        }
    };
    transaction.execute(&statement, &[]).await.map_err(|error| failed(stage, &error))
}

/// SQL condition: the source no longer has the existing row. `None` when that is certain for no row.
///
/// Only `AND` joins the conditions: under an `OR`, Postgres would scan the whole staging table for each existing row.
fn gone(stage: &StagingTable, info: &CommitInfo) -> Option<String> {
    let (table, matching) = (&stage.staging, stage.matching("old", "new"));
    let unseen = format!("NOT EXISTS (SELECT FROM {table} AS new WHERE {matching})");
    let marked = stage.replaces.as_ref().map(|replaces| {
        let (parents, parent) = (parents_table(stage), quoted(replaces));
        format!("SELECT FROM {parents} AS marked WHERE marked.parent = old.{parent}")
    });
    match (info.deletable, marked) {
        (Deletable::Nothing, _) | (Deletable::ReadParents, None) => None,
        (Deletable::Everything, None) => Some(unseen),
        (Deletable::ReadParents, Some(marked)) => {
            Some(format!("EXISTS ({marked} AND marked.read_again) AND {unseen}"))
        }
        // The parent was read again, or the source no longer has it.
        (Deletable::Everything, Some(marked)) => {
            Some(format!("NOT EXISTS ({marked} AND NOT marked.read_again) AND {unseen}"))
        }
    }
}

/// Inserts rows with new keys, and updates existing rows that changed or were marked as deleted.
pub(crate) async fn upsert(
    transaction: &Transaction<'_>,
    stage: &StagingTable,
    existing: &Existing,
) -> Result<()> {
    let (name, table) = (&stage.target, &stage.staging);
    let (columns, key) = (stage.columns(), stage.key_columns());
    if !existing.is_unique(&stage.key) {
        let index = format!("CREATE UNIQUE INDEX ON {name} ({key})");
        transaction.batch_execute(&index).await.map_err(|error| {
            if failure::is(&error, &SqlState::UNIQUE_VIOLATION) {
                ambiguous(stage)
            } else {
                failed(stage, &error)
            }
        })?;
    }
    let named: Vec<&str> = stage.schema.columns.iter().map(|column| column.name.as_str()).collect();
    let values = named.iter().map(|name| match *name {
        CHANGE if stage.disposition == Disposition::Merge => "'new'".to_owned(),
        name => quoted(name),
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let action = on_conflict(stage, &named);
    let statement = format!(
        "INSERT INTO {name} AS old ({columns}) SELECT {values} FROM {table} \
         ON CONFLICT ({key}) DO {action}; DROP TABLE {table}"
    );
    run(transaction, stage, &statement).await
}

/// SQL: what `ON CONFLICT` does with an existing row whose key was staged.
fn on_conflict(stage: &StagingTable, named: &[&str]) -> String {
    let rest: Vec<&str> =
        named.iter().copied().filter(|name| !stage.key.iter().any(|key| key == name)).collect();
    let compared: Vec<&str> =
        rest.iter().copied().filter(|name| !name.starts_with(OWN_COLUMNS)).collect();
    let row = |of: &str, names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| format!("{of}.{}", quoted(name))).collect();
        format!("ROW({})", names.join(", "))
    };
    let differs = |names: &[&str]| {
        format!("{} IS DISTINCT FROM {}", row("old", names), row("EXCLUDED", names))
    };
    let revived = format!("old.{} IS NOT NULL", quoted(DELETED_AT));
    let marked = rest.contains(&DELETED_AT);
    let mut when = Vec::new();
    if !compared.is_empty() {
        when.push(differs(&compared));
    }
    if marked {
        when.push(revived.clone());
    }
    if when.is_empty() {
        return "NOTHING".to_owned();
    }
    let place: Vec<&str> =
        compared.iter().copied().filter(|name| stage.place.iter().any(|one| one == name)).collect();
    let change = || {
        let new = marked.then(|| format!(" WHEN {revived} THEN 'new'"));
        let moved = (!place.is_empty()).then(|| format!(" WHEN {} THEN 'moved'", differs(&place)));
        let cases: String = new.into_iter().chain(moved).collect();
        if cases.is_empty() {
            "'updated'".to_owned()
        } else {
            format!("CASE{cases} ELSE 'updated' END")
        }
    };
    let values = rest.iter().map(|name| match *name {
        CHANGE => change(),
        name => format!("EXCLUDED.{}", quoted(name)),
    });
    format!(
        "UPDATE SET ({}) = ROW({}) WHERE {}",
        list(rest.iter().copied()),
        values.collect::<Vec<_>>().join(", "),
        when.join(" OR "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnType, TableSchema};
    use crate::write::table::Table;

    fn stage(replaces: Option<&str>, columns: &[&str]) -> StagingTable {
        let columns = columns.iter().map(|name| match *name {
            DELETED_AT => Column::new(*name, ColumnType::Timestamp),
            name => Column::new(name, ColumnType::Text),
        });
        let schema = TableSchema { columns: columns.collect(), key: vec!["id".to_owned()] };
        let table = Table {
            replication: "r".to_owned(),
            source: None,
            stream: "s".to_owned(),
            object: "t".to_owned(),
            schema,
            disposition: Disposition::Merge,
            replaces: replaces.map(str::to_owned),
            deletes: Deletes::Mark,
            place: vec!["folder".to_owned()],
            version: None,
            strict: false,
            run_id: "1".to_owned(),
            files: None,
        };
        StagingTable::plan(&table, "public").unwrap()
    }

    #[test]
    fn the_condition_for_deleted_rows_follows_what_was_read() {
        let info = |deletable| CommitInfo {
            deletable,
            at: chrono::DateTime::UNIX_EPOCH,
            discarded_slices: Vec::new(),
        };
        let unseen = "NOT EXISTS (SELECT FROM";
        for (replaces, deletable, parts) in [
            (None, Deletable::Nothing, None),
            (None, Deletable::ReadParents, None),
            (None, Deletable::Everything, Some([unseen, unseen])),
            (Some("parent"), Deletable::Nothing, None),
            (Some("parent"), Deletable::ReadParents, Some(["AND marked.read_again)", unseen])),
            (Some("parent"), Deletable::Everything, Some(["AND NOT marked.read_again)", unseen])),
        ] {
            let condition = gone(&stage(replaces, &["id", "parent"]), &info(deletable));
            match (condition, parts) {
                (None, None) => {}
                (Some(condition), Some(parts)) => {
                    assert!(parts.iter().all(|part| condition.contains(part)), "{condition}");
                }
                other => panic!("{replaces:?} {deletable:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_existing_row_is_updated_only_if_it_changed_or_was_deleted() {
        let action = |columns: &[&str]| on_conflict(&stage(None, columns), columns);
        assert_eq!(action(&["id"]), "NOTHING");
        let plain = action(&["id", "name"]);
        assert!(plain.ends_with("WHERE ROW(old.\"name\") IS DISTINCT FROM ROW(EXCLUDED.\"name\")"));
        let revived = action(&["id", "name", DELETED_AT]);
        assert!(revived.ends_with("OR old.\"_weir_deleted_at\" IS NOT NULL"), "{revived}");
        let changes = action(&["id", "folder", DELETED_AT, CHANGE]);
        for part in ["THEN 'new'", "THEN 'moved'", "ELSE 'updated' END"] {
            assert!(changes.contains(part), "{changes}");
        }
        assert!(action(&["id", "name", CHANGE]).contains("'updated'"));
    }
}
