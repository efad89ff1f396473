//! Extends a JSON Schema by what the reader also accepts: a single value in place of a list, and
//! quoted `true` and `false`.

use serde_json::{Map, Value, json};

/// Adds to a schema what the reader also accepts.
pub fn lenient(mut schema: Value) -> Value {
    widen(&mut schema);
    schema
}

fn widen(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(widen),
        Value::Object(keys) => {
            keys.values_mut().for_each(widen);
            if let Some(more) = besides(keys) {
                let outside = ["description", "default"].map(|key| (key, keys.shift_remove(key)));
                let narrow = Value::Object(std::mem::take(keys));
                for (key, value) in outside {
                    keys.extend(value.map(|value| (key.to_owned(), value)));
                }
                keys.insert("anyOf".to_owned(), json!([narrow, more]));
            }
        }
        _ => {}
    }
}

/// What the reader accepts in place of what a schema describes.
fn besides(keys: &Map<String, Value>) -> Option<Value> {
    let kind = keys.get("type")?;
    let is = |name: &str| {
        kind == name || kind.as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    match keys.get("items") {
        Some(item) if is("array") => Some(item.clone()),
        None if is("boolean") && !is("string") => Some(json!({ "enum": ["true", "false"] })),
        _ => None,
    }
}
