//! Markers record which parents or rows a run has seen, and whether it has read their rows.

use std::sync::Arc;

use arrow_array::{BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow_schema::SchemaRef;

use crate::decode::array;
use crate::error::{Error, Kind, Result};
use crate::extract::pages::rows::json_of;
use crate::plan::Output;
use crate::schema::{ColumnType, MARK, SLICE};

/// Slice number of markers that are valid without a slice: the rows of a refused slice are discarded, but its
/// parent exists.
pub(crate) const NO_SLICE: i64 = -1;

/// A parent or row that a run has seen.
#[derive(Debug)]
pub(crate) struct Marker {
    /// Value of the marked column.
    pub(crate) value: String,
    /// Whether the run has read the rows, so that they replace the existing ones.
    pub(crate) read: bool,
    /// Number of the slice; the marker is void if the slice is discarded.
    pub(crate) slice: i64,
}

/// Markers as staged rows. `replaces` is the name of the marked column.
pub(crate) fn markers(
    schema: &SchemaRef,
    output: &Output,
    replaces: Option<&str>,
    marks: &[Marker],
) -> Result<RecordBatch> {
    let parent = output.columns.iter().find(|plan| Some(plan.column.name.as_str()) == replaces);
    let kind = parent.map_or(ColumnType::Text, |plan| plan.column.kind);
    let fields = schema.fields().iter();
    let columns = fields.map(|field| match field.name().as_str() {
        name if Some(name) == replaces => {
            let json: Vec<String> =
                marks.iter().map(|mark| json_of(kind, mark.value.clone())).collect();
            array(kind, json.iter().map(|text| Some(text.as_str())))
        }
        SLICE => Arc::new(marks.iter().map(|mark| mark.slice).collect::<Int64Array>()),
        MARK => Arc::new(marks.iter().map(|mark| Some(mark.read)).collect::<BooleanArray>()),
        _ => new_null_array(field.data_type(), marks.len()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
        .map_err(|error| Error::new(Kind::Shape, "parents cannot be marked").because(error))
}
