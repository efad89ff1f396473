//! A simulated Confluence Cloud tenant, with the same responses in process and over a socket.
//!
//! A tenant is a function of [`Options`]: its seed and sizes determine every byte. [`Simulator::answer`]
//! needs no socket and follows tokio's (possibly paused) time. [`serve()`] puts the same state machine
//! behind HTTP/1.1. The API supports `GET` only. A tenant changes through [`Simulator::change`],
//! [`Simulator::churn`], or as requests arrive ([`Churning`]).

mod api;
mod churn_options;
mod error;
mod fault_rules;
mod options;
mod server;
mod simulator;
mod tenant;
mod truth;

pub use api::answer::{IncomingRequest, Reply};
pub use api::parameters::{Parameter, ParameterForm};
pub use api::refusals::refusal;
pub use api::routes::{ROUTES, Route};
pub use churn_options::{Churn, Churning, Happening};
pub use error::{Broken, Error, Result};
pub use fault_rules::{FaultRule, Faults, RetryAfter, What, When};
pub use options::{
    CUSTOM_CONTENT_TYPES, ChildCounts, Credentials, Options, PointsQuota, QuotaHeaders,
};
pub use server::log::{Counters, LoggedRequest};
pub use server::serve::serve;
pub use simulator::Simulator;
pub use tenant::change::{New, TenantChange};
pub use truth::{STREAMS, Wanted};
