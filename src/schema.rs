//! Column types, table schemas, and their Arrow types.

use std::{collections::HashMap, fmt, sync::Arc};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Precision and scale of a `decimal` column: 38 digits in total, 9 of them after the decimal
/// point.
pub const DECIMAL: (u8, i8) = (38, 9);

/// Column with all fields that no declared column takes, as one JSON object.
pub const EXTRA: &str = "_extra";
/// Column with the start time of the run that wrote the row.
pub const SYNCED_AT: &str = "_weir_synced_at";
/// Column with the id of the run that wrote the row.
pub const RUN_ID: &str = "_weir_run_id";

/// Column with the time at which a run detected that the source no longer has the row.
pub const DELETED_AT: &str = "_weir_deleted_at";
/// Column with what the last run that wrote the row found: `new`, `updated`, `moved`, `deleted`.
pub const CHANGE: &str = "_weir_change";
/// Column of staged batches: number of the slice that returned the row, a `write::SliceNumber`.
/// Readers never see it.
pub const SLICE: &str = "_weir_slice";
/// Column of staged batches: null in a row of the table. In a marker, which names only a parent, it is
/// `true` when the parent's rows were read again, and `false` when the parent exists and its existing
/// rows stay. Readers never see it.
pub const MARK: &str = "_weir_mark";
/// Prefix of the columns that weir fills itself. A change in one of them does not make a row differ.
pub const OWN_COLUMNS: &str = "_weir_";

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
    /// Exact decimal number with up to 38 digits, 9 of them after the decimal point.
    Decimal,
    /// `true` or `false`.
    Bool,
    /// Calendar date.
    Date,
    /// Instant in UTC, to the microsecond.
    Timestamp,
    /// Any JSON value.
    Json,
    /// Bytes; a base64 text in the response.
    Bytes,
}

impl ColumnType {
    /// All types, in the order of the documentation.
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

    /// Whether a column of this type can be changed to another type with its existing values:
    /// integers become floats (beyond 2^53 the nearest) or decimals, a date becomes the instant at
    /// its start in UTC, and every type becomes text or JSON.
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
    /// Its documentation, from the spec.
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
    /// The columns, in the order of the table.
    pub columns: Vec<Column>,
    /// Names of the columns that identify a row; empty if the stream declares no key.
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
