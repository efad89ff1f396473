//! HTTP: transport, authentication, pagination, response rules, and the client that paces and retries requests.

pub mod access;
pub(crate) mod answer;
pub(crate) mod ask;
pub mod auth;
pub(crate) mod call;
pub(crate) mod client;
pub mod exchange;
pub(crate) mod lockout;
pub mod pagination;
pub(crate) mod request;
pub mod response_rules;
pub mod session;
pub mod transport;
