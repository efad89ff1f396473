//! Streams and columns of each spec that comes with weir.

use std::fmt::Write;

use serde_json::Value;
use weir::spec::{ConnectionField, EMBEDDED, Input, Refresh, Spec};

use super::{head, page, table};
use crate::support::{
    book::expect_page,
    user::{User, ended},
};

#[test]
fn the_streams_of_each_spec() {
    for (name, yaml) in EMBEDDED {
        let spec = Spec::load(name, yaml).unwrap();
        let user = User::new();
        let (out, _) = ended(&user.run(&["conns", "discover", name, "--json"]), 0);
        let streams: Vec<Value> = serde_json::from_str(&out).unwrap();
        let title = spec.title.clone().unwrap_or(name.to_owned());
        let mut text = head(&title, &format!("specs/{name}.yaml"));
        writeln!(
            text,
            "The spec `{name}`. `weir conns discover {name} STREAM` shows the same, with the requests of each route. \
             API documentation: <{}>.\n",
            spec.docs.as_deref().unwrap_or_default()
        )
        .unwrap();
        let rows: Vec<_> =
            spec.connection.iter().map(|(name, field)| field_row(name, field)).collect();
        let columns = ["field", "needed", "default", "variable", "help"];
        text += &format!("## Connection\n\n{}", table(&columns, &rows));
        let rows: Vec<_> = spec.inputs.iter().map(|(name, input)| input_row(name, input)).collect();
        text += &format!("\n## Inputs\n\n{}", table(&["input", "type", "default", "help"], &rows));
        text += &limits(&spec);
        text += "\n## Streams\n\n";
        let rows: Vec<_> = streams.iter().map(index_row).collect();
        text += &table(&["stream", "columns", "key", "parent"], &rows);
        for stream in &streams {
            text += &described(&spec, stream);
        }
        expect_page(&page(&format!("{name}.md")), &text);
    }
}

/// A help text as a sentence.
fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut signs = text.chars();
    let first = signs.next().map(|sign| sign.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", signs.as_str())
}

fn field_row(name: &str, field: &ConnectionField) -> Vec<String> {
    let needed = match &field.required_when {
        _ if field.required => "always".to_owned(),
        Some(when) => format!("if `{when}`"),
        None => String::new(),
    };
    let secret = if field.secret { " (secret)" } else { "" };
    let choices = field.one_of.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ");
    let choices = if choices.is_empty() { choices } else { format!(" One of {choices}.") };
    vec![
        format!("`{name}`{secret}"),
        needed,
        field.default.as_ref().map(|text| format!("`{text}`")).unwrap_or_default(),
        field.env.as_ref().map(|text| format!("`{text}`")).unwrap_or_default(),
        format!("{}{choices}", sentence(&field.help)),
    ]
}

fn input_row(name: &str, input: &Input) -> Vec<String> {
    let shown = |text: Option<String>| text.map(|text| format!("`{text}`")).unwrap_or_default();
    let (kind, default) = if let Some(text) = &input.text {
        ("text".to_owned(), shown(text.clone()))
    } else if let Some(number) = &input.int {
        ("whole number".to_owned(), shown(number.map(|number| number.to_string())))
    } else if let Some(truth) = &input.bool {
        ("true or false".to_owned(), shown(truth.map(|truth| truth.to_string())))
    } else if let Some(date) = &input.date {
        ("date".to_owned(), shown(date.clone()))
    } else if input.list.is_some() {
        ("list".to_owned(), shown(input.default.as_ref().map(ToString::to_string)))
    } else {
        let choices = input.one_of.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>();
        let default = input.default.as_ref().and_then(Value::as_str).map(str::to_owned);
        (choices.join(", "), shown(default))
    };
    vec![format!("`{name}`"), kind, default, sentence(&input.help)]
}

fn limits(spec: &Spec) -> String {
    let limits = &spec.limits;
    let mut rows = vec![
        vec![
            "Requests per second".to_owned(),
            limits.requests_per_second.map_or("no limit".to_owned(), |one| one.to_string()),
        ],
        vec!["Requests in flight".to_owned(), limits.concurrency.to_string()],
    ];
    if let Some(points) = &limits.points {
        rows.push(vec![
            "Points per hour, for connections with a quota".to_owned(),
            points.per_hour.to_string(),
        ]);
        rows.push(vec!["Points per request".to_owned(), points.base.to_string()]);
    }
    format!(
        "\n## Limits\n\nA replication may override them with `limits`.\n\n{}",
        table(&["limit", "value"], &rows)
    )
}

fn index_row(stream: &Value) -> Vec<String> {
    let name = stream["stream"].as_str().unwrap();
    vec![
        format!("[{name}](#{name})"),
        stream["columns"].as_array().unwrap().len().to_string(),
        list(&stream["key"]),
        list(&stream["parents"]),
    ]
}

fn list(value: &Value) -> String {
    let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
}

fn described(spec: &Spec, stream: &Value) -> String {
    let name = stream["stream"].as_str().unwrap();
    let declared = &spec.streams[name];
    let mut out = format!("\n### {name}\n\n{}\n\n", stream["doc"].as_str().unwrap_or_default());
    let mut facts = vec![("Key", list(&stream["key"])), ("Parent", list(&stream["parents"]))];
    let routes = stream["routes"].as_array().into_iter().flatten();
    let routes = routes
        .filter(|route| route["own"] != true && route["default"] != true)
        .filter_map(|route| route["route"].as_str());
    facts.push((
        "Other routes",
        routes.map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", "),
    ));
    let cursor = declared.cursor.as_ref().map(|cursor| match cursor.field.as_str() {
        "" => "declared".to_owned(),
        field => format!("`{field}`"),
    });
    facts.push(("Cursor", cursor.unwrap_or_default()));
    let refresh = match declared.refresh {
        Some(Refresh::Every(age)) if age.is_zero() => "in every run".to_owned(),
        Some(Refresh::Every(age)) => format!("when the last one is {} h old", age.as_secs() / 3600),
        Some(Refresh::WithParent) => "with its parent".to_owned(),
        None => "in every run".to_owned(),
    };
    facts.push(("Full read by `incremental`", refresh));
    let cost = &stream["cost"];
    let of_record = cost.get("record").or_else(|| cost.get("object")).and_then(Value::as_u64);
    let cost = of_record.zip(cost["request"].as_u64()).map(|(record, request)| {
        format!("{request} for each request and {record} for each record, where points count")
    });
    facts.push(("Points", cost.unwrap_or_default()));
    facts.push((
        "API documentation",
        stream["docs"].as_str().map(|url| format!("<{url}>")).unwrap_or_default(),
    ));
    for (title, text) in facts.iter().filter(|(_, text)| !text.is_empty()) {
        writeln!(out, "- {title}: {text}").unwrap();
    }
    let columns = stream["columns"].as_array().unwrap().iter().map(|column| {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        vec![format!("`{}`", text("name")), text("type"), text("doc")]
    });
    out + "\n" + &table(&["column", "type", "meaning"], &columns.collect::<Vec<_>>())
}
