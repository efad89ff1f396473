//! The saved state of runs, streams and slices, and the versions of the records that earlier runs read.

pub(crate) mod item;
pub(crate) mod open_run;
pub(crate) mod ranges;
pub(crate) mod row_keys;
pub mod saved;
pub mod session;
pub mod slices;
pub(crate) mod stream_state;
pub(crate) mod versions;
