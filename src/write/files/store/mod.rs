//! Files in an object store.

mod object;
pub(crate) mod objects;
mod sink;
mod upload;
