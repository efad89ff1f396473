//! The JSON Schema of a spec, extended by the short forms that the reader accepts.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Extends a schema by what the reader also accepts: a number or boolean for a text, nothing for a
/// mapping without required keys, and the bare name of a form without required keys.
pub(super) fn as_read(mut schema: Value) -> Value {
    let bare: BTreeSet<String> = schema
        .get("$defs")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, form)| is_bare(form))
        .map(|(name, _)| format!("#/$defs/{name}"))
        .collect();
    widen(&mut schema, &bare);
    schema
}

/// Whether a form is a mapping without required keys.
fn is_bare(form: &Value) -> bool {
    form.get("type") == Some(&json!("object")) && form.get("required").is_none()
}

fn widen(schema: &mut Value, bare: &BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| widen(item, bare)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| widen(field, bare));
            widen_texts(fields);
            name_forms(fields, bare);
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                properties.values_mut().for_each(|property| or_nothing(property, bare));
            }
            for key in ["additionalProperties", "items"] {
                if let Some(inner) = fields.get_mut(key) {
                    or_nothing(inner, bare);
                }
            }
        }
        _ => {}
    }
}

fn widen_texts(fields: &mut Map<String, Value>) {
    let closed = ["enum", "const", "pattern", "format"];
    if closed.iter().any(|key| fields.contains_key(*key)) {
        return;
    }
    let kinds = match fields.get("type") {
        Some(Value::String(kind)) if kind == "string" => vec![json!(kind)],
        Some(Value::Array(kinds)) if kinds.contains(&json!("string")) => kinds.clone(),
        _ => return,
    };
    let more = ["number", "boolean"].map(Value::from);
    let more: Vec<Value> = more.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    fields.insert("type".to_owned(), kinds.into_iter().chain(more).collect());
}

/// Adds the bare name of each form without required keys.
fn name_forms(fields: &mut Map<String, Value>, bare: &BTreeSet<String>) {
    let Some(Value::Array(forms)) = fields.get_mut("oneOf") else { return };
    let named = |form: &Value| {
        let (name, inner) = form.get("properties")?.as_object()?.iter().next()?;
        let inner = inner.get("anyOf").and_then(|any| any.get(0)).unwrap_or(inner);
        let target = inner.get("$ref")?.as_str()?;
        bare.contains(target).then(|| json!({ "type": "string", "const": name }))
    };
    let names: Vec<Value> = forms.iter().filter_map(named).collect();
    forms.extend(names);
}

/// Accepts null for a mapping without required keys.
fn or_nothing(schema: &mut Value, bare: &BTreeSet<String>) {
    let target = schema.get("$ref").and_then(Value::as_str);
    if target.is_some_and(|target| bare.contains(target)) {
        let one = schema.take();
        *schema = json!({ "anyOf": [one, { "type": "null" }] });
    } else if is_bare(schema)
        && let Some(fields) = schema.as_object_mut()
    {
        fields.insert("type".to_owned(), json!(["object", "null"]));
    }
}
