//! Existing tables, and whether the columns of a stream fit them.

use tokio_postgres::{GenericClient, Row};

use crate::error::{Error, Result};
use crate::schema::{DELETED_AT, TableSchema};
use crate::write::postgres::failure;
use crate::write::postgres::name::{TableName, quoted};
use crate::write::postgres::sql::column_type::{converted, holds, sql_type, widens};

/// The table, if it exists. The third column: only grants, comments and columns, which can be preserved, would be
/// lost if the table were dropped and created again. The fourth column: foreign keys of other tables reference it.
const TABLE: &str = "SELECT c.oid, c.relkind::text, \
    c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition \
        AND NOT c.relrowsecurity AND NOT c.relforcerowsecurity AND c.reloptions IS NULL \
        AND c.relreplident = 'd' AND c.reltablespace = 0 AND c.reloftype = 0 \
        AND pg_get_userbyid(c.relowner) = current_user \
        AND NOT EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) \
        AND NOT EXISTS (SELECT FROM pg_attribute a \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                AND (a.attacl IS NOT NULL OR a.atthasdef OR a.attidentity <> '' \
                    OR a.attoptions IS NOT NULL \
                    OR a.attcollation <> (SELECT typcollation FROM pg_type WHERE oid = a.atttypid))) \
        AND NOT EXISTS (SELECT FROM pg_depend d \
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid \
                AND NOT (d.deptype = 'i' \
                    AND d.classid IN ('pg_type'::regclass, 'pg_class'::regclass)) \
                AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS ( \
                    SELECT FROM pg_constraint k WHERE k.oid = d.objid AND k.conrelid = c.oid \
                        AND k.contype IN ('p', 'n')))) \
        AND NOT EXISTS (SELECT FROM pg_depend d \
            WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype \
                AND d.deptype <> 'i'), \
    EXISTS (SELECT FROM pg_constraint k \
        WHERE k.contype = 'f' AND k.confrelid = c.oid AND k.conrelid <> c.oid) \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relname = $2";

/// Columns: name, type, and whether they are NOT NULL, have a default, belong to the primary key, and are used by
/// views.
const COLUMNS: &str = "SELECT attname, format_type(atttypid, atttypmod), attnotnull, \
    atthasdef OR attidentity <> '', \
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = attrelid AND i.indisprimary \
        AND attnum = ANY (i.indkey)), \
    EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass \
        AND d.refobjid = attrelid AND d.refobjsubid = attnum \
        AND d.classid = 'pg_rewrite'::regclass) \
    FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

/// Columns of each unique index that `ON CONFLICT` can use.
const UNIQUE: &str = "SELECT array_agg(a.attname::text) \
    FROM pg_index i CROSS JOIN generate_series(0, i.indnkeyatts - 1) AS position \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[position] \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate \
        AND i.indpred IS NULL AND i.indexprs IS NULL \
    GROUP BY i.indexrelid";

/// An existing table.
pub(crate) struct Existing {
    pub(crate) oid: u32,
    /// Whether only grants, comments and columns would be lost if it were created again.
    plain: bool,
    /// Whether foreign keys of other tables reference it.
    pub(crate) referenced: bool,
    columns: Vec<ExistingColumn>,
    /// Sets of columns that are unique.
    unique: Vec<Vec<String>>,
}

struct ExistingColumn {
    name: String,
    kind: String,
    /// Whether it is NOT NULL without a default, so every row must have a value.
    needed: bool,
    /// Whether it is NOT NULL without being part of the primary key.
    strict: bool,
    /// Whether a view or a rule uses it, so that its type cannot change.
    viewed: bool,
}

/// Looks up a table; `None` when it does not exist.
///
/// # Errors
/// The name belongs to something other than a table.
pub(crate) async fn inspect<C: GenericClient + Sync>(
    client: &C,
    name: &TableName,
) -> Result<Option<Existing>> {
    let failed = |error| failure::statement(format!("table {name} cannot be looked up"), &error);
    let found = client.query_opt(TABLE, &[&name.schema, &name.table]).await.map_err(failed)?;
    let Some(found) = found else { return Ok(None) };
    let kind: &str = found.get(1);
    if !matches!(kind, "r" | "p") {
        return Err(Error::target(format!("{name} is {}, not a table", kind_name(kind)))
            .with_hint("give the stream another `object`"));
    }
    let oid: u32 = found.get(0);
    let columns = client.query(COLUMNS, &[&oid]).await.map_err(failed)?;
    let unique = client.query(UNIQUE, &[&oid]).await.map_err(failed)?;
    Ok(Some(Existing {
        oid,
        plain: found.get(2),
        referenced: found.get(3),
        columns: columns.iter().map(existing_column).collect(),
        unique: unique.iter().map(|row| row.get(0)).collect(),
    }))
}

/// Number of rows of a table that are not marked as deleted; `None` when there is no such table.
pub(crate) async fn count<C: GenericClient + Sync>(
    client: &C,
    name: &TableName,
) -> Result<Option<u64>> {
    let Some(existing) = inspect(client, name).await? else { return Ok(None) };
    let marked = existing.has_all(&[DELETED_AT.to_owned()]);
    let live = if marked { format!(" WHERE {DELETED_AT} IS NULL") } else { String::new() };
    let failed = |error| failure::statement(format!("rows of {name} cannot be counted"), &error);
    let query = format!("SELECT count(*) FROM {name}{live}");
    let row = client.query_one(&query, &[]).await.map_err(failed)?;
    Ok(u64::try_from(row.get::<_, i64>(0)).ok())
}

fn existing_column(row: &Row) -> ExistingColumn {
    let (not_null, has_default, has_key): (bool, bool, bool) = (row.get(2), row.get(3), row.get(4));
    ExistingColumn {
        name: row.get(0),
        kind: row.get(1),
        needed: not_null && !has_default,
        strict: not_null && !has_key,
        viewed: row.get(5),
    }
}

fn kind_name(kind: &str) -> &'static str {
    match kind {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "i" | "I" => "an index",
        "S" => "a sequence",
        "c" => "a composite type",
        _ => "something else",
    }
}

impl Existing {
    /// Refuses a schema whose rows the table cannot take.
    pub(crate) fn check(&self, name: &TableName, schema: &TableSchema) -> Result<()> {
        for column in &schema.columns {
            let Some(there) = self.columns.iter().find(|there| there.name == column.name) else {
                continue;
            };
            let (wanted, kind) = (sql_type(column.kind), &there.kind);
            let widens = widens(kind, wanted);
            if kind == wanted || holds(kind, wanted) || (widens && !there.viewed) {
                continue;
            }
            let column = &column.name;
            let what = format!(
                "column `{column}` of table {name} is `{kind}`, but the stream's column is `{wanted}`"
            );
            let (cause, remedy) = if widens {
                ("a view uses it", "drop the view and create it again after the run")
            } else {
                ("not every value of one type is a value of the other", "alter the column's type")
            };
            return Err(Error::target(what).because(cause).with_hint(format!(
                "{remedy}, name another type under `columns: {{ {column}: … }}` in the replication, \
                 or write to another table"
            )));
        }
        let lacks =
            |there: &&ExistingColumn| there.needed && schema.position(&there.name).is_none();
        if let Some(needed) = self.columns.iter().find(lacks) {
            let column = &needed.name;
            let what = format!(
                "column `{column}` of table {name} is NOT NULL, but the stream has no such column"
            );
            return Err(Error::target(what).with_hint(
                "give the column a default, make it nullable, or write to another table",
            ));
        }
        Ok(())
    }

    /// Whether a unique index has exactly these columns.
    pub(crate) fn is_unique(&self, key: &[String]) -> bool {
        let same = |columns: &Vec<String>| {
            columns.len() == key.len() && key.iter().all(|name| columns.contains(name))
        };
        self.unique.iter().any(same)
    }

    /// Refuses to append rows whose keys may exist to a table with a unique index within the key.
    pub(crate) fn check_no_duplicates(&self, name: &TableName, key: &[String]) -> Result<()> {
        let once = self.unique.iter().find(|columns| columns.iter().all(|one| key.contains(one)));
        let Some(columns) = once else { return Ok(()) };
        let columns: Vec<String> = columns.iter().map(|one| quoted(one)).collect();
        let columns = columns.join(", ");
        let what = format!(
            "table {name} allows each ({columns}) only once, so the mode `snapshot` cannot add the same rows again"
        );
        Err(Error::input(what).with_hint(
            "name another table for the snapshots with `object`, use the mode `incremental`, or drop the \
             table's primary key or unique index",
        ))
    }

    /// Whether a table with this key can replace it, so that only what can be preserved is lost. A NOT NULL
    /// constraint on a column outside the key was added by the user, and would be lost.
    pub(crate) fn is_plain(&self, key: &[String]) -> bool {
        let own = |column: &ExistingColumn| !column.strict || key.contains(&column.name);
        self.plain && self.columns.iter().all(own)
    }

    /// Its columns that a schema does not have, as clauses of `ALTER TABLE`.
    pub(crate) fn others(&self, schema: &TableSchema) -> Vec<String> {
        let others = self.columns.iter().filter(|there| schema.position(&there.name).is_none());
        others.map(|there| format!("ADD COLUMN {} {}", quoted(&there.name), there.kind)).collect()
    }

    /// A column of a schema that it does not have.
    pub(crate) fn missing_column(&self, schema: &TableSchema) -> Option<String> {
        let is_there = |name: &str| self.columns.iter().any(|there| there.name == name);
        let mut names = schema.columns.iter().map(|column| &column.name);
        names.find(|name| !is_there(name)).cloned()
    }

    /// Whether it has all these columns.
    pub(crate) fn has_all(&self, names: &[String]) -> bool {
        names.iter().all(|name| self.columns.iter().any(|column| column.name == *name))
    }

    /// The changes that let it take the rows of a schema, as clauses of `ALTER TABLE`.
    pub(crate) fn changes_for(&self, schema: &TableSchema) -> Vec<String> {
        let mut changes = Vec::new();
        for column in &schema.columns {
            let (name, wanted) = (quoted(&column.name), sql_type(column.kind));
            match self.columns.iter().find(|there| there.name == column.name) {
                None => changes.push(format!("ADD COLUMN {name} {wanted}")),
                Some(there) if widens(&there.kind, wanted) => {
                    let using = converted(&name, &there.kind, wanted);
                    changes.push(format!("ALTER COLUMN {name} TYPE {wanted} USING {using}"));
                }
                Some(_) => {}
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnType};

    fn column(name: &str, kind: &str) -> ExistingColumn {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        ExistingColumn { name, kind, needed: false, strict: false, viewed: false }
    }

    fn existing(columns: Vec<ExistingColumn>) -> Existing {
        let unique = vec![vec!["id".to_owned()]];
        Existing { oid: 0, plain: true, referenced: false, columns, unique }
    }

    fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
        let columns = columns.iter().map(|(name, kind)| Column::new(*name, *kind)).collect();
        TableSchema { columns, key: vec!["id".to_owned()] }
    }

    fn name() -> TableName {
        TableName { schema: "public".to_owned(), table: "t".to_owned() }
    }

    #[test]
    fn columns_that_cannot_take_the_values_are_refused() {
        let wanted = schema(&[("id", ColumnType::Int), ("v", ColumnType::Decimal)]);
        let viewed = ExistingColumn { viewed: true, ..column("v", "bigint") };
        let needed = ExistingColumn { needed: true, ..column("other", "text") };
        for (columns, refusal) in [
            (vec![column("id", "bigint"), column("v", "numeric")], None),
            (vec![column("id", "bigint"), column("v", "bigint")], None),
            (vec![column("id", "integer")], None),
            (vec![column("id", "bigint"), column("other", "text")], None),
            (vec![column("id", "text")], Some("not every value")),
            (vec![column("id", "bigint"), viewed], Some("a view uses it")),
            (vec![column("id", "bigint"), needed], Some("is NOT NULL")),
        ] {
            let checked = existing(columns).check(&name(), &wanted).map_err(|error| error.chain());
            match refusal {
                None => assert_eq!(checked, Ok(())),
                Some(part) => assert!(checked.unwrap_err().contains(part), "{part}"),
            }
        }
    }

    #[test]
    fn missing_columns_are_added_and_narrow_ones_widened() {
        let wanted = schema(&[("id", ColumnType::Int), ("v", ColumnType::Text)]);
        for (columns, changes) in [
            (vec![column("id", "bigint"), column("v", "text")], vec![]),
            (vec![column("id", "bigint")], vec!["ADD COLUMN \"v\" text"]),
            (
                vec![column("id", "integer"), column("v", "text")],
                vec!["ALTER COLUMN \"id\" TYPE bigint USING \"id\"::bigint"],
            ),
        ] {
            assert_eq!(existing(columns).changes_for(&wanted), changes);
        }
        let there = existing(vec![column("id", "bigint"), column("own", "date")]);
        assert_eq!(there.others(&wanted), ["ADD COLUMN \"own\" date"]);
        assert_eq!(there.missing_column(&wanted).as_deref(), Some("v"));
    }

    #[test]
    fn a_table_is_replaced_only_if_nothing_of_the_user_is_lost() {
        let strict = |name: &str| ExistingColumn { strict: true, ..column(name, "bigint") };
        let key = ["id".to_owned()];
        assert!(existing(vec![column("id", "bigint")]).is_plain(&key));
        assert!(existing(vec![strict("id")]).is_plain(&key));
        assert!(!existing(vec![strict("own")]).is_plain(&key));
        assert!(!Existing { plain: false, ..existing(Vec::new()) }.is_plain(&key));
    }

    #[test]
    fn rows_are_not_appended_where_each_key_is_unique() {
        let there = existing(vec![column("id", "bigint")]);
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (key, may_append) in [
            (names(&["id"]), false),
            (names(&["id", "lang"]), false),
            (names(&["lang"]), true),
            (names(&[]), true),
        ] {
            assert_eq!(there.check_no_duplicates(&name(), &key).is_ok(), may_append, "{key:?}");
        }
        assert!(there.is_unique(&names(&["id"])) && !there.is_unique(&names(&["id", "lang"])));
    }
}
