//! The state of replications, kept beside the files.

pub(crate) mod journal;
mod lease;
mod local;
pub(crate) mod location;
pub(crate) mod paths;
mod store;
