//! One stream of a run, fully resolved.

use std::{collections::BTreeMap, time::Duration};

use super::columns::Output;
use super::confirm::ConfirmPlan;
use super::cost::Cost;
use super::count::CountPlan;
use super::cursor::CursorPlan;
use super::iterate::Iterate;
use super::request::RequestPlan;
use super::routes::RoutePlan;
use crate::error::{Error, Kind};
use crate::replication::Mode;
use crate::respond::Rules;
use crate::spec::Refresh;
use crate::template::Value;

/// One stream of a run.
#[derive(Debug)]
pub struct StreamPlan {
    /// Name.
    pub name: String,
    /// Whether it cannot be selected.
    pub internal: bool,
    /// What a run does with its rows; `None` when it only feeds its children.
    pub output: Option<Output>,
    /// The requests of all its routes, one route after the other.
    pub requests: Vec<RequestPlan>,
    /// The ways to its rows that are open, its own requests first.
    pub routes: Vec<RoutePlan>,
    /// The way that the user wants, as its number.
    pub wanted: Option<usize>,
    /// Rules for answers.
    pub rules: Rules,
    /// What its requests cost.
    pub cost: Cost,
    /// How it is asked for the number of its records.
    pub count: Option<CountPlan>,
    /// How it asks whether a record is still there.
    pub confirm: Option<ConfirmPlan>,
    /// Slices under way at once.
    pub concurrency: u32,
    /// Rows after which it ends.
    pub limit: Option<u64>,
    /// Rows with fewer of which it fails; 0 unless the spec says otherwise.
    pub min_rows: u64,
    /// Values that its templates see, over those that all templates see.
    pub variables: BTreeMap<String, Value>,
    /// What the user should know before the run.
    pub notes: Vec<String>,
    /// What changed since the last run.
    pub cursor: Option<CursorPlan>,
    /// Its requests in a run that reads what changed; nothing when there are no such.
    pub changes: Vec<RequestPlan>,
    /// Whether these are others than its own.
    pub changes_apart: bool,
    /// How old a complete reading may be.
    pub refresh: Refresh,
    /// Refused slices above which it fails.
    pub max_errors: u32,
    /// What decides which rows it has, as a short text: another one after a change of the spec's
    /// requests, of the inputs, or of the connection's open fields.
    pub reads: String,
    /// What the numbers of its requests stand for, likewise: what a run that has not ended has done is told
    /// by them.
    pub shape: String,
    /// What decides how its rows are written, likewise: its columns and where they come from, its key,
    /// its object.
    pub writes: String,
}

impl StreamPlan {
    /// Whether what failed may do the next time, so that what was done is worth keeping. Whoever needs
    /// an internal stream can do without it: its refusal is final.
    pub fn may_pass(&self, error: &Error) -> bool {
        error.kind().passes() && !(self.internal && error.kind() == Kind::Credentials)
    }

    /// The stream's own requests.
    pub fn own_requests(&self) -> &[RequestPlan] {
        let own = self.routes.first().map(|route| route.requests.clone());
        own.and_then(|own| self.requests.get(own)).unwrap_or_default()
    }

    /// Number of the own request whose place another one takes; its own number where it takes none.
    pub fn own_number(&self, request: usize) -> usize {
        self.requests.get(request).and_then(|one| one.routed.own).unwrap_or(request)
    }

    /// Whether each of its slices replaces the rows of a parent.
    pub fn has_parents(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.table.replaces.is_some())
    }

    /// Whether a row belongs to its parent for ever, since its key names it. Other rows may be with
    /// another parent when theirs no longer has them.
    pub fn is_bound_to_parent(&self) -> bool {
        let table = self.output.as_ref().map(|output| &output.table);
        table.is_some_and(|table| {
            table.replaces.as_ref().is_some_and(|parent| table.schema.key.contains(parent))
        })
    }

    /// Whether runs ask each parent for what has changed since a bound, which does not hold for a parent that
    /// has appeared since.
    pub fn bounds_children(&self) -> bool {
        let output = self.output.as_ref();
        output.is_some_and(|output| output.mode == Mode::Incremental)
            && self.cursor.is_some()
            && self.changes.iter().any(|one| matches!(one.iterate, Iterate::Queue { .. }))
            && self.requests.iter().all(|one| one.routed.look.is_none())
    }

    /// Whether runs may pass over the children of parents that have not changed.
    pub fn follows_parents(&self) -> bool {
        let output = self.output.as_ref();
        let always = self.refresh == Refresh::Every(Duration::ZERO);
        output.is_some_and(|output| output.mode == Mode::Incremental)
            && self.cursor.is_none()
            && !always
            && self.own_requests().iter().all(|one| matches!(one.iterate, Iterate::Queue { .. }))
    }
}
