//! JSON bytes to Arrow columns in one pass, along a trie of declared paths.
//!
//! A response is visited once: values on declared paths go straight into column builders, others are
//! skipped or copied into the `_extra` object of their record. No document tree is built.

mod arrays;
mod column;
mod decoder;
mod extra;
mod layout;
mod response;
mod run;
mod scalar;
mod trie;
mod visit;

pub use arrays::{array, repeated, timestamp};
pub use decoder::Decoder;
pub use layout::{ColumnSource, DecodeError, Layout, Others, Page};
pub use response::value_at;

#[cfg(test)]
mod tests;
