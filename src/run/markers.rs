//! Markers: which parents, or rows, a run has come upon, and whether it has read them anew.

use std::sync::Arc;

use arrow_array::{BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow_schema::SchemaRef;

use crate::decode::array;
use crate::error::{Error, Kind, Result};
use crate::extract::pages::rows::json_of;
use crate::plan::Output;
use crate::schema::{ColumnType, MARK, SLICE};

/// Number of no slice, for markers that count in any case: a refused slice leaves no rows, but its parent is
/// there.
pub(crate) const NO_SLICE: i64 = -1;

/// A parent or row, whether it was read anew, and the number of the slice without which that does not count.
#[derive(Debug)]
pub(crate) struct Marker(pub(crate) String, pub(crate) bool, pub(crate) i64);

/// Markers as staged rows; `replaces` is the column that names what is marked.
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
                marks.iter().map(|Marker(parent, ..)| json_of(kind, parent.clone())).collect();
            array(kind, json.iter().map(|text| Some(text.as_str())))
        }
        SLICE => Arc::new(marks.iter().map(|Marker(.., slice)| *slice).collect::<Int64Array>()),
        MARK => {
            Arc::new(marks.iter().map(|Marker(_, anew, _)| Some(*anew)).collect::<BooleanArray>())
        }
        _ => new_null_array(field.data_type(), marks.len()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect())
        .map_err(|error| Error::new(Kind::Shape, "parents cannot be marked").because(error))
}
