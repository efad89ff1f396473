//! Spec, replication and connection to a plan: everything resolved, nothing optional.
//!
//! Planning does no IO. Errors within one file were found when it was loaded; planning finds those that
//! only show when the files come together.

mod check;
mod columns;
mod compiler;
mod confirm;
mod cost;
mod count;
mod cursor;
mod documents;
mod draft;
mod fingerprint;
mod iterate;
mod merged;
mod origins;
mod queue;
mod request;
mod resolve;
mod routed;
mod routes;
mod select;
mod stage;
mod steps;
mod stream;
mod templates;
#[cfg(test)]
mod testing;
mod variables;

pub use crate::http::access::{Access, AccessHooks, TestPlan};
pub use crate::spec::DEFAULT as OWN;
pub use check::{check, check_inputs};
pub use columns::{ColumnPlan, ColumnValue, Output};
pub use confirm::ConfirmPlan;
pub use cost::quota_of;
pub use count::CountPlan;
pub use cursor::CursorPlan;
pub use documents::{Documents, Options, Run};
pub use iterate::{ChunkSize, Iterate, encoded};
pub use merged::requests_of;
pub use origins::{is_loopback, origins};
pub use queue::{FeedPlan, QueuePlan};
pub use request::{AskedPlan, ChildrenPlan, RequestPlan};
pub use resolve::Plan;
pub use routed::{CoversPlan, DerivePlan, EmbeddedPlan, FetchPlan, LookPlan, Routed};
pub use routes::RoutePlan;
pub use select::{Selection, matches_pattern};
pub use steps::{SessionSteps, session_steps};
pub use stream::StreamPlan;
pub use variables::input_type;
