//! Requests and routes of streams, compiled.

pub(crate) mod compiler;
pub(crate) mod iterate;
pub(crate) mod merged;
pub(crate) mod queue;
pub(crate) mod request;
pub(crate) mod route_kind;
pub(crate) mod routes;
pub(crate) mod templates;
