//! What the command line prints: data on stdout; messages, progress and summaries on stderr.

pub(crate) mod estimate;
pub(crate) mod printer;
pub(crate) mod progress;
pub(crate) mod routes;
pub(crate) mod safe;
pub(crate) mod screen;
pub(crate) mod summary;
pub(crate) mod watch;
