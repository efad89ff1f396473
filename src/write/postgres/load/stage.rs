//! The staging table, in which rows wait unseen for their commit.

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

/// Column that numbers staged rows: it gives their order, and identifies those after a checkpoint. Dropped before the
/// rows become visible.
pub(crate) const ROW: &str = "_weir_row";
/// Bytes of a COPY that are sent at once.
const CHUNK: usize = 256 * 1024;

/// A staging table, and the table that it is for.
#[derive(Clone)]
pub(crate) struct StagingTable {
    /// Stream whose rows these are.
    pub(crate) stream: String,
    /// The table that the run writes.
    pub(crate) target: TableName,
    /// The table that holds the new rows until the commit.
    pub(crate) staging: TableName,
    pub(crate) schema: TableSchema,
    /// The columns of a COPY, without the number of the row.
    staged: TableSchema,
    /// Beginning of the comment of the staging table, by which its run finds it again.
    comment: String,
    /// Column that names a row's parent.
    pub(crate) replaces: Option<String>,
    pub(crate) deletes: Deletes,
    /// Columns that hold the place of a record: `_weir_change` is `moved` when one of them changed.
    pub(crate) place: Vec<String>,
    /// Key columns by which new rows replace existing ones; empty when rows are only appended.
    pub(crate) key: Vec<String>,
    /// Key columns that identify the rows of one run.
    pub(crate) unique: Vec<String>,
    /// Column whose value grows with every change of a row.
    pub(crate) version: Option<String>,
    pub(crate) strict: bool,
    pub(crate) disposition: Disposition,
    /// Whether the staging table may become the table itself.
    pub(crate) becomes_table: bool,
    /// The owner that the commit records, without the number of rows.
    pub(crate) owner: Option<Owner>,
    /// The table for the record; `None` when this role can write no such table.
    pub(crate) records: Option<TableName>,
}

impl StagingTable {
    /// A staging table for a table. Works offline.
    ///
    /// # Errors
    /// Postgres cannot keep a name, a column comes twice, or a merge has no key.
    pub(crate) fn plan(table: &Table, default_schema: &str) -> Result<Self> {
        let name = TableName::parse(&table.object, default_schema)?;
        name.refuse_system()?;
        for (at, column) in table.schema.columns.iter().enumerate() {
            name::check("column", &column.name)?;
            if table.schema.position(&column.name) != Some(at)
                || [ROW, SLICE, MARK].contains(&column.name.as_str())
            {
                let what = format!("table {name} would have two columns `{}`", column.name);
                return Err(Error::input(what).with_hint("exclude one with `select`"));
            }
        }
        let key = match table.disposition {
            Disposition::Append => Vec::new(),
            _ => table.schema.key.clone(),
        };
        if let Some(lost) = key.iter().find(|name| table.schema.position(name).is_none()) {
            return Err(Error::input(format!("table {name} would lack its key column `{lost}`"))
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
        getrandom::fill(&mut random).map_err(|error| {
            Error::target("the system provides no random numbers").because(error.to_string())
        })?;
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
            target: name,
            staging: stage,
            schema,
            staged,
            comment: weir_schema::stage_comment(&table.replication, &table.run_id),
            replaces,
            deletes: table.deletes,
            place: table.place.clone(),
            key,
            unique,
            version: table.version.clone(),
            strict: table.strict,
            disposition,
            becomes_table: false,
            owner: Owner::of(table, None),
            records: None,
        })
    }

    /// The same staging table in another schema.
    pub(crate) fn in_schema(&self, schema: &str) -> Self {
        let table = TableName { schema: schema.to_owned(), ..self.staging.clone() };
        Self { staging: table, ..self.clone() }
    }

    /// Whether new rows replace existing rows by a key.
    pub(crate) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// Columns that only the staging table has, quoted.
    pub(crate) fn own_columns(&self) -> Vec<String> {
        let own = self.staged.columns.get(self.schema.columns.len()..).unwrap_or_default();
        own.iter().map(|column| quoted(&column.name)).chain([quoted(ROW)]).collect()
    }

    /// Resumes with the staging table that an earlier process of the same run has left, with this number of rows;
    /// `false` when there is none, or it has fewer rows.
    pub(crate) async fn resume(&mut self, client: &Client, rows: u64) -> Result<bool> {
        let failed = |error| {
            failure::statement(format!("the staged rows of {} cannot be read", self.target), &error)
        };
        let query = weir_schema::stages_of("n.nspname, c.relname::text")
            + " AND starts_with(obj_description(c.oid, 'pg_class'), $3) LIMIT 1";
        let (schema, prefix) = (&self.target.schema, self.target.stage_prefix());
        let found = client.query_opt(&query, &[schema, &prefix, &self.comment]).await;
        let Some(found) = found.map_err(failed)? else { return Ok(false) };
        self.staging = TableName { schema: found.get(0), table: found.get(1) };
        let statement = format!("DELETE FROM {} WHERE {} >= $1", self.staging, quoted(ROW));
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        client.execute(&statement, &[&rows]).await.map_err(failed)?;
        let count = format!("SELECT count(*) FROM {}", self.staging);
        let there = client.query_one(&count, &[]).await.map_err(failed)?;
        // The new date in the comment shows that the run is still active.
        self.touch(client).await?;
        Ok(there.get::<_, i64>(0) == rows)
    }

    /// SQL that writes the comment: the run, and the day on which a process last resumed with the table.
    fn set_comment(&self) -> String {
        let comment = format!("{}{}", self.comment, weir_schema::comment_date(Utc::now()));
        format!("COMMENT ON TABLE {} IS {}", self.staging, name::literal(&comment))
    }

    /// Changes something without effect, so that the commit of the transaction waits for the disk.
    pub(crate) async fn touch<C: GenericClient + Sync>(&self, client: &C) -> Result<()> {
        let touched = client.batch_execute(&self.set_comment()).await;
        let what = || format!("the staging table of {} cannot be written", self.target);
        touched.map_err(|error| failure::statement(what(), &error))
    }

    /// Removes the rows of slices that are discarded.
    pub(crate) async fn remove<C: GenericClient + Sync>(
        &self,
        client: &C,
        slices: &[i64],
    ) -> Result<()> {
        if slices.is_empty() {
            return Ok(());
        }
        let statement = format!("DELETE FROM {} WHERE {} = ANY($1)", self.staging, quoted(SLICE));
        let what = || format!("staged rows of {} cannot be removed", self.target);
        let done = client.execute(&statement, &[&slices]).await;
        done.map(|_| ()).map_err(|error| failure::statement(what(), &error))
    }

    /// Names of the table's columns, quoted and separated by commas.
    pub(crate) fn columns(&self) -> String {
        list(self.schema.columns.iter().map(|column| column.name.as_str()))
    }

    /// Names of the key's columns, quoted and separated by commas.
    pub(crate) fn key_columns(&self) -> String {
        list(self.key.iter().map(String::as_str))
    }

    /// Removes the staging tables of dead runs, and creates this one.
    pub(crate) async fn create(&self, client: &Client) -> Result<()> {
        self.remove_stale(client).await?;
        let definition = self.definition();
        let created = client.batch_execute(&definition).await;
        let what = || format!("a staging table for {} cannot be created", self.target);
        created.map_err(|error| failure::definition(what(), &definition, &error))
    }

    /// SQL that creates the staging table.
    pub(crate) fn definition(&self) -> String {
        let mut columns = Vec::with_capacity(self.staged.columns.len() + 1);
        for column in &self.staged.columns {
            // Markers have no key.
            let filled = self.key.contains(&column.name) && self.replaces.is_none();
            let filled = if filled { " NOT NULL" } else { "" };
            columns.push(format!("{} {}{filled}", quoted(&column.name), sql_type(column.kind)));
        }
        columns.push(format!("{} bigint", quoted(ROW)));
        let create = format!("CREATE TABLE {} ({})", self.staging, columns.join(", "));
        // Without an identity, rows could not be deleted in a database that publishes all its tables.
        let identity = format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.staging);
        let mut statements = vec![create, identity, self.set_comment()];
        if !self.becomes_table {
            return statements.join("; ");
        }
        for column in &self.schema.columns {
            if let Some(doc) = &column.doc {
                let (table, column, doc) =
                    (&self.staging, quoted(&column.name), name::literal(doc));
                statements.push(format!("COMMENT ON COLUMN {table}.{column} IS {doc}"));
            }
        }
        statements.join("; ")
    }

    /// Removes the staging tables of dead runs. Only for the holder of the table's lock: then no living run has a
    /// staging table.
    async fn remove_stale(&self, client: &Client) -> Result<()> {
        let failed = |error| {
            failure::statement(
                format!("an old staging table of {} cannot be removed", self.target),
                &error,
            )
        };
        let query = weir_schema::stages_of("n.nspname, c.relname::text");
        let (schema, prefix) = (&self.target.schema, self.target.stage_prefix());
        for row in client.query(&query, &[schema, &prefix]).await.map_err(failed)? {
            let table = TableName { schema: row.get(0), table: row.get(1) };
            let dropped = client.batch_execute(&format!("DROP TABLE IF EXISTS {table}")).await;
            dropped.map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the staging table. Ignores errors: the next run tries again.
    pub(crate) async fn discard(&self, client: &Client) {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {}", self.staging)).await.ok();
    }

    /// Copies batches into the staging table, in one COPY; `first` is the number of their first row. Returns the
    /// number of replaced values for each column that has any.
    pub(crate) async fn copy(
        &self,
        client: &Client,
        batches: Vec<RecordBatch>,
        mut first: i64,
    ) -> Result<Vec<(String, u64)>> {
        let failed = |error| {
            failure::statement(format!("rows for {} cannot be copied", self.target), &error)
        };
        let statement = format!("COPY {} FROM STDIN (FORMAT binary)", self.staging);
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

    /// A batch without the column of markers, when the staging table has none.
    fn without_marks(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.replaces.is_some() || batch.num_columns() == self.staged.columns.len() {
            return Ok(batch);
        }
        let columns: Vec<usize> = (0..self.staged.columns.len()).collect();
        batch.project(&columns).map_err(|error| {
            Error::new(Kind::Shape, format!("rows for {} have other columns", self.target))
                .because(error)
        })
    }

    /// Name of the primary key while it belongs to the staging table.
    pub(crate) fn key_name(&self) -> String {
        format!("{}_pkey", self.staging.table)
    }

    /// SQL condition: the rows of two tables have the same key.
    pub(crate) fn matching(&self, one: &str, other: &str) -> String {
        let same = |name: &String| format!("{one}.{0} = {other}.{0}", quoted(name));
        self.key.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }
}

/// The error of a lock on a table that was lost.
pub(crate) fn lost_lock(name: &TableName) -> Error {
    Error::new(Kind::Target, format!("the lock on table {name} was lost"))
        .because("the connection that held it broke")
        .with_hint("nothing was changed: run again")
}
