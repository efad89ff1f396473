//! The languages of specs, replications and connections, from their JSON Schemas.

use serde_json::{Map, Value};

use super::{head, page, source, table};
use crate::support::{
    book::expect_page,
    user::{User, ended},
};

/// Definitions that a table shows in place, and the words for them.
const IN_PLACE: [(&str, &str); 4] = [
    ("ByteSize", "size, such as `512KiB`, `64MiB`, `1GiB`"),
    ("Duration", "duration, such as `90s`, `10m`, `1h`"),
    ("Refresh", "duration, or `with_parent`"),
    ("Scalar", "text"),
];

/// Definitions whose keys have no description in the schema, and the types that document them.
const ELSEWHERE: [(&str, &[&str]); 2] = [
    ("ForEachKeys", &["QueueItems", "InputItems", "ValueItems", "RangeItems"]),
    ("ColumnKeys", &["ColumnType", "ColumnSpec"]),
];

#[test]
fn the_spec_language() {
    let schema = weir::spec::json_schema();
    let intro = "A spec is a YAML file that declares an API: how to connect, its streams with their columns, and its \
        pagination. `weir spec show confluence` prints one, `weir spec validate FILE` checks one, and `weir \
        schema spec` prints this page as a JSON Schema for editors. [Write your own spec](../howto/own-spec.md) \
        explains a complete spec.\n\n\
        A key that is a list may also hold a single value. Texts between `{{` and `}}` are templates over the \
        connection's fields, the inputs and the variables of `for_each`. Paths name values in JSON: `results`, \
        `data.items`, `results[].labels`, `^.id` (in the enclosing record).\n";
    expect_page(&page("spec.md"), &language("Spec language", intro, &schema));
}

#[test]
fn the_replication_language() {
    let schema = weir::replication::json_schema();
    let intro = "A replication is a YAML file that names a source, a target and the streams to copy. `weir sync \
        validate FILE` checks one, and \
        `weir schema replication` prints this page as a JSON Schema for editors.\n\n\
        `source`, `target`, `streams` and an `object` for each stream are required; `object` is usually set once, in \
        `defaults`, with `{stream_name}` in it. `mode` is `full-refresh` unless set. Settings of a stream override \
        `defaults`. A relative path is relative to the folder of the replication.\n";
    expect_page(&page("replication.md"), &language("Replication language", intro, &schema));
}

#[test]
fn the_connections_language() {
    let schema = weir::connection::json_schema();
    let intro = "`weir conns set` writes `~/.weir/connections.yaml`. An environment variable, a `.env` file or `env` \
        of a replication may contain the same mappings, see [Connections](../howto/connections.md). \
        `weir schema connections` prints this page as a JSON Schema for editors. The fields of an API are on the \
        page of its spec: [Confluence](confluence.md), [Jira](jira.md); those of a database are under \
        [Postgres](postgres.md).\n";
    expect_page(&page("connections.md"), &language("Connections file", intro, &schema));
}

#[test]
fn the_status() {
    let (out, _) = ended(&User::new().run(&["schema", "status"]), 0);
    let schema = serde_json::from_str(&out).unwrap();
    let intro = "`weir sync status REPLICATION --json` prints this object. `weir schema status` prints this page as a \
        JSON Schema. Times are in UTC.\n";
    expect_page(&page("status.md"), &language("Status as JSON", intro, &schema));
}

fn language(title: &str, intro: &str, schema: &Value) -> String {
    let command = format!(
        "the JSON Schema of `weir schema {}`",
        title.split(' ').next().unwrap().to_lowercase()
    );
    let mut out = head(title, &command) + intro;
    let definitions = schema["$defs"].as_object().unwrap();
    out += &format!("\n## Top level\n\n{}", shape("", schema, definitions));
    for (name, definition) in definitions {
        let shown =
            !name.starts_with("OneOrMany_") && !IN_PLACE.iter().any(|(known, _)| known == name);
        if shown {
            out += &format!("\n## {name}\n\n{}", shape(name, definition, definitions));
        }
    }
    out
}

/// Description of a definition, and its keys or forms.
fn shape(name: &str, schema: &Value, definitions: &Map<String, Value>) -> String {
    let mut out = String::new();
    if let Some(text) = schema["description"].as_str() {
        out += &format!("{}\n\n", unlinked(text));
    }
    if let Some(keys) = schema["properties"].as_object() {
        let required: Vec<&str> = schema["required"]
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let rows: Vec<_> = keys
            .iter()
            .map(|(key, value)| {
                let fallback = match default_of(name, key, value) {
                    _ if required.contains(&key.as_str()) => "required".to_owned(),
                    Some(text) => format!("`{text}`"),
                    None => String::new(),
                };
                let description = value["description"].as_str().or_else(|| {
                    value["anyOf"].as_array()?.iter().find_map(|form| form["description"].as_str())
                });
                let meaning = match description {
                    Some(text) => unlinked(text),
                    None => unlinked(&documented_elsewhere(name, key)),
                };
                vec![format!("`{key}`"), kind(value, definitions), fallback, meaning]
            })
            .collect();
        out += &table(&["key", "value", "default", "meaning"], &rows);
        return out;
    }
    let forms = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    if let Some(forms) = forms {
        let usual = source::variants(name).into_iter().find(|variant| variant.is_default);
        let usual = usual.map(|variant| plain(&variant.name));
        let rows: Vec<_> = forms
            .iter()
            .map(|form| {
                let value = kind(form, definitions);
                let is_default =
                    form["const"].as_str().map(plain).is_some_and(|one| Some(one) == usual);
                let default = if is_default { "default" } else { "" };
                let meaning = unlinked(form["description"].as_str().unwrap_or_default());
                vec![value, default.to_owned(), meaning]
            })
            .collect();
        out += &table(&["value", "", "meaning"], &rows);
        return out;
    }
    out + &format!("Value: {}.\n", kind(schema, definitions))
}

/// The doc comment of a key in the types that its definition is made of.
fn documented_elsewhere(definition: &str, key: &str) -> String {
    let types = ELSEWHERE.iter().find(|(name, _)| *name == definition).map(|(_, types)| *types);
    let mut items = types.unwrap_or_default().iter().flat_map(|name| {
        let fields = source::fields_of(name).unwrap_or_default();
        fields.into_iter().chain(source::variants(name))
    });
    items.find(|item| plain(&item.name) == plain(key)).map(|item| item.doc).unwrap_or_default()
}

/// Letters of a name, by which a variant and its value are compared.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// What a key is when it is left out, if that is worth saying.
fn default_of(definition: &str, key: &str, value: &Value) -> Option<String> {
    // Durations have no default in the schema.
    let limits = weir::spec::Limits::default();
    match (definition, key) {
        ("Limits", "timeout") => return Some(format!("{}s", limits.timeout.0.as_secs())),
        ("Limits", "max_wait") => return Some(format!("{}h", limits.max_wait.0.as_secs() / 3600)),
        _ => {}
    }
    match value.get("default")? {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(all) if all.is_empty() => None,
        Value::Object(all) if all.is_empty() => None,
        other => Some(other.to_string()),
    }
}

/// Words for what a value may be.
fn kind(schema: &Value, definitions: &Map<String, Value>) -> String {
    let mut kinds = kinds(schema, definitions);
    kinds.dedup();
    // A list says that one value will do, too.
    let single = kinds.iter().filter_map(|kind| kind.strip_prefix("list of ")).map(str::to_owned);
    let single: Vec<String> = single.collect();
    let mut seen = Vec::new();
    for kind in kinds {
        if !seen.contains(&kind) && !single.contains(&kind) {
            seen.push(kind);
        }
    }
    seen.join(" or ")
}

fn kinds(schema: &Value, definitions: &Map<String, Value>) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let words =
            IN_PLACE.iter().find(|(known, _)| *known == name).map(|(_, words)| (*words).to_owned());
        return match words {
            Some(words) => vec![words],
            None if name.starts_with("OneOrMany_") => kinds(&definitions[name], definitions),
            None => vec![format!("[{name}](#{})", name.to_lowercase())],
        };
    }
    if let Some(value) = schema.get("const") {
        return vec![format!("`{}`", value.as_str().unwrap_or_default())];
    }
    if let Some(values) = schema["enum"].as_array() {
        let is_boolean = values.iter().all(|value| value == "true" || value == "false");
        let values = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`"));
        return if is_boolean { vec!["true or false".to_owned()] } else { values.collect() };
    }
    for key in ["anyOf", "allOf"] {
        if let Some(forms) = schema[key].as_array()
            && !forms
                .iter()
                .all(|form| form.get("required").is_some() && form.get("type").is_none())
        {
            return forms.iter().flat_map(|form| kinds(form, definitions)).collect();
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return vec!["any value".to_owned()],
    };
    let is = |name: &str| types.contains(&name);
    let mut found = Vec::new();
    if is("string") {
        found.push("text".to_owned());
    } else if is("integer") {
        found.push("whole number".to_owned());
    } else if is("number") {
        found.push("number".to_owned());
    } else if is("boolean") {
        found.push("true or false".to_owned());
    }
    if is("array") {
        found.push(format!("list of {}", kind(&schema["items"], definitions)));
    }
    if is("object") {
        found.push(mapping(schema, definitions));
    }
    if found.is_empty() {
        found.extend(is("null").then(|| "null".to_owned()).filter(|_| types.len() == 1));
        // Null stands for a mapping without keys; a table need not say so.
        found.clear();
    }
    found
}

fn mapping(schema: &Value, definitions: &Map<String, Value>) -> String {
    if let Some(keys) = schema["properties"].as_object() {
        let keys = keys.iter().map(|(key, value)| match kind(value, definitions).as_str() {
            "" => format!("`{key}`"),
            kind => format!("`{key}`: {kind}"),
        });
        return format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "));
    }
    match schema.get("additionalProperties") {
        Some(values) if values.is_object() => {
            format!("mapping of names to {}", kind(values, definitions))
        }
        _ => "mapping".to_owned(),
    }
}

/// A doc comment without the brackets of its links to code.
fn unlinked(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").replace("Paginate::", "")
}
