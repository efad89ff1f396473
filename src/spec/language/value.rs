//! Basic values of the spec language.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A scalar, written as text, number or boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub String);

/// Value of a query parameter: a template or a scalar. A list repeats the parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryValue(pub Vec<String>);

/// A duration, written `500ms`, `10s`, `5m`, `2h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// Distinguishes `key: ` (null) from an absent key.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

pub(crate) fn one() -> u32 {
    1
}
