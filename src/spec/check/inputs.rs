//! Inputs: each has one type, and its default fits that type.

use chrono::NaiveDate;
use serde_json::Value;

use super::checker::{Checker, below};
use crate::spec::language::connect::{Input, ListItem};

impl Checker<'_> {
    pub(super) fn inputs(&mut self) {
        for (name, input) in &self.spec.inputs {
            let at = ["inputs", name.as_str()];
            self.variable(&at, name);
            if self.spec.connection.contains_key(name) {
                self.found(&at, format!("`{name}` is also a connection field"));
            }
            let given = [
                input.text.is_some(),
                input.int.is_some(),
                input.bool.is_some(),
                input.date.is_some(),
                input.list.is_some(),
                !input.one_of.is_empty(),
            ];
            let keys = "`text`, `int`, `bool`, `date`, `list`, `one_of`";
            self.one_of(&at, keys, &given);
            if let Some(Some(date)) = &input.date
                && !is_date(date)
            {
                let message = format!("`{date}` is not a date; write `2026-01-31` or `1 year ago`");
                self.found(&below(&at, &["date"]), message);
            }
            if let Some(default) = &input.default {
                self.input_default(&below(&at, &["default"]), input, default);
            }
        }
    }

    fn input_default(&mut self, at: &[&str], input: &Input, default: &Value) {
        if let Some(item) = input.list {
            let (fits, wanted): (fn(&Value) -> bool, _) = match item {
                ListItem::Text => (|value| value.is_string() || value.is_number(), "texts"),
                ListItem::Int => (Value::is_i64, "integers"),
            };
            let fits = default.as_array().is_some_and(|items| items.iter().all(fits));
            self.found_if(!fits, at, &format!("the default is not a list of {wanted}"));
        } else if input.one_of.is_empty() {
            self.found(at, "`default` is allowed with `list` and `one_of`; for other types, the value itself is the default");
        } else {
            let known =
                default.as_str().is_some_and(|text| input.one_of.iter().any(|one| one == text));
            self.found_if(!known, at, "the default is not among `one_of`");
        }
    }
}

/// Whether a text is `2026-01-31`, `today`, or a number of days, weeks, months or years `ago`.
fn is_date(text: &str) -> bool {
    let Some(span) = text.strip_suffix(" ago") else {
        return text.is_empty() || text == "today" || text.parse::<NaiveDate>().is_ok();
    };
    let units = ["day", "week", "month", "year"];
    span.split_once(' ').is_some_and(|(number, unit)| {
        number.parse::<u32>().is_ok() && units.contains(&unit.trim_end_matches('s'))
    })
}
