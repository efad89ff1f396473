//! How rows come: the slices of a stream, their pages, and the requests that streams share.

pub(crate) mod answered_kinds;
pub(crate) mod context;
pub(crate) mod fetch_by_id;
pub(crate) mod fingerprint;
pub(crate) mod links;
pub(crate) mod listing;
pub(crate) mod messages;
pub(crate) mod page;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod resume;
pub(crate) mod rows;
pub(crate) mod run_context;
pub(crate) mod sharing;
pub(crate) mod slice;
pub(crate) mod split;
pub(crate) mod workers;
