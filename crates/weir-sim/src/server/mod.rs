//! What stands between the API and its clients: the socket, faults, the quota, the log.

pub(crate) mod body;
pub(crate) mod faults;
pub(crate) mod log;
pub(crate) mod meter;
pub(crate) mod serve;
