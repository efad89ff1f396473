//! Requests and listings that several streams share.

pub(crate) mod fused;
pub(crate) mod group;
pub(crate) mod listings;
