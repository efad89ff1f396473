//! What is saved of runs, streams and slices, and what earlier reads are known to have brought.

pub(crate) mod item;
pub(crate) mod ranges;
pub(crate) mod row_keys;
pub mod saved;
pub mod session;
pub mod slices;
pub(crate) mod versions;
