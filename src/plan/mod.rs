//! Compiles spec, replication and connection to a plan, in which every name is resolved.
//!
//! Planning does no IO. Loading a file finds the errors within it; planning finds the contradictions between the
//! files.

mod check;
mod documents;
mod draft;
mod origins;
mod requests;
mod resolve;
mod select;
mod steps;
mod streams;
#[cfg(test)]
pub(crate) mod testing;
mod variables;

pub use crate::http::access::{Access, AccessHooks, TestPlan};
pub use crate::spec::DEFAULT as OWN;
pub use check::{check, check_inputs};
pub use documents::{Documents, PlanOptions, Run};
pub use origins::{is_loopback, origins};
pub use requests::iterate::{ChunkSize, Iterate, encoded};
pub use requests::merged::requests_of;
pub use requests::queue::{FeedPlan, QueuePlan};
pub use requests::request::{AskedPlan, ChildrenPlan, RequestPlan};
pub use requests::route_kind::{
    CoversPlan, DerivePlan, EmbeddedPlan, FetchPlan, FingerprintPlan, RouteKind,
};
pub use requests::routes::RoutePlan;
pub use resolve::Plan;
pub use select::{Selection, matches_pattern};
pub use steps::{SessionSteps, session_steps};
pub use streams::columns::{ColumnPlan, ColumnValue, Output};
pub use streams::confirm::ConfirmPlan;
pub use streams::cost::quota_of;
pub use streams::count::CountPlan;
pub use streams::cursor::CursorPlan;
pub use streams::stream::StreamPlan;
pub use variables::input_type;
