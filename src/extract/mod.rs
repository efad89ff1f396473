//! Extracts rows: the slices of a stream, their pages, and the requests that streams share.

pub(crate) mod answered_kinds;
pub(crate) mod context;
pub(crate) mod links;
pub(crate) mod messages;
pub(crate) mod pages;
pub(crate) mod refusal;
pub(crate) mod run_context;
pub(crate) mod sharing;
pub(crate) mod slice;
pub(crate) mod workers;
