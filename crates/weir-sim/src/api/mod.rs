//! The API: its routes, parameters and responses.

pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod cql;
pub(crate) mod listing;
pub(crate) mod lists;
pub(crate) mod out;
pub(crate) mod parameters;
pub(crate) mod query;
pub(crate) mod refusals;
pub(crate) mod routes;
pub(crate) mod search;
pub(crate) mod search_all;
pub(crate) mod single;
