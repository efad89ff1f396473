//! Filters for records, and what records feed to queues.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value},
};

use crate::spec::language::value::Scalar;

/// A filter for records. Written as a path that must have a value, or as a mapping of paths to
/// values.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Filter {
    /// Any value at this path.
    Value(String),
    /// These texts at these paths.
    Texts(IndexMap<String, String>),
}

impl Filter {
    /// The paths, each with its required text; `None` accepts any value.
    pub fn all(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::Value(path) => vec![(path, None)],
            Self::Texts(texts) => {
                texts.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect()
            }
        }
    }
}

/// What a record feeds to a queue. Written as the path of the value, or with a filter.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Feed {
    /// Path of the value.
    Value(String),
    /// The value of those records that pass a filter.
    Some(SomeFeed),
}

/// A value with a filter for the records that feed it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SomeFeed {
    /// Path of the value.
    pub value: String,
    /// Filter. Other records feed nothing.
    pub filter: Filter,
}

impl Feed {
    /// Path of the value.
    pub fn value(&self) -> &str {
        match self {
            Self::Value(path) => path,
            Self::Some(some) => &some.value,
        }
    }

    /// The filter, if there is one.
    pub fn filter(&self) -> Option<&Filter> {
        match self {
            Self::Value(_) => None,
            Self::Some(some) => Some(&some.filter),
        }
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(FilterVisitor)
    }
}

struct FilterVisitor;

impl<'de> Visitor<'de> for FilterVisitor {
    type Value = Filter;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a path, or a mapping of paths to their required texts")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Filter, E> {
        Ok(Filter::Value(path.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Filter, A::Error> {
        let mut texts = IndexMap::new();
        while let Some((path, Scalar(text))) = map.next_entry::<String, Scalar>()? {
            texts.insert(path, text);
        }
        Ok(Filter::Texts(texts))
    }
}

impl<'de> Deserialize<'de> for Feed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(FeedVisitor)
    }
}

struct FeedVisitor;

impl<'de> Visitor<'de> for FeedVisitor {
    type Value = Feed;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the path of a value, or `{ value: …, filter: … }`")
    }

    fn visit_str<E: de::Error>(self, path: &str) -> Result<Feed, E> {
        Ok(Feed::Value(path.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Feed, A::Error> {
        SomeFeed::deserialize(value::MapAccessDeserializer::new(map)).map(Feed::Some)
    }
}
