//! Listings, and their pages: the request for one, its rows, and what of it is asked for again.

pub(crate) mod fetch_by_id;
pub(crate) mod fingerprint;
pub(crate) mod listing;
pub(crate) mod page;
pub(crate) mod request;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod split;
