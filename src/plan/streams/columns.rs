//! A stream's table: which columns, in which order, and where each value comes from.

use crate::decode::{ColumnSource, Others};
use crate::error::{Error, Result};
use crate::path::{Path, PathStep};
use crate::plan::draft::Draft;
use crate::plan::select::selected;
use crate::plan::streams::stage::StreamDraft;
use crate::replication::{FileOptions, Mode, StreamOptions};
use crate::schema::{
    CHANGE, Column, ColumnType, DELETED_AT, EXTRA, RUN_ID, SYNCED_AT, TableSchema,
};
use crate::spec::{ColumnSpec, Defaults, Stream, Unknown};
use crate::template::Template;
use crate::write::{Deletes, Disposition, Table, files};

/// One column of a table and where its values come from.
#[derive(Clone, Debug)]
pub struct ColumnPlan {
    /// The column: name, type and documentation.
    pub column: Column,
    /// Source of its values.
    pub value: ColumnValue,
}

/// Source of a column's values.
#[derive(Clone, Debug)]
pub enum ColumnValue {
    /// Paths in the record.
    Decoded(ColumnSource),
    /// A template with one value per slice.
    Slice(Template),
    /// A template with one value per row. It may use the row's other columns as `row`.
    Row(Template),
    /// All fields without a column.
    Extra,
    /// The start time of the run.
    SyncedAt,
    /// The id of the run.
    RunId,
    /// A value that the target fills in.
    Target,
}

/// How a stream's rows are written.
#[derive(Debug)]
pub struct Output {
    /// Mode, as the replication says.
    pub mode: Mode,
    /// The table to write.
    pub table: Table,
    /// Sources of the columns, in the table's order.
    pub columns: Vec<ColumnPlan>,
    /// Positions of the key's columns.
    pub key: Vec<usize>,
    /// Whether a value that does not match its column's type fails the stream.
    pub strict: bool,
}

/// What happens to undeclared fields. A stream that only feeds drops them.
pub(crate) fn others(output: Option<&Output>, stream: &Stream, defaults: &Defaults) -> Others {
    let keeps = output.is_some_and(|output| {
        output.columns.iter().any(|column| matches!(column.value, ColumnValue::Extra))
    });
    match unknown(stream, defaults) {
        _ if keeps => Others::Keep,
        Unknown::Fail if output.is_some() => Others::Refuse,
        _ => Others::Drop,
    }
}

fn unknown(stream: &Stream, defaults: &Defaults) -> Unknown {
    stream.unknown.or(defaults.unknown).unwrap_or_default()
}

/// Resolves how a selected stream's rows are written.
pub(crate) fn output(
    draft: &Draft<'_>,
    stage: &StreamDraft<'_>,
    settings: &StreamOptions,
) -> Result<Output> {
    let stream = stage.stream;
    let chosen = selected(stage.name, stream, &settings.select)?;
    let mut columns = Vec::new();
    for (name, spec) in &stream.columns {
        if chosen.contains(name) {
            columns.push(declared(name, spec, settings.columns.get(name).copied())?);
        }
    }
    if let Some(unknown) = settings.columns.keys().find(|name| !stream.columns.contains_key(*name))
    {
        return Err(Error::input(format!("`columns: {unknown}` is not a column of the stream")));
    }
    let added = unknown(stream, &draft.documents.spec.defaults);
    needs_are_met(&columns)?;
    let metadata = settings.metadata.unwrap_or_default();
    let mode = draft.mode(settings);
    let keeps_extra = added == Unknown::Keep && chosen.iter().any(|column| column == EXTRA);
    let extra = keeps_extra.then_some((EXTRA, ColumnType::Json, ColumnValue::Extra));
    let stamped = metadata.synced_at || mode == Mode::Snapshot;
    let synced = stamped.then_some((SYNCED_AT, ColumnType::Timestamp, ColumnValue::SyncedAt));
    let run = metadata.run_id.then_some((RUN_ID, ColumnType::Text, ColumnValue::RunId));
    let retry = draft.options.retry;
    let placed = if retry { Disposition::Merge } else { disposition(mode) };
    let merges = placed == Disposition::Merge;
    let deletes = match settings.deletes {
        _ if retry && mode != Mode::Incremental => Deletes::Remove,
        _ if mode != Mode::Incremental => Deletes::Ignore,
        deletes => deletes.unwrap_or_default(),
    };
    let marks = disposition(mode) == Disposition::Merge
        && settings.deletes.unwrap_or_default() == Deletes::Mark;
    let deleted = marks.then_some((DELETED_AT, ColumnType::Timestamp, ColumnValue::Target));
    if metadata.change && !merges && mode != Mode::DefinitionOnly {
        return Err(Error::input("`metadata: { change: true }` needs `mode: incremental`"));
    }
    let change = metadata.change.then_some((CHANGE, ColumnType::Text, ColumnValue::Target));
    for (name, kind, value) in [extra, synced, run, deleted, change].into_iter().flatten() {
        columns.push(ColumnPlan { column: Column::new(name, kind), value });
    }
    let schema = TableSchema {
        columns: columns.iter().map(|plan| plan.column.clone()).collect(),
        key: stream.key.clone(),
    };
    if merges && schema.key.is_empty() {
        return Err(Error::input(
            "this mode needs a key, but the spec declares none for this stream",
        ));
    }
    let version = stream.cursor.as_ref().map(|cursor| &cursor.field);
    let grows = |kind| matches!(kind, ColumnType::Int | ColumnType::Date | ColumnType::Timestamp);
    let version = version.filter(|name| {
        schema.columns.iter().any(|column| column.name == **name && grows(column.kind))
    });
    let strict = settings.strict.unwrap_or(false);
    let table = Table {
        replication: draft.name().to_owned(),
        replaces: stream.replaces.clone(),
        deletes,
        place: stream.location.clone(),
        version: version.cloned(),
        strict,
        source: Some(draft.source.to_owned()),
        stream: stage.name.to_owned(),
        object: object(draft, stage.name, settings)?,
        disposition: placed,
        run_id: draft.run.id.clone(),
        files: settings.files.map(file_sizes),
        schema,
    };
    let key = table.schema.key.iter().filter_map(|name| table.schema.position(name)).collect();
    Ok(Output { mode, table, columns, key, strict })
}

/// Settings of files; those that are not set keep the target's defaults.
fn file_sizes(options: FileOptions) -> files::Settings {
    let mib = |count: u32| count as usize * 1024 * 1024;
    let default = files::Settings::default();
    files::Settings {
        max_file_bytes: options.max_file_mib.map(|count| u64::from(count) * 1024 * 1024),
        row_group_rows: options.row_group_rows.map_or(default.row_group_rows, |n| n as usize),
        row_group_bytes: options.row_group_mib.map_or(default.row_group_bytes, mib),
        zstd_level: options.zstd_level.map_or(default.zstd_level, i32::from),
    }
}

fn declared(name: &str, spec: &ColumnSpec, kind: Option<ColumnType>) -> Result<ColumnPlan> {
    let kind = kind.unwrap_or(spec.kind);
    let column = Column { name: name.to_owned(), kind, doc: spec.doc.clone() };
    Ok(ColumnPlan { column, value: source(name, spec, kind)? })
}

/// Source of a declared column's values.
pub(crate) fn source(name: &str, spec: &ColumnSpec, kind: ColumnType) -> Result<ColumnValue> {
    let texts = spec.from.as_ref().map(|from| from.0.as_slice()).unwrap_or_default();
    Ok(match texts {
        [text] if text.contains("{{") => {
            let template = Template::parse(text)
                .map_err(|error| Error::input(format!("column `{name}`: {error}")))?;
            if template.variables().contains("row") {
                ColumnValue::Row(template)
            } else {
                ColumnValue::Slice(template)
            }
        }
        _ => {
            let paths: Result<Vec<Path>, _> = match texts {
                [] => Ok(vec![Path { steps: vec![PathStep::Key(name.to_owned())] }]),
                texts => texts.iter().map(|text| Path::parse(text)).collect(),
            };
            let paths = paths.map_err(|error| Error::input(format!("column `{name}`: {error}")))?;
            let default = spec.default.as_ref().map(serde_json::Value::to_string);
            ColumnValue::Decoded(ColumnSource { kind, paths, default })
        }
    })
}

/// Checks that the columns from which others are computed are in the table.
fn needs_are_met(columns: &[ColumnPlan]) -> Result<()> {
    for plan in columns {
        let ColumnValue::Row(template) = &plan.value else { continue };
        for variable in template.nested_variables() {
            let Some(needed) = variable.strip_prefix("row.") else { continue };
            if !columns.iter().any(|other| other.column.name == needed) {
                let name = &plan.column.name;
                let what = format!("column `{name}` needs `{needed}`, which `select` excludes");
                return Err(Error::input(what)
                    .with_hint(format!("select `{needed}` too, or exclude `{name}`: `-{name}`")));
            }
        }
    }
    Ok(())
}

fn disposition(mode: Mode) -> Disposition {
    match mode {
        Mode::FullRefresh | Mode::DefinitionOnly => Disposition::Replace,
        Mode::Truncate => Disposition::Truncate,
        Mode::Snapshot => Disposition::Append,
        Mode::Incremental | Mode::Backfill => Disposition::Merge,
    }
}

/// Replaces the placeholders of `object`.
fn object(draft: &Draft<'_>, name: &str, settings: &StreamOptions) -> Result<String> {
    let documents = &draft.documents;
    let template = settings.object.as_deref().unwrap_or(documents.default_object);
    let started = draft.run.started_at;
    let values = [
        ("stream_name", name.to_owned()),
        ("source", documents.replication.source.to_lowercase()),
        ("run_id", draft.run.id.clone()),
        ("run_date", started.format("%Y-%m-%d").to_string()),
        ("run_timestamp", started.format("%Y%m%dT%H%M%SZ").to_string()),
    ];
    let mut object = template.to_owned();
    for (placeholder, value) in values {
        object = object.replace(&format!("{{{placeholder}}}"), &value);
    }
    if template.trim().is_empty() {
        return Err(Error::input("`object` is empty").with_hint(
            "name a table or file, such as `raw.{stream_name}` or `{stream_name}.parquet`",
        ));
    }
    if object.trim().is_empty() || object.contains(['{', '}']) {
        return Err(Error::input(format!("`object: {template}` cannot be filled in")).with_hint(
            "placeholders: {stream_name}, {source}, {run_id}, {run_date}, {run_timestamp}",
        ));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::documents::PlanOptions;
    use crate::plan::testing::{plan, spec, stream};

    const STREAM: &str = "  s: { get: /s, key: [id], columns: { id: text, n: int, \
                          url: { text: '{{ row.n }}' }, at: timestamp }, \
                          cursor: { field: at, newest_first: true } }\n";

    fn output<T>(defaults: &str, options: &PlanOptions, take: impl FnOnce(&Output) -> T) -> T {
        let plan = plan(&spec(STREAM), defaults, options).unwrap();
        take(stream(&plan, "s").output.as_ref().unwrap())
    }

    #[test]
    fn the_mode_decides_how_rows_are_written_and_what_happens_to_deleted_ones() {
        let backfill = PlanOptions {
            range: Some(("2026-01-01".to_owned(), "2026-02-01".to_owned())),
            ..PlanOptions::default()
        };
        let retry = PlanOptions { retry: true, ..PlanOptions::default() };
        let plain = PlanOptions::default();
        let table = [
            ("", &plain, Disposition::Replace, Deletes::Ignore),
            ("mode: truncate", &plain, Disposition::Truncate, Deletes::Ignore),
            ("mode: snapshot", &plain, Disposition::Append, Deletes::Ignore),
            ("mode: incremental", &plain, Disposition::Merge, Deletes::Mark),
            ("mode: incremental, deletes: remove", &plain, Disposition::Merge, Deletes::Remove),
            ("mode: incremental, deletes: ignore", &plain, Disposition::Merge, Deletes::Ignore),
            ("mode: backfill", &backfill, Disposition::Merge, Deletes::Ignore),
            ("", &retry, Disposition::Merge, Deletes::Remove),
            ("mode: incremental", &retry, Disposition::Merge, Deletes::Mark),
        ];
        for (defaults, options, disposition, deletes) in table {
            let found = output(defaults, options, |one| (one.table.disposition, one.table.deletes));
            assert_eq!(found, (disposition, deletes), "{defaults}");
        }
    }

    /// The columns of the table, or the error.
    #[track_caller]
    fn check(defaults: &str, expected: Result<&str, &str>) {
        let plan = plan(&spec(STREAM), defaults, &PlanOptions::default());
        match (plan, expected) {
            (Ok(plan), Ok(expected)) => {
                let table = &stream(&plan, "s").output.as_ref().unwrap().table;
                let names = table.schema.columns.iter().map(|column| column.name.as_str());
                assert_eq!(names.collect::<Vec<_>>().join(" "), expected, "{defaults}");
            }
            (Err(error), Err(text)) => assert!(error.chain().contains(text), "{}", error.chain()),
            (plan, expected) => panic!("{defaults}: {:?}, {expected:?}", plan.map(|_| ())),
        }
    }

    #[test]
    fn a_table_has_the_selected_columns_and_those_of_weir() {
        check("", Ok("id n url at _extra _weir_synced_at"));
        check("metadata: { synced_at: false }", Ok("id n url at _extra"));
        let bare = "metadata: { synced_at: false }, select";
        check(&format!("{bare}: [-_extra, -url]"), Ok("id n at"));
        // The key is always kept.
        check(&format!("{bare}: [n]"), Ok("id n"));
        check(&format!("{bare}: ['-*']"), Ok("id"));
        check(&format!("{bare}: [id, url]"), Err("column `url` needs `n`"));
        check(&format!("{bare}: [nope]"), Err("`select: nope` matches no column"));
        check(
            "mode: incremental, metadata: { change: true, run_id: true }",
            Ok("id n url at _extra _weir_synced_at _weir_run_id _weir_deleted_at _weir_change"),
        );
        check("metadata: { change: true }", Err("needs `mode: incremental`"));
        check("columns: { nope: text }", Err("`columns: nope` is not a column of the stream"));
    }

    #[test]
    fn an_object_is_a_template_with_placeholders() {
        let table = [
            ("", Ok("s")),
            ("object: 'raw.{stream_name}'", Ok("raw.s")),
            ("object: '{source}/{run_date}/{stream_name}.jsonl'", Ok("a/1970-01-01/s.jsonl")),
            ("object: ''", Err("`object` is empty")),
            ("object: _weir", Err("a name that weir reserves")),
            ("object: raw._weir_x", Err("a name that weir reserves")),
            ("object: .weir/x", Err("a name that weir reserves")),
        ];
        for (defaults, expected) in table {
            let plan = plan(&spec(STREAM), defaults, &PlanOptions::default());
            let found =
                plan.map(|plan| stream(&plan, "s").output.as_ref().unwrap().table.object.clone());
            match (found, expected) {
                (Ok(object), Ok(expected)) => assert_eq!(object, expected, "{defaults}"),
                (Err(error), Err(text)) => {
                    assert!(error.chain().contains(text), "{}", error.chain());
                }
                (found, expected) => panic!("{defaults}: {found:?}, {expected:?}"),
            }
        }
    }
}
