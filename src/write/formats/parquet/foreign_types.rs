//! Column types of Parquet files that another program has written again: pandas, `DuckDB` and Polars keep the
//! values, but not the exact types.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray,
    cast::AsArray,
    types::{
        Date64Type, Decimal128Type, Float32Type, Int8Type, Int16Type, Int32Type,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};

use crate::schema::{ColumnType, DECIMAL};

/// Milliseconds per day.
const DAY: i64 = 86_400_000;

/// The column type that holds the values of an Arrow type; `None` when there is none.
pub(crate) fn kind_of(data_type: &DataType) -> Option<ColumnType> {
    use DataType as T;
    Some(match data_type {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => ColumnType::Text,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => ColumnType::Int,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => ColumnType::Int,
        T::Float32 | T::Float64 => ColumnType::Float,
        T::Decimal128(_, _) => ColumnType::Decimal,
        T::Boolean => ColumnType::Bool,
        T::Date32 | T::Date64 => ColumnType::Date,
        T::Timestamp(_, _) => ColumnType::Timestamp,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => ColumnType::Bytes,
        T::Dictionary(_, values) => return kind_of(values),
        _ => return None,
    })
}

/// The values in the Arrow type that weir writes.
///
/// # Errors
/// A value is too large for that type, or there is no such type; the text says which.
pub(crate) fn own(array: &ArrayRef) -> Result<ArrayRef, String> {
    use DataType as T;
    let data_type = array.data_type();
    let kind = kind_of(data_type);
    if kind.is_some_and(|kind| kind.arrow() == *data_type) {
        return Ok(Arc::clone(array));
    }
    Ok(match data_type {
        T::LargeUtf8 => Arc::new(StringArray::from_iter(array.as_string::<i64>())),
        T::Utf8View => Arc::new(StringArray::from_iter(array.as_string_view())),
        T::LargeBinary => Arc::new(BinaryArray::from_iter(array.as_binary::<i64>())),
        T::BinaryView => Arc::new(BinaryArray::from_iter(array.as_binary_view())),
        T::FixedSizeBinary(_) => Arc::new(BinaryArray::from_iter(array.as_fixed_size_binary())),
        T::Float32 => {
            let floats: Float64Array = array.as_primitive::<Float32Type>().unary(f64::from);
            Arc::new(floats)
        }
        T::Date64 => Arc::new(days(array)?),
        T::Timestamp(unit, _) => Arc::new(instants(*unit, array)?.with_timezone("UTC")),
        T::Decimal128(_, scale) => Arc::new(decimals(*scale, array)?),
        T::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = arrow_select::take::take(dictionary.values(), dictionary.keys(), None);
            return own(&values.map_err(|error| error.to_string())?);
        }
        _ => Arc::new(numbers(array)?),
    })
}

fn days(array: &ArrayRef) -> Result<Date32Array, String> {
    let dates = array.as_primitive::<Date64Type>();
    dates.try_unary(|date| i32::try_from(date.div_euclid(DAY)).map_err(|_| too_large(date)))
}

fn instants(unit: TimeUnit, array: &ArrayRef) -> Result<TimestampMicrosecondArray, String> {
    let times = |value: i64, factor: i64| value.checked_mul(factor).ok_or_else(|| too_large(value));
    match unit {
        TimeUnit::Second => {
            array.as_primitive::<TimestampSecondType>().try_unary(|value| times(value, 1_000_000))
        }
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().try_unary(|value| times(value, 1_000))
        }
        TimeUnit::Microsecond => Ok(array.as_primitive::<TimestampMicrosecondType>().clone()),
        // weir has written microseconds, so nothing is lost.
        TimeUnit::Nanosecond => Ok(array
            .as_primitive::<TimestampNanosecondType>()
            .unary(|value| value.div_euclid(1_000))),
    }
}

fn decimals(scale: i8, array: &ArrayRef) -> Result<Decimal128Array, String> {
    let (precision, wanted) = DECIMAL;
    let power = 10_i128.checked_pow(u32::from(wanted.abs_diff(scale)));
    let decimals: Decimal128Array = array.as_primitive::<Decimal128Type>().try_unary(|value| {
        let moved = power.and_then(|power| {
            if scale <= wanted {
                value.checked_mul(power)
            } else {
                (value % power == 0).then(|| value / power)
            }
        });
        moved.ok_or_else(|| too_large(value))
    })?;
    decimals.with_precision_and_scale(precision, wanted).map_err(|error| error.to_string())
}

fn numbers(array: &ArrayRef) -> Result<Int64Array, String> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Int8 => array.as_primitive::<Int8Type>().unary(i64::from),
        T::Int16 => array.as_primitive::<Int16Type>().unary(i64::from),
        T::Int32 => array.as_primitive::<Int32Type>().unary(i64::from),
        T::UInt8 => array.as_primitive::<UInt8Type>().unary(i64::from),
        T::UInt16 => array.as_primitive::<UInt16Type>().unary(i64::from),
        T::UInt32 => array.as_primitive::<UInt32Type>().unary(i64::from),
        T::UInt64 => array
            .as_primitive::<UInt64Type>()
            .try_unary(|value| i64::try_from(value).map_err(|_| too_large(value)))?,
        other => return Err(format!("weir has no column type for `{other}`")),
    })
}

fn too_large(value: impl std::fmt::Display) -> String {
    format!("`{value}` is too large for the column")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(array: impl Array + 'static) -> Result<ArrayRef, String> {
        own(&(Arc::new(array) as ArrayRef))
    }

    #[test]
    fn values_of_other_types_are_converted() {
        let same = Int64Array::from(vec![1, -2]);
        for array in [
            converted(arrow_array::Int8Array::from(vec![1, -2])),
            converted(arrow_array::Int32Array::from(vec![1, -2])),
            converted(same.clone()),
        ] {
            assert_eq!(array.unwrap().as_primitive::<arrow_array::types::Int64Type>(), &same);
        }
        let text = StringArray::from(vec!["a", "b"]);
        for array in [
            converted(arrow_array::LargeStringArray::from(vec!["a", "b"])),
            converted(arrow_array::StringViewArray::from(vec!["a", "b"])),
        ] {
            assert_eq!(array.unwrap().as_string::<i32>(), &text);
        }
        let days = converted(arrow_array::Date64Array::from(vec![DAY * 3 + 5, -1])).unwrap();
        assert_eq!(days.as_primitive::<arrow_array::types::Date32Type>().values(), &[3, -1]);
        let times =
            converted(arrow_array::TimestampNanosecondArray::from(vec![1_999, -1])).unwrap();
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>().values(), &[1, -1]);
        let exact = Decimal128Array::from(vec![15]).with_precision_and_scale(10, 1).unwrap();
        let exact = converted(exact).unwrap();
        assert_eq!(exact.as_primitive::<Decimal128Type>().value(0), 1_500_000_000);
    }

    #[test]
    fn values_that_would_change_are_refused() {
        for (array, part) in [
            (converted(arrow_array::UInt64Array::from(vec![u64::MAX])), "too large"),
            (converted(arrow_array::TimestampSecondArray::from(vec![i64::MAX])), "too large"),
            (converted(arrow_array::Float16Array::from(vec![None])), "no column type"),
        ] {
            let error = array.unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
