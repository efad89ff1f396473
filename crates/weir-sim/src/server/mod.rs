//! The layer between the API and its clients: socket, faults, quota, log.

pub(crate) mod body;
pub(crate) mod faults;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod serve;
