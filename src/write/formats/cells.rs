//! The columns of a batch by their column type, for encoders that go through rows.

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, StringArray, TimestampMicrosecondArray, cast::AsArray,
};
use arrow_schema::{DataType, Field, TimeUnit};

use crate::schema::{ColumnType, DECIMAL};

/// The values of one column.
pub(crate) enum Cells<'a> {
    Text(&'a StringArray),
    Json(&'a StringArray),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Decimal(&'a Decimal128Array),
    Bool(&'a BooleanArray),
    Date(&'a Date32Array),
    Timestamp(&'a TimestampMicrosecondArray),
    Bytes(&'a BinaryArray),
}

impl<'a> Cells<'a> {
    /// The values of an array in a column of this type; `None` when the array is of another type.
    pub(crate) fn of_type(kind: ColumnType, array: &'a dyn Array) -> Option<Self> {
        Some(match kind {
            ColumnType::Text => Self::Text(array.as_string_opt()?),
            ColumnType::Json => Self::Json(array.as_string_opt()?),
            ColumnType::Int => Self::Int(array.as_primitive_opt()?),
            ColumnType::Float => Self::Float(array.as_primitive_opt()?),
            ColumnType::Decimal => {
                let decimals: &Decimal128Array = array.as_primitive_opt()?;
                Self::Decimal(Some(decimals).filter(|array| array.scale() == DECIMAL.1)?)
            }
            ColumnType::Bool => Self::Bool(array.as_boolean_opt()?),
            ColumnType::Date => Self::Date(array.as_primitive_opt()?),
            ColumnType::Timestamp => Self::Timestamp(array.as_primitive_opt()?),
            ColumnType::Bytes => Self::Bytes(array.as_binary_opt()?),
        })
    }

    /// The values of an array by its Arrow type; decimals may have any scale. `None` for types that
    /// weir's columns do not have.
    pub(crate) fn of_field(field: &Field, array: &'a ArrayRef) -> Option<Self> {
        let extension = field.metadata().get("ARROW:extension:name");
        let is_json = extension.is_some_and(|name| name == "arrow.json");
        Some(match array.data_type() {
            DataType::Utf8 if is_json => Self::Json(array.as_string()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Int64 => Self::Int(array.as_primitive()),
            DataType::Float64 => Self::Float(array.as_primitive()),
            DataType::Decimal128(_, _) => Self::Decimal(array.as_primitive()),
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Date32 => Self::Date(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp(array.as_primitive()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            _ => return None,
        })
    }

    /// Whether a row has no value.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(array) | Self::Json(array) => array.is_null(row),
            Self::Int(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Decimal(array) => array.is_null(row),
            Self::Bool(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Timestamp(array) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
        }
    }
}
