//! Listings and their pages: requests, rows, and the kinds of routes.

pub(crate) mod fetch_by_id;
pub(crate) mod fingerprint;
pub(crate) mod listing;
pub(crate) mod page;
pub(crate) mod request;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod split;
