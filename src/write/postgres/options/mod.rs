//! How to reach a server: the fields of a connection, and the sources they come from.

pub(crate) mod fields;
pub(crate) mod sources;
