//! Files on local disk.

mod exchange;
pub(crate) mod folder;
mod sink;
