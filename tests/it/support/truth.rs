//! Tables held against what the tenant has: every key, and every column that a path of the spec fills.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;
use weir::{path::Path, schema::ColumnType, spec::Spec};

use super::rig::{Row, key_of};

/// What is wrong with the rows of a stream's table, given the tenant's objects: nothing, when each
/// object is there once and nothing else is. Tells at most a few of each kind.
pub(crate) fn differences(
    spec: &Spec,
    stream: &str,
    rows: &[Row],
    objects: Vec<Row>,
) -> Vec<String> {
    let key = &spec.streams[stream].key;
    let expected: BTreeMap<String, Row> = objects
        .into_iter()
        .map(|object| row_of(spec, stream, &Value::Object(object)))
        .map(|row| (key_of(&row, key), row))
        .collect();
    let mut found: BTreeMap<String, &Row> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows {
        let text = key_of(row, key);
        if found.insert(text.clone(), row).is_some() {
            wrong.push(format!("{stream}: {text} comes twice"));
        }
    }
    let (wanted, there): (BTreeSet<_>, BTreeSet<_>) =
        (expected.keys().collect(), found.keys().collect());
    for (what, keys) in [
        ("missing", wanted.difference(&there).collect::<Vec<_>>()),
        ("too many", there.difference(&wanted).collect()),
    ] {
        if !keys.is_empty() {
            let some: Vec<_> = keys.iter().take(3).collect();
            wrong.push(format!("{stream}: {} rows {what}: {some:?}", keys.len()));
        }
    }
    for (key, row) in found {
        for (column, value) in expected.get(&key).into_iter().flatten() {
            let kind = spec.streams[stream].columns[column].kind;
            let found = row.get(column).cloned().unwrap_or(Value::Null);
            if normal(kind, &found) != normal(kind, value) {
                wrong.push(format!("{stream}: {key}: {column} is {found}, not {value}"));
            }
        }
    }
    wrong.truncate(5);
    wrong
}

/// Keys of the rows that a stream's objects make.
pub(crate) fn keys(spec: &Spec, stream: &str, objects: Vec<Row>) -> BTreeSet<String> {
    let rows = objects.into_iter().map(|object| row_of(spec, stream, &Value::Object(object)));
    rows.map(|row| key_of(&row, &spec.streams[stream].key)).collect()
}

/// The columns of an object's row that the object itself decides.
fn row_of(spec: &Spec, stream: &str, object: &Value) -> Row {
    let mut row = Row::new();
    for (name, column) in &spec.streams[stream].columns {
        let texts = column.from.as_ref().map_or_else(|| vec![name.clone()], |from| from.0.clone());
        // A parent's id is under its own name in the truth.
        let parent = texts[0].contains("{{");
        let texts = if parent { vec![name.replace("parent_page_id", "page_id")] } else { texts };
        let value = texts.iter().find_map(|text| {
            Path::parse(text).unwrap().find(object).filter(|value| !value.is_null()).cloned()
        });
        // The tenant's truth leaves the description's text out: it depends on a parameter. Other
        // templates are not about the object.
        let apart = (stream, name.as_str()) == ("spaces", "description");
        if stream.ends_with("_versions") && name == "title" {
            // Unless `version_titles` asks for them.
            row.insert(name.clone(), Value::Null);
        } else if !apart && (!parent || value.is_some()) {
            row.insert(name.clone(), value.unwrap_or(Value::Null));
        }
    }
    row
}

/// A value in the one spelling that values are compared in.
fn normal(kind: ColumnType, value: &Value) -> Value {
    match (kind, value) {
        (ColumnType::Timestamp, Value::String(text)) => {
            let time = DateTime::parse_from_rfc3339(text).unwrap().to_utc();
            time.to_rfc3339_opts(SecondsFormat::Micros, true).into()
        }
        // Targets without a type for JSON keep its text.
        (ColumnType::Json, Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| value.clone())
        }
        _ => value.clone(),
    }
}
