//! Makes a batch of the stream's table from a decoded page.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::{DataType, SchemaRef};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta};

use crate::decode::{Page, repeated};
use crate::error::{Error, Kind, Result};
use crate::plan::{ColumnValue, Output, RequestPlan, Run};
use crate::schema::ColumnType;
use crate::template::{Object, Scope, Template, TemplateError, Value};

/// Maximum size in bytes of the computed columns of one page, together.
const MAX_COMPUTED: usize = 64 * 1024 * 1024;

/// The bytes of [`MAX_COMPUTED`] that are left.
struct Room(usize);

impl Room {
    /// Reserves the bytes of a value that is repeated in `rows` rows.
    fn take(&mut self, json: Option<&str>, rows: usize) -> Result<(), TemplateError> {
        let bytes = json.map_or(0, str::len).saturating_mul(rows);
        let message = "the computed columns of one page are larger than 64 MiB".to_owned();
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or(TemplateError { message, offset: None })?;
        Ok(())
    }
}

/// A batch whose computed columns are missing.
struct Unfinished {
    /// Per column of the table; `None` for columns computed from the row's others.
    columns: Vec<Option<ArrayRef>>,
    rows: usize,
    room: Room,
}

/// Makes batches for one stream.
#[derive(Debug)]
pub(crate) struct RowBuilder {
    schema: SchemaRef,
    synced_at: String,
    run_id: String,
}

impl RowBuilder {
    pub(crate) fn new(output: &Output, run: &Run) -> Self {
        Self {
            schema: output.table.schema.arrow(),
            synced_at: format!("\"{}\"", run.started_at.format("%Y-%m-%dT%H:%M:%S%.6fZ")),
            run_id: serde_json::Value::from(run.id.as_str()).to_string(),
        }
    }

    /// Builds the batch of a page from the columns of the records, of the slice, those that weir adds, and those
    /// computed from other columns of the row.
    pub(crate) fn build(
        &self,
        output: &Output,
        sources: &[ColumnValue],
        page: &Page,
        scope: &Arc<Scope>,
    ) -> Result<RecordBatch> {
        let mut decoded = page.columns.iter();
        let mut room = Room(MAX_COMPUTED);
        let mut columns: Vec<Option<ArrayRef>> = Vec::with_capacity(output.columns.len());
        for (plan, source) in output.columns.iter().zip(sources) {
            let kind = plan.column.kind;
            let constant = |json: Option<&str>| repeated(kind, json, page.rows);
            columns.push(match source {
                ColumnValue::Decoded(_) => decoded.next().map(Arc::clone),
                ColumnValue::Extra => Some(page.extra.clone().unwrap_or_else(|| constant(None))),
                ColumnValue::SyncedAt => Some(constant(Some(&self.synced_at))),
                ColumnValue::RunId => Some(constant(Some(&self.run_id))),
                ColumnValue::Slice(template) => {
                    let json = rendered(kind, template, scope).and_then(|json| {
                        room.take(json.as_deref(), page.rows)?;
                        Ok(json)
                    });
                    let json = json.map_err(|error| wrong(&plan.column.name, &error))?;
                    Some(constant(json.as_deref()))
                }
                ColumnValue::Target => Some(constant(None)),
                ColumnValue::Row(_) => None,
            });
        }
        self.finish(output, sources, Unfinished { columns, rows: page.rows, room }, scope)
    }

    /// The only row of a value, derived from the values that its queue carries.
    pub(crate) fn derived(
        &self,
        output: &Output,
        request: &RequestPlan,
        carried: &[Option<String>],
        scope: &Arc<Scope>,
    ) -> Result<RecordBatch> {
        let sources = request.columns.as_slice();
        let places = request.derive.as_ref().map(|derive| derive.columns.as_slice());
        let mut columns = Vec::with_capacity(output.columns.len());
        let plans = output.columns.iter().zip(sources).zip(places.unwrap_or_default());
        for ((plan, source), place) in plans {
            let kind = plan.column.kind;
            let constant = |json: Option<&str>| Some(repeated(kind, json, 1));
            columns.push(match (source, place) {
                (ColumnValue::Row(_), _) => None,
                (ColumnValue::SyncedAt, _) => constant(Some(&self.synced_at)),
                (ColumnValue::RunId, _) => constant(Some(&self.run_id)),
                (_, Some(place)) => {
                    let text = carried.get(*place).cloned().flatten();
                    constant(text.map(|text| json_of(kind, text)).as_deref())
                }
                (ColumnValue::Slice(template), None) => {
                    let json = rendered(kind, template, scope)
                        .map_err(|error| wrong(plan.column.name.as_str(), &error))?;
                    constant(json.as_deref())
                }
                _ => constant(None),
            });
        }
        let row = Unfinished { columns, rows: 1, room: Room(MAX_COMPUTED) };
        self.finish(output, sources, row, scope)
    }

    /// Adds the columns that are computed from other columns of the same row.
    fn finish(
        &self,
        output: &Output,
        sources: &[ColumnValue],
        batch: Unfinished,
        scope: &Arc<Scope>,
    ) -> Result<RecordBatch> {
        let Unfinished { mut columns, rows, mut room } = batch;
        let is_computed = |source: &ColumnValue| matches!(source, ColumnValue::Row(_));
        let computes = sources.iter().any(is_computed);
        let named = output.columns.iter().zip(&columns).filter(|_| computes);
        let named = named.filter_map(|(plan, array)| {
            Some((plan.column.name.clone(), Arc::clone(array.as_ref()?)))
        });
        let named: Arc<[(String, ArrayRef)]> = named.collect();
        let plans = output.columns.iter().zip(sources);
        for ((plan, source), slot) in plans.zip(&mut columns) {
            let ColumnValue::Row(template) = source else { continue };
            let kind = plan.column.kind;
            let values = (0..rows).map(|row| {
                let view = RowView { columns: Arc::clone(&named), row };
                let scope = Arc::new(scope.with("row".into(), Value::from_object(view)));
                let json = rendered(kind, template, &scope)?;
                room.take(json.as_deref(), 1)?;
                Ok(json)
            });
            let values: Result<Vec<_>, TemplateError> = values.collect();
            let values = values.map_err(|error| wrong(&plan.column.name, &error))?;
            *slot = Some(crate::decode::array(kind, values.iter().map(Option::as_deref)));
        }
        let columns: Option<Vec<ArrayRef>> = columns.into_iter().collect();
        let columns = columns.ok_or_else(|| Error::new(Kind::Shape, "a column has no source"))?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| {
            Error::new(Kind::Shape, "the rows do not fit the table").because(error)
        })
    }
}

fn wrong(column: &str, error: &TemplateError) -> Error {
    Error::new(Kind::Shape, format!("column `{column}` cannot be computed: {error}"))
}

/// The template's value as the JSON text of a value of this type; nothing when it is empty.
fn rendered(
    kind: ColumnType,
    template: &Template,
    scope: &Arc<Scope>,
) -> Result<Option<String>, TemplateError> {
    let text = template.render(scope)?;
    Ok((!text.is_empty()).then(|| json_of(kind, text)))
}

/// A text as the JSON text of a value of this type.
pub(crate) fn json_of(kind: ColumnType, text: String) -> String {
    match kind {
        ColumnType::Int | ColumnType::Float | ColumnType::Bool | ColumnType::Json => text,
        _ => serde_json::Value::from(text).to_string(),
    }
}

/// A row for templates.
#[derive(Debug)]
struct RowView {
    columns: Arc<[(String, ArrayRef)]>,
    row: usize,
}

impl Object for RowView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let (_, array) = self.columns.iter().find(|(column, _)| column == name)?;
        if array.is_null(self.row) {
            return Some(Value::from(()));
        }
        match array.data_type() {
            DataType::Utf8 => Some(Value::from(array.as_string::<i32>().value(self.row))),
            DataType::Int64 => Some(Value::from(array.as_primitive::<Int64Type>().value(self.row))),
            DataType::Float64 => {
                Some(Value::from(array.as_primitive::<Float64Type>().value(self.row)))
            }
            DataType::Boolean => Some(Value::from(array.as_boolean().value(self.row))),
            _ => other_type(array, self.row).map(Value::from),
        }
    }
}

/// The text of a value whose type templates do not have.
fn other_type(array: &ArrayRef, row: usize) -> Option<String> {
    match array.data_type() {
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = DateTime::from_timestamp_micros(micros)?;
            Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            NaiveDate::default()
                .checked_add_signed(TimeDelta::days(days.into()))
                .map(|d| d.to_string())
        }
        DataType::Decimal128(..) => {
            let text = array.as_primitive::<Decimal128Type>().value_as_string(row);
            let short = text.trim_end_matches('0').trim_end_matches('.');
            Some(if text.contains('.') { short.to_owned() } else { text })
        }
        DataType::Binary => Some(STANDARD.encode(array.as_binary::<i32>().value(row))),
        _ => None,
    }
}
