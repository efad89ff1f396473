//! When a request may be sent, and what it costs: pacing, rate-limit headers, and the points of an hourly quota,
//! which processes share through a ledger.

pub mod account;
pub(crate) mod budget;
pub mod cost;
pub mod headers;
pub mod ledger;
pub mod pacing;
pub(crate) mod request_cost;
pub(crate) mod reservations;
pub mod terms;
