//! The refused slices as a table of the target: `_weir_errors`.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use crate::error::{Error, Kind, Result};
use crate::plan::Run;
use crate::progress::saved::{RefusedSlice, SavedState};
use crate::schema::{Column, ColumnType, TableSchema};
use crate::write::{CommitInfo, Deletable, Deletes, Disposition, Table, Target};

/// Name of the table, and of its pseudo-stream in the state.
pub const ERRORS: &str = "_weir_errors";

/// The table: one row for each refused slice that has not been read since.
fn table(replication: &str, object: &str, run: &Run) -> Table {
    let column = |name: &str, kind, doc: &str| Column {
        name: name.to_owned(),
        kind,
        doc: Some(doc.to_owned()),
    };
    let columns = vec![
        column("replication", ColumnType::Text, "name of the replication"),
        column("stream", ColumnType::Text, "stream of the slice"),
        column("slice", ColumnType::Text, "variables of the slice: `page_id=123`"),
        column("url", ColumnType::Text, "requested URL, without secrets"),
        column("status", ColumnType::Int, "HTTP status; null if there was no response"),
        column("message", ColumnType::Text, "error message of the API"),
        column("run_id", ColumnType::Text, "run in which the API refused the slice"),
        column("run_at", ColumnType::Timestamp, "start of that run"),
    ];
    let key = ["replication", "stream", "slice", "url"].map(str::to_owned).to_vec();
    Table {
        replication: replication.to_owned(),
        source: None,
        stream: ERRORS.to_owned(),
        object: object.to_owned(),
        schema: TableSchema { columns, key },
        disposition: Disposition::Merge,
        replaces: Some("replication".to_owned()),
        deletes: Deletes::Remove,
        place: Vec::new(),
        version: None,
        strict: false,
        run_id: run.id.clone(),
        files: None,
    }
}

/// Replaces the recorded refused slices with those of all streams. Returns the object, or `None` if there are
/// no refused slices.
pub(crate) async fn write(
    target: &dyn Target,
    replication: &str,
    object: &str,
    run: &Run,
    saved: &SavedState,
) -> Result<Option<String>> {
    let streams = saved.streams.iter();
    let failed: Vec<(&str, &RefusedSlice)> = streams
        .flat_map(|(name, state)| {
            state.refused_slices.iter().map(move |failed| (name.as_str(), failed))
        })
        .collect();
    if failed.is_empty() && !saved.has_errors() {
        return Ok(None);
    }
    let table = table(replication, object, run);
    let writer = target.open(&table, None).await?;
    let mut writer =
        writer.ok_or_else(|| Error::target("the table of refused slices could not be opened"))?;
    writer.write(batch(&table, run, &failed)?).await?;
    let info = CommitInfo {
        deletable: Deletable::ReadParents,
        at: run.started_at,
        discarded_slices: Vec::new(),
    };
    let committed = writer.commit(&info, &[SavedState::errors(!failed.is_empty())]).await?;
    Ok((!failed.is_empty()).then_some(committed.object))
}

/// The rows, and a marker that removes earlier rows of the replication.
fn batch(table: &Table, run: &Run, failed: &[(&str, &RefusedSlice)]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&str, &RefusedSlice) -> Option<String>| -> ArrayRef {
        let values = failed.iter().map(|(stream, failed)| of(stream, failed));
        Arc::new(values.chain([None]).collect::<StringArray>())
    };
    let status = failed.iter().map(|(_, failed)| failed.error.status.map(i64::from));
    let at = failed.iter().map(|_| Some(run.started_at.timestamp_micros()));
    let at: TimestampMicrosecondArray = at.chain([None]).collect();
    let mark = failed.iter().map(|_| None).chain([Some(true)]);
    let replication = std::iter::repeat_n(Some(&table.replication), failed.len() + 1);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(replication.collect::<StringArray>()),
        text(&|stream, _| Some(stream.to_owned())),
        text(&|_, failed| Some(failed.error.slice.clone())),
        text(&|_, failed| Some(failed.error.url.clone())),
        Arc::new(status.chain([None]).collect::<Int64Array>()),
        text(&|_, failed| Some(failed.error.message.clone())),
        text(&|_, _| Some(run.id.clone())),
        Arc::new(at.with_timezone("UTC")),
        Arc::new(Int64Array::from_value(0, failed.len() + 1)),
        Arc::new(mark.collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(table.schema.staged(), columns).map_err(|error| {
        Error::new(Kind::Shape, "the refused slices could not be converted to rows").because(error)
    })
}
