//! Column types and table schemas, and the Arrow types that carry them.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Digits before and after the point of a `decimal` column: 38 in all, 9 of them after the point.
pub const DECIMAL: (u8, i8) = (38, 9);

/// Column that keeps what no declared column took, as one JSON object.
pub const EXTRA: &str = "_extra";
/// Column with the time of the run that wrote the row.
pub const SYNCED_AT: &str = "_weir_synced_at";
/// Column with the id of the run that wrote the row.
pub const RUN_ID: &str = "_weir_run_id";

/// Column with the time at which a run found that the source no longer has the row.
pub const DELETED_AT: &str = "_weir_deleted_at";
/// Column that says what the last run that touched the row found: `new`, `updated`, `moved`, `deleted`.
pub const CHANGE: &str = "_weir_change";
/// Column of staged batches: number of the slice that brought the row, a `write::SliceNumber`. Readers
/// never see it.
pub const SLICE: &str = "_weir_slice";
/// Column of staged batches: null in a row of the table. In a marker, which names only a parent, it is
/// `true` when the parent's rows were read anew, `false` when the parent is there and its old rows
/// What columns begin with that weir fills for itself; they do not make a row another.
pub const OWN_COLUMNS: &str = "_weir_";
/// stay. Readers never see it.
pub const MARK: &str = "_weir_mark";

/// Type of a column, as declared in a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit signed integer.
    Int,
    /// 64-bit floating point number.
    Float,
    /// Exact decimal number, see [`DECIMAL`].
    Decimal,
    /// `true` or `false`.
    Bool,
    /// Calendar date.
    Date,
    /// Instant in UTC, to the microsecond.
    Timestamp,
    /// Any JSON value, kept as its text.
    Json,
    /// Bytes, base64 in JSON.
    Bytes,
}

impl ColumnType {
    /// Every type, in the order the documentation lists them.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Int,
        Self::Float,
        Self::Decimal,
        Self::Bool,
        Self::Date,
        Self::Timestamp,
        Self::Json,
        Self::Bytes,
    ];

    /// The name used in YAML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Decimal => "decimal",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }

    /// Whether a column of this type may become one of the other, its old values with it: whole numbers
    /// become floats (beyond 2^53 the nearest) or decimals, a date the instant of its beginning in UTC,
    /// and everything text or JSON.
    pub fn widens_to(self, other: Self) -> bool {
        self != other
            && matches!(
                (self, other),
                (Self::Int, Self::Float | Self::Decimal)
                    | (Self::Date, Self::Timestamp)
                    | (_, Self::Text | Self::Json)
            )
    }

    /// The Arrow type of its arrays; JSON is carried as `Utf8`.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Text | Self::Json => DataType::Utf8,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Decimal => DataType::Decimal128(DECIMAL.0, DECIMAL.1),
            Self::Bool => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Bytes => DataType::Binary,
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Name in the target.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// What it means, from the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

impl Column {
    /// A column without documentation.
    pub fn new(name: impl Into<String>, kind: ColumnType) -> Self {
        Self { name: name.into(), kind, doc: None }
    }
}

/// The columns and key of a stream's table. Batches have exactly these columns, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableSchema {
    /// Columns in their order.
    pub columns: Vec<Column>,
    /// Names of the columns that identify a row; empty when the stream declares no key.
    pub key: Vec<String>,
}

impl TableSchema {
    /// The Arrow schema of the table's batches. Key columns are still nullable here; a JSON column
    /// carries Arrow's canonical extension name `arrow.json`.
    pub fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(arrow_field).collect();
        Arc::new(Schema::new(fields))
    }

    /// The Arrow schema of staged batches: [`TableSchema::arrow`] and, at its end, [`SLICE`] (`Int64`)
    /// and [`MARK`] (`Boolean`).
    pub fn staged(&self) -> SchemaRef {
        let own = [(SLICE, DataType::Int64), (MARK, DataType::Boolean)];
        let own = own.map(|(name, kind)| Field::new(name, kind, true));
        let fields: Vec<Field> = self.columns.iter().map(arrow_field).chain(own).collect();
        Arc::new(Schema::new(fields))
    }

    /// Position of a column, from 0.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

fn arrow_field(column: &Column) -> Field {
    let field = Field::new(&column.name, column.kind.arrow(), true);
    if column.kind == ColumnType::Json {
        let extension = ("ARROW:extension:name".to_owned(), "arrow.json".to_owned());
        return field.with_metadata(HashMap::from([extension]));
    }
    field
}
