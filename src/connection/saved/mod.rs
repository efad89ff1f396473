//! The connections file: read, locked and edited.

pub(crate) mod file;
pub(crate) mod property;
pub(crate) mod store;
