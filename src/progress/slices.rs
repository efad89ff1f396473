//! Parts of a stream's progress, as they are saved: slices that are under way, and figures.

use serde::{Deserialize, Serialize};

use crate::http::pagination::Position;

/// A slice that is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSlice {
    /// Number of its request.
    pub request: usize,
    /// Its first number: a position in its queue, or its own.
    pub from: u64,
    /// The number after its last.
    pub to: u64,
    /// Number of its value, where it is not about values of a queue.
    pub number: u64,
    /// Times it was begun anew.
    pub attempt: u32,
    /// Values of its queue.
    pub items: Vec<OpenItem>,
    /// Its listings that have not ended; the last one goes on first.
    pub listings: Vec<OpenListing>,
}

/// A value of a queue, its version, and what came along with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenItem(pub String, pub Option<i64>, #[serde(default)] pub String);

/// A listing that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenListing {
    /// Level below the slice's own listing.
    pub depth: u32,
    /// What leads to it from the slice, if it is not the slice's own.
    pub with: Vec<String>,
    /// Its next page.
    pub at: Position,
    /// Of a chunk of values, which it is about; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(usize, usize)>,
    /// Records in all, as its last page has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}
