//! The context in which a stream's requests are compiled.

use std::sync::Arc;

use crate::decode::Others;
use crate::error::Error;
use crate::plan::requests::queue::QueuePlan;
use crate::plan::streams::columns::ColumnPlan;
use crate::spec::{Fetch, Stream};
use crate::template::Scope;

/// The context in which a stream's requests are compiled.
pub(crate) struct Compiler<'plan> {
    pub(crate) stream: &'plan Stream,
    /// Columns of the stream's table; `None` if the stream only feeds queues.
    pub(crate) columns: Option<&'plan [ColumnPlan]>,
    pub(crate) others: Others,
    pub(crate) ignore: Vec<String>,
    pub(crate) queues: &'plan [QueuePlan],
    pub(crate) scope: &'plan Arc<Scope>,
    /// How one of its open routes has its rows by ids.
    pub(crate) fetch: Option<&'plan Fetch>,
}

pub(crate) fn unfed(queue: &str) -> Error {
    Error::input(format!("no stream feeds the queue `{queue}`"))
}
