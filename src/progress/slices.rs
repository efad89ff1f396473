//! The saved state of slices in progress.

use serde::{Deserialize, Serialize};

use crate::http::pagination::Position;

/// A slice in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSlice {
    /// Number of the slice's request.
    pub request: usize,
    /// First position in the queue, or the slice's own number.
    pub from: u64,
    /// Position after the last one.
    pub to: u64,
    /// Number of the slice's value, for slices without a queue.
    pub number: u64,
    /// Number of restarts of the slice.
    pub attempt: u32,
    /// Values of the queue.
    pub items: Vec<OpenItem>,
    /// Unfinished listings. The last one is resumed first.
    pub listings: Vec<OpenListing>,
}

/// A value of a queue, its version, and its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenItem(pub String, pub Option<i64>, #[serde(default)] pub String);

/// An unfinished listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenListing {
    /// Depth below the slice's own listing, which has depth 0.
    pub depth: u32,
    /// Values that lead to it from the slice's own listing.
    pub with: Vec<String>,
    /// Position of the next page.
    pub at: Position,
    /// The part of a chunk of values that it covers; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(usize, usize)>,
    /// Total number of records, as stated by the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
