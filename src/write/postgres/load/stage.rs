//! The staging table: where rows wait, unseen, until they are committed.

use std::pin::pin;

use arrow_array::RecordBatch;
use bytes::{Bytes, BytesMut};
use chrono::Utc;
use futures_util::SinkExt;
use tokio_postgres::{Client, GenericClient};

use crate::error::{Error, Kind, Result};
use crate::schema::{Column, ColumnType, MARK, SLICE, TableSchema};
use crate::write::owner::Owner;
use crate::write::postgres::failure;
use crate::write::postgres::load::copy::{HEADER, Rows, TRAILER};
use crate::write::postgres::name::{self, TableName, WEIR_SCHEMA, list, quoted};
use crate::write::postgres::sql::column_type::sql_type;
use crate::write::postgres::sql::weir_schema;
use crate::write::table::{Deletes, Disposition, Table};

/// Column that numbers staged rows, so that their order can be told, and those after a checkpoint; it
/// goes before the rows are seen.
pub(crate) const ROW: &str = "_weir_row";
/// Bytes of a COPY that are sent at once.
const CHUNK: usize = 256 * 1024;

/// A table that is being loaded.
#[derive(Clone)]
pub(crate) struct Stage {
    /// Stream whose rows these are.
    pub(crate) stream: String,
    /// The table that is meant.
    pub(crate) name: TableName,
    /// The table that holds its new rows until then.
    pub(crate) table: TableName,
    pub(crate) schema: TableSchema,
    /// The columns of a COPY, but for the row's number.
    staged: TableSchema,
    /// Comment of the staging table, by which the run that stages here finds it again.
    mark: String,
    /// Column that names a row's parent.
    pub(crate) replaces: Option<String>,
    pub(crate) deletes: Deletes,
    /// Columns a change of which is called `moved`.
    pub(crate) place: Vec<String>,
    /// Columns that tell rows apart; empty where rows are only added.
    pub(crate) key: Vec<String>,
    /// Columns that tell the rows of one run apart.
    pub(crate) unique: Vec<String>,
    /// Column that grows with every change of a row.
    pub(crate) version: Option<String>,
    pub(crate) strict: bool,
    pub(crate) disposition: Disposition,
    /// Whether it may become the table itself.
    pub(crate) lasting: bool,
    /// What is recorded of the table at the commit, but for its rows; and where, as far as there is a place.
    pub(crate) owner: Option<Owner>,
    pub(crate) records: Option<TableName>,
}

impl Stage {
    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// Names that Postgres cannot keep, or a merge without a key.
    pub(crate) fn plan(table: &Table, default_schema: &str) -> Result<Self> {
        let name = TableName::parse(&table.object, default_schema)?;
        name.refuse_system()?;
        for (at, column) in table.schema.columns.iter().enumerate() {
            name::check("column", &column.name)?;
            if table.schema.position(&column.name) != Some(at)
                || [ROW, SLICE, MARK].contains(&column.name.as_str())
            {
                let what = format!("column `{}` of table {name} comes twice", column.name);
                return Err(Error::input(what).with_hint("leave one out with `select`"));
            }
        }
        let key = match table.disposition {
            Disposition::Append => Vec::new(),
            _ => table.schema.key.clone(),
        };
        if let Some(lost) = key.iter().find(|name| table.schema.position(name).is_none()) {
            return Err(Error::input(format!(
                "key column `{lost}` of table {name} is not written"
            ))
            .with_hint("select it, or change the stream's `key`"));
        }
        if key.is_empty() && table.disposition == Disposition::Merge {
            let what = format!("stream `{}` has no key to merge its rows by", table.stream);
            return Err(Error::input(what)
                .with_hint("declare its `key` in the spec, or use the mode full-refresh"));
        }
        let unique = table.schema.key.clone();
        let is_there = |name: &String| table.schema.position(name).is_some();
        let unique = if unique.iter().all(is_there) { unique } else { Vec::new() };
        let mut random = [0_u8; 4];
        getrandom::fill(&mut random)
            .map_err(|error| Error::target("there is no randomness").because(error.to_string()))?;
        let stage = name.stage(WEIR_SCHEMA, u32::from_le_bytes(random));
        let (schema, disposition) = (table.schema.clone(), table.disposition);
        let replaces = table.replaces.clone().filter(|_| disposition == Disposition::Merge);
        let mut staged = schema.clone();
        staged.columns.push(Column::new(SLICE, ColumnType::Int));
        if replaces.is_some() {
            staged.columns.push(Column::new(MARK, ColumnType::Bool));
        }
        Ok(Self {
            stream: table.stream.clone(),
            name,
            table: stage,
            schema,
            staged,
            mark: weir_schema::marking(&table.replication, &table.run_id),
            replaces,
            deletes: table.deletes,
            place: table.place.clone(),
            key,
            unique,
            version: table.version.clone(),
            strict: table.strict,
            disposition,
            lasting: false,
            owner: Owner::of(table, None),
            records: None,
        })
    }

    /// The same, staged in another schema.
    pub(crate) fn in_schema(&self, schema: &str) -> Self {
        let table = TableName { schema: schema.to_owned(), ..self.table.clone() };
        Self { table, ..self.clone() }
    }

    /// Whether rows are told apart by a key.
    pub(crate) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// Columns that only the staging has, quoted.
    pub(crate) fn own_columns(&self) -> Vec<String> {
        let own = self.staged.columns.get(self.schema.columns.len()..).unwrap_or_default();
        own.iter().map(|column| quoted(&column.name)).chain([quoted(ROW)]).collect()
    }

    /// Goes on with the table that an earlier process of the same run has left, with this many rows;
    /// `false` when there is none, or it has fewer.
    pub(crate) async fn go_on(&mut self, client: &Client, rows: u64) -> Result<bool> {
        let failed = |error| {
            failure::statement(format!("the staging of {} cannot be read", self.name), &error)
        };
        let query = weir_schema::stages_of("n.nspname, c.relname::text")
            + " AND starts_with(obj_description(c.oid, 'pg_class'), $3) LIMIT 1";
        let (schema, prefix) = (&self.name.schema, self.name.stage_prefix());
        let found = client.query_opt(&query, &[schema, &prefix, &self.mark]).await;
        let Some(found) = found.map_err(failed)? else { return Ok(false) };
        self.table = TableName { schema: found.get(0), table: found.get(1) };
        let statement = format!("DELETE FROM {} WHERE {} >= $1", self.table, quoted(ROW));
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        client.execute(&statement, &[&rows]).await.map_err(failed)?;
        let count = format!("SELECT count(*) FROM {}", self.table);
        let there = client.query_one(&count, &[]).await.map_err(failed)?;
        // It shows that the run still goes on.
        self.touch(client).await?;
        Ok(there.get::<_, i64>(0) == rows)
    }

    /// SQL: says whose staging the table is, and on which day a process last went on with it.
    fn marking(&self) -> String {
        let comment = format!("{}{}", self.mark, weir_schema::dated(Utc::now()));
        format!("COMMENT ON TABLE {} IS {}", self.table, name::literal(&comment))
    }

    /// Changes something that makes no difference, so that there is something to wait for.
    pub(crate) async fn touch<C: GenericClient + Sync>(&self, client: &C) -> Result<()> {
        let touched = client.batch_execute(&self.marking()).await;
        let what = || format!("the staging of {} cannot be written", self.name);
        touched.map_err(|error| failure::statement(what(), &error))
    }

    /// Removes the rows of slices that do not count.
    pub(crate) async fn remove<C: GenericClient + Sync>(
        &self,
        client: &C,
        slices: &[i64],
    ) -> Result<()> {
        if slices.is_empty() {
            return Ok(());
        }
        let statement = format!("DELETE FROM {} WHERE {} = ANY($1)", self.table, quoted(SLICE));
        let what = || format!("rows for {} cannot be taken back", self.name);
        let done = client.execute(&statement, &[&slices]).await;
        done.map(|_| ()).map_err(|error| failure::statement(what(), &error))
    }

    /// Names of the table's columns, quoted, with commas between.
    pub(crate) fn columns(&self) -> String {
        list(self.schema.columns.iter().map(|column| column.name.as_str()))
    }

    /// Names of the key's columns, likewise.
    pub(crate) fn key_columns(&self) -> String {
        list(self.key.iter().map(String::as_str))
    }

    /// Removes what dead runs left, and creates the table.
    pub(crate) async fn create(&self, client: &Client) -> Result<()> {
        self.remove_stale(client).await?;
        let definition = self.definition();
        let created = client.batch_execute(&definition).await;
        let what = || format!("a staging table for {} cannot be created", self.name);
        created.map_err(|error| failure::definition(what(), &definition, &error))
    }

    pub(crate) fn definition(&self) -> String {
        let mut columns = Vec::with_capacity(self.staged.columns.len() + 1);
        for column in &self.staged.columns {
            // Markers have no key.
            let filled = self.key.contains(&column.name) && self.replaces.is_none();
            let filled = if filled { " NOT NULL" } else { "" };
            columns.push(format!("{} {}{filled}", quoted(&column.name), sql_type(column.kind)));
        }
        columns.push(format!("{} bigint", quoted(ROW)));
        let create = format!("CREATE TABLE {} ({})", self.table, columns.join(", "));
        // Rows can be deleted from it even where all tables are published.
        let identity = format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.table);
        let mut statements = vec![create, identity, self.marking()];
        if !self.lasting {
            return statements.join("; ");
        }
        for column in &self.schema.columns {
            if let Some(doc) = &column.doc {
                let (table, column, doc) = (&self.table, quoted(&column.name), name::literal(doc));
                statements.push(format!("COMMENT ON COLUMN {table}.{column} IS {doc}"));
            }
        }
        statements.join("; ")
    }

    /// Only the holder of the table's lock may come here: no living run has such a table then.
    async fn remove_stale(&self, client: &Client) -> Result<()> {
        let failed =
            |error| failure::statement(format!("old staging of {} stays", self.name), &error);
        let query = weir_schema::stages_of("n.nspname, c.relname::text");
        let (schema, prefix) = (&self.name.schema, self.name.stage_prefix());
        for row in client.query(&query, &[schema, &prefix]).await.map_err(failed)? {
            let table = TableName { schema: row.get(0), table: row.get(1) };
            let dropped = client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await;
            dropped.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the table; on the way out, so that failing is no matter: the next run tries again.
    pub(crate) async fn discard(&self, client: &Client) {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {}", self.table)).await.ok();
    }

    /// Copies batches into the table, in one COPY; `first` is the number of their first row. Gives
    /// back per column how many values were replaced, where any were.
    pub(crate) async fn copy(
        &self,
        client: &Client,
        batches: Vec<RecordBatch>,
        mut first: i64,
    ) -> Result<Vec<(String, u64)>> {
        let failed =
            |error| failure::statement(format!("rows for {} cannot be copied", self.name), &error);
        let statement = format!("COPY {} FROM STDIN (FORMAT binary)", self.table);
        let mut sink = pin!(client.copy_in::<_, Bytes>(&statement).await.map_err(failed)?);
        let mut out = BytesMut::with_capacity(CHUNK + CHUNK / 4);
        out.extend_from_slice(HEADER);
        let mut replaced = Vec::new();
        for batch in batches {
            let batch = self.without_marks(batch)?;
            let mut rows = Rows::new(&self.staged, &batch, Some(first))?;
            for row in 0..batch.num_rows() {
                rows.put(row, &mut out);
                if out.len() >= CHUNK {
                    sink.send(out.split().freeze()).await.map_err(failed)?;
                    out.reserve(CHUNK + CHUNK / 4);
                }
            }
            let names = self.staged.columns.iter().map(|column| column.name.clone());
            replaced.extend(names.zip(rows.replaced).filter(|(_, count)| *count > 0));
            first = first.saturating_add(i64::try_from(batch.num_rows()).unwrap_or(i64::MAX));
        }
        out.extend_from_slice(TRAILER);
        sink.send(out.freeze()).await.map_err(failed)?;
        sink.finish().await.map_err(failed)?;
        Ok(replaced)
    }

    /// A batch without its markers' column, where the staging has none.
    fn without_marks(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.replaces.is_some() || batch.num_columns() == self.staged.columns.len() {
            return Ok(batch);
        }
        let columns: Vec<usize> = (0..self.staged.columns.len()).collect();
        batch.project(&columns).map_err(|error| {
            Error::new(Kind::Shape, format!("rows for {} have other columns", self.name))
                .because(error)
        })
    }

    /// Name of the primary key while it belongs to the staging table.
    pub(crate) fn key_name(&self) -> String {
        format!("{}_pkey", self.table.table)
    }

    /// SQL: both tables' rows have the same key.
    pub(crate) fn matching(&self, one: &str, other: &str) -> String {
        let same = |name: &String| format!("{one}.{0} = {other}.{0}", quoted(name));
        self.key.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }
}

/// What cannot happen while a table is locked by its writer.
pub(crate) fn lost_lock(name: &TableName) -> Error {
    Error::new(Kind::Target, format!("the lock on table {name} was lost"))
        .because("the connection that held it broke")
        .with_hint("nothing was changed: run again")
}
