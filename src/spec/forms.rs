//! The short forms of the language: a text, number or list in place of a mapping.

use std::{borrow::Cow, fmt, time::Duration};

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor, value},
};

use crate::schema::ColumnType;
use crate::spec::language::column::ColumnSpec;
use crate::spec::language::connect::BaseUrl;
use crate::spec::language::incremental::Refresh;
use crate::spec::language::request::{ForEach, InputItems, QueueItems, RangeItems, ValueItems};
use crate::spec::language::responses::StatusPattern;
use crate::spec::language::value::{OneOrMany, QueryValue, Scalar, Span};

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BaseUrlVisitor)
    }
}

struct BaseUrlVisitor;

impl<'de> Visitor<'de> for BaseUrlVisitor {
    type Value = BaseUrl;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a URL, or `{ when: …, url: … }`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<BaseUrl, E> {
        Ok(BaseUrl { when: None, url: text.to_owned() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BaseUrl, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            when: Option<String>,
            url: String,
        }
        let Long { when, url } = Long::deserialize(value::MapAccessDeserializer::new(map))?;
        Ok(BaseUrl { when, url })
    }
}

/// A visitor for values written as a single scalar of any kind.
struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, number or boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar(flag.to_string()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The reader passes a number as it is spelled in the file.
        deserializer.deserialize_string(ScalarVisitor)
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl<'de> Deserialize<'de> for QueryValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(QueryValueVisitor)
    }
}

struct QueryValueVisitor;

impl<'de> Visitor<'de> for QueryValueVisitor {
    type Value = QueryValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, number or boolean, or a list of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<QueryValue, A::Error> {
        let mut all = Vec::new();
        while let Some(Scalar(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(QueryValue(all))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<QueryValue, E> {
        ScalarVisitor.visit_str(text).map(QueryValue::from)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<QueryValue, E> {
        ScalarVisitor.visit_bool(flag).map(QueryValue::from)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<QueryValue, E> {
        ScalarVisitor.visit_i64(number).map(QueryValue::from)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<QueryValue, E> {
        ScalarVisitor.visit_u64(number).map(QueryValue::from)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<QueryValue, E> {
        ScalarVisitor.visit_f64(number).map(QueryValue::from)
    }
}

impl From<Scalar> for QueryValue {
    fn from(Scalar(text): Scalar) -> Self {
        Self(vec![text])
    }
}

impl JsonSchema for QueryValue {
    fn schema_name() -> Cow<'static, str> {
        "QueryValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let scalar = json_schema!({ "type": ["string", "number", "boolean"] });
        json_schema!({ "anyOf": [scalar, { "type": "array", "items": scalar }] })
    }
}

impl JsonSchema for BaseUrl {
    fn schema_name() -> Cow<'static, str> {
        "BaseUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "when": { "type": "string" }, "url": { "type": "string" } },
                "required": ["url"],
                "additionalProperties": false,
            },
        ] })
    }
}

/// Reads `500ms`, `10s`, `5m`, `2h`, `1d`; `None` when the text is not a duration.
fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

impl Span {
    /// Reads `500ms`, `10s`, `5m`, `2h` or `1d`.
    pub fn parse(text: &str) -> Option<Self> {
        parse_span(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::deserialize(deserializer)?;
        parse_span(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is not a duration; write `500ms`, `10s`, `5m`, `2h` or `1d`"
            ))
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

impl<'de> Deserialize<'de> for Refresh {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::deserialize(deserializer)?;
        if text == "with_parent" {
            return Ok(Self::WithParent);
        }
        parse_span(&text).map(Self::Every).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is neither a duration (`0s`, `30m`, `24h`, `7d`) nor `with_parent`"
            ))
        })
    }
}

impl JsonSchema for Refresh {
    fn schema_name() -> Cow<'static, str> {
        "Refresh".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d)|with_parent)$" })
    }
}

/// Reads `429` or `5xx`.
fn parse_status(text: &str) -> Option<StatusPattern> {
    if let Some(class) = text.strip_suffix("xx") {
        let class = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(StatusPattern::Class(class));
    }
    text.parse().ok().filter(|status| (100..=599).contains(status)).map(StatusPattern::Exact)
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Scalar(text) = Scalar::deserialize(deserializer)?;
        parse_status(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is not a status; write `429` or `5xx`"))
        })
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^([1-5][0-9][0-9]|[1-5]xx)$" },
        ] })
    }
}

/// The keys of a `for_each`. The first four determine its form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForEachKeys {
    queue: Option<String>,
    input: Option<String>,
    values: Option<Vec<Scalar>>,
    range: Option<crate::spec::language::request::RangeBounds>,
    chunk: Option<u32>,
    #[serde(rename = "as")]
    variable: Option<String>,
    when_empty: Option<String>,
    found_at: Option<String>,
    #[serde(default)]
    carry: IndexMap<String, String>,
    only: Option<String>,
}

impl ForEachKeys {
    fn resolve(self) -> Result<ForEach, &'static str> {
        const ONE_FORM: &str =
            "`for_each` takes exactly one of `queue`, `input`, `values`, `range`";
        const NEEDS_AS: &str = "this form of `for_each` needs `as`, the name of the variable";
        const QUEUE_OR_INPUT: &str = "`chunk` is allowed with `queue` or `input` only";
        const INPUT_ONLY: &str = "`when_empty` and `found_at` are allowed with `input` only";
        const QUEUE_ONLY: &str =
            "`carry` and `only` are allowed with single values of a `queue` only";
        let Self { queue, input, values, range, chunk, variable, carry, only, .. } = self;
        let (when_empty, found_at) = (self.when_empty, self.found_at);
        if (!carry.is_empty() || only.is_some()) && (queue.is_none() || chunk.is_some()) {
            return Err(QUEUE_ONLY);
        }
        if (when_empty.is_some() || found_at.is_some()) && input.is_none() {
            return Err(INPUT_ONLY);
        }
        if chunk.is_some() && queue.is_none() && input.is_none() {
            return Err(QUEUE_OR_INPUT);
        }
        match (queue, input, values, range) {
            (Some(queue), None, None, None) => {
                Ok(ForEach::Queue(QueueItems { queue, chunk, variable, carry, only }))
            }
            (None, Some(input), None, None) => {
                let variable = variable.ok_or(NEEDS_AS)?;
                Ok(ForEach::Input(InputItems { input, chunk, variable, when_empty, found_at }))
            }
            (None, None, Some(values), None) => {
                let values = values.into_iter().map(|Scalar(text)| text).collect();
                Ok(ForEach::Values(ValueItems { values, variable: variable.ok_or(NEEDS_AS)? }))
            }
            (None, None, None, Some(range)) => {
                Ok(ForEach::Range(RangeItems { range, variable: variable.ok_or(NEEDS_AS)? }))
            }
            _ => Err(ONE_FORM),
        }
    }
}

impl<'de> Deserialize<'de> for ForEach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(ForEachVisitor)
    }
}

struct ForEachVisitor;

impl<'de> Visitor<'de> for ForEachVisitor {
    type Value = ForEach;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "the name of a queue, or a mapping with `queue`, `input`, `values` or `range`",
        )
    }

    fn visit_str<E: de::Error>(self, queue: &str) -> Result<ForEach, E> {
        let (queue, carry) = (queue.to_owned(), IndexMap::new());
        Ok(ForEach::Queue(QueueItems { queue, chunk: None, variable: None, carry, only: None }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ForEach, A::Error> {
        let keys = ForEachKeys::deserialize(value::MapAccessDeserializer::new(map))?;
        keys.resolve().map_err(de::Error::custom)
    }
}

impl JsonSchema for ForEach {
    fn schema_name() -> Cow<'static, str> {
        "ForEach".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let long = generator.subschema_for::<ForEachKeys>();
        let forms =
            ["queue", "input", "values", "range"].map(|key| json_schema!({ "required": [key] }));
        json_schema!({ "anyOf": [{ "type": "string" }, { "allOf": [long], "oneOf": forms }] })
    }
}

/// The keys of a column: one key named after the type that holds the path, and the keys of all
/// types.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnKeys {
    text: Option<OneOrMany<String>>,
    int: Option<OneOrMany<String>>,
    float: Option<OneOrMany<String>>,
    decimal: Option<OneOrMany<String>>,
    bool: Option<OneOrMany<String>>,
    date: Option<OneOrMany<String>>,
    timestamp: Option<OneOrMany<String>>,
    json: Option<OneOrMany<String>>,
    bytes: Option<OneOrMany<String>>,
    /// The type, if the path is the column's name.
    #[serde(rename = "type")]
    kind: Option<ColumnType>,
    default: Option<serde_json::Value>,
    doc: Option<String>,
}

impl ColumnKeys {
    fn resolve(self) -> Option<ColumnSpec> {
        let typed = [
            (ColumnType::Text, self.text),
            (ColumnType::Int, self.int),
            (ColumnType::Float, self.float),
            (ColumnType::Decimal, self.decimal),
            (ColumnType::Bool, self.bool),
            (ColumnType::Date, self.date),
            (ColumnType::Timestamp, self.timestamp),
            (ColumnType::Json, self.json),
            (ColumnType::Bytes, self.bytes),
        ];
        let named =
            typed.into_iter().filter_map(|(kind, from)| from.map(|from| (kind, Some(from))));
        let mut all = named.chain(self.kind.map(|kind| (kind, None)));
        let (kind, from) = all.next()?;
        all.next().is_none().then_some(ColumnSpec {
            kind,
            from,
            default: self.default,
            doc: self.doc,
        })
    }
}

impl<'de> Deserialize<'de> for ColumnSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ColumnVisitor)
    }
}

struct ColumnVisitor;

impl<'de> Visitor<'de> for ColumnVisitor {
    type Value = ColumnSpec;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a type (`text`, `int` …) or `{ type: path }`")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ColumnSpec, E> {
        let kind = ColumnType::deserialize(value::StrDeserializer::new(name))?;
        Ok(ColumnSpec { kind, from: None, default: None, doc: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnSpec, A::Error> {
        let keys = ColumnKeys::deserialize(value::MapAccessDeserializer::new(map))?;
        let wrong = "a column has exactly one type: `{ int: version.number }`";
        keys.resolve().ok_or_else(|| de::Error::custom(wrong))
    }
}

impl JsonSchema for ColumnSpec {
    fn schema_name() -> Cow<'static, str> {
        "Column".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let short = generator.subschema_for::<ColumnType>();
        let long = generator.subschema_for::<ColumnKeys>();
        let types = ColumnType::ALL.map(ColumnType::name).into_iter().chain(["type"]);
        let types: Vec<Schema> = types.map(|key| json_schema!({ "required": [key] })).collect();
        json_schema!({ "anyOf": [short, { "allOf": [long], "oneOf": types }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let table = [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("10", None),
            ("s", None),
            ("99999999999999999d", None),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse_span(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn statuses_are_numbers_or_classes() {
        assert_eq!(parse_status("429"), Some(StatusPattern::Exact(429)));
        assert_eq!(parse_status("5xx"), Some(StatusPattern::Class(5)));
        assert_eq!(parse_status("9xx"), None);
        assert_eq!(parse_status("42"), None);
    }
}
