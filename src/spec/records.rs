//! How the language says which records count.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a record must have. Written as the path of any value, or as a mapping of paths to values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Having {
    /// A value, whichever, at this path.
    Value(String),
    /// These texts at these paths.
    Texts(IndexMap<String, String>),
}

impl Having {
    /// The paths, each with the text that must be there, if it is a certain one.
    pub fn all(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::Value(path) => vec![(path, None)],
            Self::Texts(texts) => {
                texts.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect()
            }
        }
    }
}

/// What a record feeds to a queue. Written as the path of the value, or with what the record must have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Feed {
    /// Path of the value.
    Value(String),
    /// The same of some records.
    Some(SomeFeed),
}

/// See [`Feed::Some`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SomeFeed {
    /// Path of the value.
    pub value: String,
    /// What a record must have; others feed nothing.
    pub having: Having,
}

impl Feed {
    /// Path of the value.
    pub fn value(&self) -> &str {
        match self {
            Self::Value(path) => path,
            Self::Some(some) => &some.value,
        }
    }

    /// What a record must have.
    pub fn having(&self) -> Option<&Having> {
        match self {
            Self::Value(_) => None,
            Self::Some(some) => Some(&some.having),
        }
    }
}
