//! How a spec declares changes since the last run.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::request::RequestSpec;
use crate::spec::language::value::{QueryValue, Span};

/// What an incremental run reads: the changes since the greatest value of a column so far.
///
/// The first run reads everything, and so does every run for which the stream's `refresh` is due.
/// In other runs, `query` is added to the stream's requests, or `requests` replace them. Their
/// templates use the bound as `cursor`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cursor {
    /// Column whose value grows with every change of a row: a timestamp, a date or an int.
    pub field: String,
    /// Whether the API's filter includes its bound.
    pub operator: Operator,
    /// Format of `cursor` in templates.
    pub format: CursorFormat,
    /// How far before the greatest value an incremental run begins, because clocks differ and APIs
    /// show changes late. Not allowed for an int.
    pub lookback: Option<Span>,
    /// Whether the listing is sorted newest first and ends at the first page with a record before
    /// the bound.
    pub newest_first: bool,
    /// Query parameters of incremental runs, such as a sort order or a filter.
    pub query: IndexMap<String, QueryValue>,
    /// The requests of incremental runs, if they differ. The spec's `defaults` apply to them, the
    /// stream's own request keys do not.
    pub requests: Vec<RequestSpec>,
    /// Where the first run begins, a template over inputs. Empty: it reads everything. Needs
    /// `newest_first` or a `query`, which every run then uses.
    pub anchor: Option<String>,
}

/// Whether a filter includes its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The filter returns rows at the bound.
    #[default]
    AtLeast,
    /// The filter does not return rows at the bound, so weir requests one step earlier.
    After,
}

/// Format of a bound in templates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CursorFormat {
    /// `2026-01-31T12:00:00.000Z`; an int as its digits.
    #[default]
    Rfc3339,
    /// `2026-01-31`.
    Date,
    /// Seconds since 1970.
    EpochS,
    /// Milliseconds since 1970.
    EpochMs,
}

/// Maximum age of the last full read of a stream. When it is older, an incremental run reads
/// everything again and detects what other runs cannot detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// This age. `0s`: every run reads everything.
    Every(Duration),
    /// No limit: each change shows in the parent, and weir does not request the children of
    /// unchanged parents.
    WithParent,
}

impl Default for Refresh {
    fn default() -> Self {
        Self::Every(Duration::ZERO)
    }
}
