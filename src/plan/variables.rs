//! The variables of templates.

use std::collections::BTreeMap;

use chrono::{Days, Months, NaiveDate};
use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::plan::documents::Run;
use crate::spec::{Input, ListItem, Spec};
use crate::template::Value;

/// Variables that identify a run.
pub(super) fn of_run(run: &Run) -> BTreeMap<String, Value> {
    let date = run.started_at.format("%Y-%m-%d").to_string();
    let timestamp = run.started_at.format("%Y%m%dT%H%M%SZ").to_string();
    [("run_id", run.id.clone()), ("run_date", date), ("run_timestamp", timestamp)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect()
}

/// Values of the spec's inputs: those that are set, and the defaults of the others.
pub(super) fn inputs(
    spec: &Spec,
    set: &IndexMap<String, serde_json::Value>,
    run: &Run,
) -> Result<BTreeMap<String, Value>> {
    if let Some(unknown) = set.keys().find(|name| !spec.inputs.contains_key(*name)) {
        let known: Vec<&str> = spec.inputs.keys().map(String::as_str).collect();
        return Err(Error::input(format!("`{}` has no input `{unknown}`", spec.name))
            .with_hint(format!("its inputs are: {}", known.join(", "))));
    }
    let mut values = BTreeMap::new();
    for (name, input) in &spec.inputs {
        if let Some(list) = set.get(name).filter(|_| input.list.is_some()) {
            no_empty_item(name, list)?;
        }
        let value = value_of(input, set.get(name), run)
            .ok_or_else(|| Error::input(format!("input `{name}` is not {}", input_type(input))))?;
        values.insert(name.clone(), value);
    }
    Ok(values)
}

/// Rejects a list with an empty item. A list selects what weir reads: an empty item would select
/// everything or nothing, and usually comes from an unset variable.
fn no_empty_item(name: &str, list: &serde_json::Value) -> Result<()> {
    let is_empty = |item: &serde_json::Value| {
        item.as_str().map_or(item.is_null(), |text| text.trim().is_empty())
    };
    let empty = list
        .as_array()
        .map_or_else(|| list.is_string() && is_empty(list), |items| items.iter().any(is_empty));
    if !empty {
        return Ok(());
    }
    let what = format!("the list `{name}` has an empty value");
    Err(Error::input(what).with_hint(
        "it may use a variable that is not set; to read without the list, remove the input",
    ))
}

/// The type of an input as shown to users: ``a date, as `2026-01-31` or `1 year ago` ``.
pub fn input_type(input: &Input) -> String {
    if !input.one_of.is_empty() {
        return format!("one of {}", input.one_of.join(", "));
    }
    let name = match (input.list, &input.int, &input.bool, &input.date) {
        (Some(ListItem::Text), ..) => "a list of texts",
        (Some(ListItem::Int), ..) => "a list of integers",
        (_, Some(_), ..) => "an integer",
        (_, _, Some(_), _) => "true or false",
        (_, _, _, Some(_)) => "a date, as `2026-01-31` or `1 year ago`",
        _ => "a text",
    };
    name.to_owned()
}

/// Whether a value is valid for an input.
pub(super) fn fits(input: &Input, value: &serde_json::Value) -> bool {
    let run = Run { id: String::new(), started_at: chrono::DateTime::UNIX_EPOCH };
    value_of(input, Some(value), &run).is_some()
}

/// The value of an input; `None` when the given value does not have its type.
fn value_of(input: &Input, set: Option<&serde_json::Value>, run: &Run) -> Option<Value> {
    let set = set.filter(|value| !value.is_null());
    if let Some(item) = input.list {
        let list = set.or(input.default.as_ref());
        return list.map_or(Some(Value::from(Vec::<String>::new())), |list| items(list, item));
    }
    if !input.one_of.is_empty() {
        let text = set.or(input.default.as_ref()).map_or(Some(""), serde_json::Value::as_str)?;
        let known = text.is_empty() || input.one_of.iter().any(|one| one == text);
        return known.then(|| Value::from(text));
    }
    if let Some(default) = input.int {
        let number = set.map_or(Some(default), |value| whole(value).map(Some))?;
        return Some(number.map_or(Value::from(()), Value::from));
    }
    if let Some(default) = input.bool {
        let flag = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_bool(),
        };
        let flag = set.map_or(Some(default), |value| flag(value).map(Some))?;
        return Some(Value::from(flag.unwrap_or(false)));
    }
    if let Some(default) = &input.date {
        let text = set.map_or(Some(default.as_deref()), |value| value.as_str().map(Some))?;
        let today = run.started_at.date_naive();
        return match text {
            None | Some("") => Some(Value::from("")),
            Some(text) => date(text, today).map(|date| Value::from(date.to_string())),
        };
    }
    let default = input.text.as_ref().and_then(|text| text.as_deref()).unwrap_or_default();
    let text = set.map_or(Some(default), serde_json::Value::as_str)?;
    Some(Value::from(text))
}

/// An integer, which may be quoted.
fn whole(value: &serde_json::Value) -> Option<i64> {
    match value {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

/// The items of a list; a single value is a list of one.
fn items(list: &serde_json::Value, item: ListItem) -> Option<Value> {
    let items = list.as_array().map_or(std::slice::from_ref(list), Vec::as_slice);
    let items = items.iter().map(|value| match (item, value) {
        (ListItem::Int, value) => whole(value).map(Value::from),
        (ListItem::Text, serde_json::Value::String(text)) => Some(Value::from(text.as_str())),
        (ListItem::Text, serde_json::Value::Number(number)) => {
            Some(Value::from(number.to_string()))
        }
        (ListItem::Text, _) => None,
    });
    items.collect::<Option<Vec<Value>>>().map(Value::from)
}

/// Reads `2026-01-31`, `today`, or a number of days, weeks, months or years `ago`.
fn date(text: &str, today: NaiveDate) -> Option<NaiveDate> {
    if text == "today" {
        return Some(today);
    }
    let Some(span) = text.strip_suffix(" ago") else { return text.parse().ok() };
    let (number, unit) = span.split_once(' ')?;
    let number: u32 = number.parse().ok()?;
    match unit.trim_end_matches('s') {
        "day" => today.checked_sub_days(Days::new(number.into())),
        "week" => today.checked_sub_days(Days::new(u64::from(number) * 7)),
        "month" => today.checked_sub_months(Months::new(number)),
        "year" => today.checked_sub_months(Months::new(number.checked_mul(12)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_may_be_relative() {
        let today = NaiveDate::from_ymd_opt(2026, 3, 31).unwrap();
        let table = [
            ("2025-12-01", Some("2025-12-01")),
            ("1 year ago", Some("2025-03-31")),
            ("1 month ago", Some("2026-02-28")),
            ("2 weeks ago", Some("2026-03-17")),
            ("90 days ago", Some("2025-12-31")),
            ("today", Some("2026-03-31")),
            ("soon", None),
            ("1 fortnight ago", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                date(text, today).map(|date| date.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}
