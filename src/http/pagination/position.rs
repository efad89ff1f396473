//! Positions in a listing, and what determines the next one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::exchange::{HeaderMap, Url};

/// The position of a page in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The first page.
    First,
    /// The page with this token.
    Token(String),
    /// The page with this query and the path of the first page.
    Query(String),
    /// The page with this URL.
    Url(Url),
    /// The page with this number, or the page that begins at this record.
    Number(u64),
}

impl Position {
    /// Whether a numbered page precedes another.
    pub fn is_before(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(own), Self::Number(other)) => own < other,
            (own, _) => *own == Self::First,
        }
    }
}

/// The parts of a response that determine the next page.
#[derive(Debug)]
pub struct Seen<'page> {
    /// URL of the request.
    pub url: &'page Url,
    /// Its headers.
    pub headers: &'page HeaderMap,
    /// Values at [`captures`](crate::http::pagination::Pager::captures).
    pub captures: &'page [Option<Value>],
    /// Number of records on the page.
    pub rows: u64,
    /// Requested page size, if the API supports one.
    pub size: Option<u32>,
    /// Total number of records, as stated by the page before.
    pub total: Option<u64>,
}

/// The step after a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageStep {
    /// Position of the next page; `None` after the last.
    pub next: Option<Position>,
    /// Whether the API stated that this is the last page. Without such a sign, a full page may not
    /// be the last one.
    pub stated: bool,
    /// Total number of records, if the page states it.
    pub total: Option<u64>,
    /// Where to read again: the total has fallen, so records have moved to pages that were already
    /// read.
    pub seam: Option<Position>,
    /// Why records are missing.
    pub gap: Option<String>,
}

impl PageStep {
    pub(super) fn to(next: Option<Position>, stated: bool) -> Self {
        Self { next, stated, ..Self::default() }
    }
}
