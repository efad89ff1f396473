//! How the language says what changed since the last run.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::request::RequestSpec;
use super::value::{QueryValue, Span};

/// What an incremental run reads: what changed since the greatest value of a column so far.
///
/// The first run reads everything, and so does every run for which the stream's `refresh` is due. In
/// the runs between, the stream's requests have `query` added, or give way to `requests`. Their
/// templates see the bound as `cursor`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cursor {
    /// Column that grows with every change of a row: a timestamp, date or int.
    pub field: String,
    /// Whether the API's filter takes in its bound.
    pub operator: Operator,
    /// How templates see `cursor`.
    pub format: CursorFormat,
    /// Time (or, for an int, nothing) before the greatest value from which is read again: clocks
    /// differ, and APIs show changes late.
    pub lookback: Option<Span>,
    /// Whether the listing comes newest first, and ends at the first page with a record before the
    /// bound.
    pub newest_first: bool,
    /// Query parameters that such a run adds, such as a sort order or a filter.
    pub query: IndexMap<String, QueryValue>,
    /// The requests of such a run, when they are others. The spec's `defaults` hold for them, the
    /// stream's own request does not.
    pub requests: Vec<RequestSpec>,
    /// Where the first run begins, a template over inputs; empty: with everything. Needs
    /// `newest_first` or a `query`, which are then used in every run.
    pub anchor: Option<String>,
}

/// Whether a filter takes in its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Rows at the bound come.
    #[default]
    AtLeast,
    /// Rows at the bound do not come: the bound that is asked for is one step earlier.
    After,
}

/// How templates see a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// `2026-01-31T12:00:00.000Z`; of an int, its digits.
    #[default]
    Rfc3339,
    /// `2026-01-31`.
    Date,
    /// Seconds since 1970.
    EpochS,
    /// Milliseconds since 1970.
    EpochMs,
}

/// How old a complete reading of a stream may be before an incremental run reads it all again, and
/// so finds what the runs between cannot see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// This old; `0s`: every run reads everything.
    Every(Duration),
    /// Never: what changes shows in the parent, whose unchanged records' children are not asked for.
    WithParent,
}

impl Default for Refresh {
    fn default() -> Self {
        Self::Every(Duration::ZERO)
    }
}
