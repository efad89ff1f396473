//! The types of the spec language.

pub(crate) mod api;
pub(crate) mod column;
pub(crate) mod connect;
pub(crate) mod incremental;
pub(crate) mod pages;
pub(crate) mod records;
pub(crate) mod request;
pub(crate) mod responses;
pub(crate) mod routes;
pub(crate) mod stream;
pub(crate) mod value;
