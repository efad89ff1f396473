//! Values with which an API states whether a listing continues. They are read strictly: a value of
//! another type is an error, never the end of a listing.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::path::Path;
use crate::secret;

/// Maximum number of characters of a value in a message.
const SHOWN: usize = 80;

/// A declared path and the value found there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeclaredValue<'page> {
    pub(crate) path: &'page Path,
    pub(crate) value: Option<&'page Value>,
}

impl DeclaredValue<'_> {
    /// The error about a value of another type than `paginate` expects.
    pub(crate) fn wrong(&self, wanted: &str) -> Error {
        let found = self.value.map_or_else(|| "nothing".to_owned(), shown);
        let what = format!("`paginate` expects {wanted} at `{}`, but found {found}", self.path);
        Error::new(Kind::Shape, what).with_hint(
            "correct `paginate` in the spec; rows would be lost if the listing ended here",
        )
    }

    /// The error about a missing token although a sign states that there are more pages.
    pub(crate) fn missing(&self, sign: &str) -> Error {
        let what = format!("{sign}, but there is no token for the next page at `{}`", self.path);
        Error::new(Kind::Shape, what).with_hint(
            "correct `paginate` in the spec; rows would be lost if the listing ended here",
        )
    }

    /// Reads a token; `None` if the page is the last one.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        match self.value {
            None | Some(Value::Null | Value::Bool(false)) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Array(items)) if items.is_empty() => Ok(None),
            Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
            Some(_) => Err(self.wrong("a token (a text or number)")),
        }
    }

    /// Reads a boolean; `None` if there is none.
    pub(crate) fn flag(&self) -> Result<Option<bool>> {
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(Some(false)),
            Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(Some(true)),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) if is_word(text, "true") || text == "1" => Ok(Some(true)),
            Some(Value::String(text)) if is_word(text, "false") || text == "0" => Ok(Some(false)),
            Some(_) => Err(self.wrong("true or false")),
        }
    }

    /// Reads a value that states that there are more pages: a flag, a link, a token or a number.
    pub(crate) fn more(&self) -> Result<Option<bool>> {
        match self.value {
            Some(Value::Number(number)) => Ok(Some(number.as_f64() != Some(0.0))),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(Some(false)),
            Some(Value::String(text)) => Ok(Some(!is_word(text, "false") && text != "0")),
            Some(Value::Array(items)) if items.is_empty() => Ok(Some(false)),
            Some(Value::Object(fields)) => match fields.get("href") {
                None => Ok(Some(!fields.is_empty())),
                Some(Value::Null) => Ok(Some(false)),
                Some(Value::String(text)) => Ok(Some(!text.is_empty())),
                Some(_) => Err(self.wrong("a sign of more pages (a flag, a link or a token)")),
            },
            Some(Value::Array(_)) => {
                Err(self.wrong("a sign of more pages (a flag, a link or a token)"))
            }
            None | Some(Value::Null | Value::Bool(_)) => self.flag(),
        }
    }

    /// Reads a number of records or pages; `None` if there is none.
    pub(crate) fn count(&self) -> Result<Option<u64>> {
        let wrong = || self.wrong("a whole number");
        match self.value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::Number(number)) => whole(number).map(Some).ok_or_else(wrong),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| wrong()),
            Some(_) => Err(wrong()),
        }
    }
}

fn whole(number: &serde_json::Number) -> Option<u64> {
    number.as_u64().or_else(|| number.to_string().strip_suffix(".0")?.parse().ok())
}

pub(crate) fn is_word(text: &str, word: &str) -> bool {
    text.trim().eq_ignore_ascii_case(word)
}

/// A value as JSON, known secrets masked, then shortened.
pub(crate) fn shown(value: &Value) -> String {
    let text = secret::shown(&value.to_string());
    let end = text.char_indices().nth(SHOWN).and_then(|(end, _)| text.get(..end));
    end.map_or_else(|| format!("`{text}`"), |start| format!("`{start}…`"))
}

#[cfg(test)]
#[expect(clippy::redundant_closure_for_method_calls, reason = "the methods are less general")]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        read: impl Fn(&DeclaredValue<'_>) -> Result<T>,
        table: &[(Value, Option<T>)],
    ) {
        let path = Path::parse("x").unwrap();
        for (value, wanted) in table {
            let place = DeclaredValue { path: &path, value: Some(value) };
            assert_eq!(read(&place).ok().as_ref(), wanted.as_ref(), "{value}");
        }
    }

    #[test]
    fn flags_may_be_words_and_numbers_and_nothing_else() {
        check(
            |place| place.flag(),
            &[
                (json!(true), Some(Some(true))),
                (json!("False"), Some(Some(false))),
                (json!(0), Some(Some(false))),
                (json!("1"), Some(Some(true))),
                (json!(null), Some(None)),
                (json!(2), None),
                (json!("yes, there is"), None),
                (json!({}), None),
                (json!([]), None),
            ],
        );
    }

    #[test]
    fn what_says_more_may_be_a_link() {
        check(
            |place| place.more(),
            &[
                (json!("/next"), Some(Some(true))),
                (json!("false"), Some(Some(false))),
                (json!({ "href": "/next" }), Some(Some(true))),
                (json!({ "href": null }), Some(Some(false))),
                (json!({}), Some(Some(false))),
                (json!([]), Some(Some(false))),
                (json!(3), Some(Some(true))),
                (json!([{ "rel": "next" }]), None),
                (json!({ "href": 3 }), None),
            ],
        );
    }

    #[test]
    fn counts_are_whole_numbers() {
        check(
            |place| place.count(),
            &[
                (json!(12), Some(Some(12))),
                (json!("12"), Some(Some(12))),
                (json!(12.0), Some(Some(12))),
                (json!(null), Some(None)),
                (json!("many"), None),
                (json!(-1), None),
                (json!({ "value": 12 }), None),
            ],
        );
    }
}
