//! One stream of a run, with all its settings resolved.

use std::{collections::BTreeMap, time::Duration};

use crate::error::{Error, Kind};
use crate::http::response_rules::Rules;
use crate::plan::requests::iterate::Iterate;
use crate::plan::requests::request::RequestPlan;
use crate::plan::requests::routes::RoutePlan;
use crate::plan::streams::columns::Output;
use crate::plan::streams::confirm::ConfirmPlan;
use crate::plan::streams::count::CountPlan;
use crate::plan::streams::cursor::CursorPlan;
use crate::quota::cost::PointRates;
use crate::replication::Mode;
use crate::spec::Refresh;
use crate::template::Value;

/// One stream of a run.
#[derive(Debug)]
pub struct StreamPlan {
    /// Name.
    pub name: String,
    /// Whether the stream only feeds others and cannot be selected.
    pub internal: bool,
    /// How its rows are written; `None` if it only feeds its children.
    pub output: Option<Output>,
    /// The requests of all its routes, grouped by route.
    pub requests: Vec<RequestPlan>,
    /// The available routes; the default route comes first.
    pub routes: Vec<RoutePlan>,
    /// Index of the route that the user chose.
    pub wanted: Option<usize>,
    /// Rules for responses.
    pub rules: Rules,
    /// Cost of its requests.
    pub cost: PointRates,
    /// The request for the number of its records.
    pub count: Option<CountPlan>,
    /// The request that checks whether a record still exists.
    pub confirm: Option<ConfirmPlan>,
    /// Maximum number of slices in flight.
    pub concurrency: u32,
    /// Number of rows after which it ends.
    pub limit: Option<u64>,
    /// Minimum number of rows; with fewer it fails. Default: 0.
    pub min_rows: u64,
    /// Variables of its templates, in addition to those of all templates.
    pub variables: BTreeMap<String, Value>,
    /// Notices for the user, shown before the run.
    pub notes: Vec<String>,
    /// The cursor of incremental runs.
    pub cursor: Option<CursorPlan>,
    /// Its requests in incremental runs; empty if it has none.
    pub changes: Vec<RequestPlan>,
    /// Whether the spec declares separate requests for incremental runs.
    pub changes_apart: bool,
    /// Maximum age of the last full read.
    pub refresh: Refresh,
    /// Maximum number of refused slices; with more it fails.
    pub max_errors: u32,
    /// Digest of what determines which rows it has. It changes with the spec's requests, the
    /// inputs, and the connection's non-secret fields.
    pub reads: String,
    /// Digest of what the indexes of its requests refer to. The saved progress of an unfinished run
    /// uses these indexes.
    pub shape: String,
    /// Digest of what determines how its rows are written: its columns and their sources, its key,
    /// its object.
    pub writes: String,
}

impl StreamPlan {
    /// Whether a failed request may succeed in the next run, so that the progress is worth saving.
    /// A stream can do without an internal parent, so a refusal of an internal stream is final.
    pub fn may_pass(&self, error: &Error) -> bool {
        error.kind().passes() && !(self.internal && error.kind() == Kind::Credentials)
    }

    /// The requests of the default route.
    pub fn own_requests(&self) -> &[RequestPlan] {
        let own = self.routes.first().map(|route| route.requests.clone());
        own.and_then(|own| self.requests.get(own)).unwrap_or_default()
    }

    /// Index of the default request that a request replaces; its own index if it replaces none.
    pub fn own_number(&self, request: usize) -> usize {
        self.requests.get(request).and_then(|one| one.own).unwrap_or(request)
    }

    /// Whether each of its slices replaces all rows of a parent.
    pub fn has_parents(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.table.replaces.is_some())
    }

    /// Whether a row always belongs to the same parent, because the key contains the parent's id.
    /// Other rows may move to another parent.
    pub fn is_bound_to_parent(&self) -> bool {
        let table = self.output.as_ref().map(|output| &output.table);
        table.is_some_and(|table| {
            table.replaces.as_ref().is_some_and(|parent| table.schema.key.contains(parent))
        })
    }

    /// Whether incremental runs request each parent's changes since a bound. For a parent that is
    /// new since then, the bound does not apply.
    pub fn bounds_children(&self) -> bool {
        let output = self.output.as_ref();
        output.is_some_and(|output| output.mode == Mode::Incremental)
            && self.cursor.is_some()
            && self.changes.iter().any(|one| matches!(one.iterate, Iterate::Queue { .. }))
            && self.requests.iter().all(|one| one.fingerprint.is_none())
    }

    /// Whether runs may skip the children of unchanged parents.
    pub fn follows_parents(&self) -> bool {
        let output = self.output.as_ref();
        let always = self.refresh == Refresh::Every(Duration::ZERO);
        output.is_some_and(|output| output.mode == Mode::Incremental)
            && self.cursor.is_none()
            && !always
            && self.own_requests().iter().all(|one| matches!(one.iterate, Iterate::Queue { .. }))
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::documents::PlanOptions;
    use crate::plan::testing::{plan, spec, stream};

    const PARENT: &str = "  p: { get: /p, key: [id], feeds: { ids: id }, \
                          columns: { id: text, at: timestamp }, \
                          cursor: { field: at, newest_first: true } }\n";

    /// Whether a child stream follows its parents, is bound to its parent, and bounds its children.
    #[track_caller]
    fn check(child: &str, defaults: &str, expected: [bool; 3]) {
        let child = format!(
            "  c: {{ for_each: ids, get: '/p/{{{{ id }}}}/c', \
             columns: {{ id: text, p: {{ text: '{{{{ id }}}}' }}, at: timestamp }}, {child} }}\n"
        );
        let plan =
            plan(&spec(&format!("{PARENT}{child}")), defaults, &PlanOptions::default()).unwrap();
        let child = stream(&plan, "c");
        let found = [child.follows_parents(), child.is_bound_to_parent(), child.bounds_children()];
        assert_eq!(found, expected, "{defaults}");
    }

    #[test]
    fn a_child_follows_its_parents_unless_it_is_due_or_has_a_cursor_of_its_own() {
        let bound = "key: [p, id], replaces: p, unique_ids: true";
        let free = "key: [id], replaces: p, unique_ids: true";
        check(&format!("{bound}, refresh: with_parent"), "mode: incremental", [true, true, false]);
        check(&format!("{free}, refresh: 20h"), "mode: incremental", [true, false, false]);
        // `0s`, the default, reads everything in each run.
        check(bound, "mode: incremental", [false, true, false]);
        check(bound, "mode: incremental, refresh: 1d", [true, true, false]);
        check(&format!("{bound}, refresh: 1d"), "mode: full-refresh", [false, true, false]);
        let cursor = "cursor: { field: at, query: { since: '{{ cursor }}' } }";
        check(&format!("{bound}, {cursor}"), "mode: incremental, refresh: 1d", [false, true, true]);
    }
}
