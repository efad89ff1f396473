//! The context in which a stream's requests are compiled.

use std::sync::Arc;

use super::columns::ColumnPlan;
use super::queue::QueuePlan;
use crate::decode::Others;
use crate::error::Error;
use crate::spec::{Fetch, Stream};
use crate::template::Scope;

/// The context in which a stream's requests are compiled.
pub(super) struct Compiler<'plan> {
    pub(super) stream: &'plan Stream,
    /// Columns of the stream's table; `None` if the stream only feeds queues.
    pub(super) columns: Option<&'plan [ColumnPlan]>,
    pub(super) others: Others,
    pub(super) ignore: Vec<String>,
    pub(super) queues: &'plan [QueuePlan],
    pub(super) scope: &'plan Arc<Scope>,
    /// How one of its open routes has its rows by ids.
    pub(super) fetch: Option<&'plan Fetch>,
}

pub(super) fn unfed(queue: &str) -> Error {
    Error::input(format!("no stream feeds the queue `{queue}`"))
}
