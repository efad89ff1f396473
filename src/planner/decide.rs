//! Decides what a run reads of each stream, from its saved state and the needs of its children.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::planner::estimate;
use crate::planner::read_plan::{CHANGES, ReadPlan, fed, queues};
use crate::progress::saved::{SavedState, StreamState};
use crate::replication::Mode;
use crate::spec::Refresh;

/// Decides the read plan of every stream. Children are first, because a parent must feed what they need.
pub(crate) fn decide(
    plan: &Plan,
    saved: &SavedState,
    now: DateTime<Utc>,
) -> BTreeMap<String, ReadPlan> {
    let needs = plan.streams.iter().map(|stream| {
        let need = own_need(plan, stream, &saved.stream(&stream.name), now);
        (stream.name.clone(), need)
    });
    let needs: BTreeMap<String, ReadPlan> = needs.collect();
    let routes = estimate::routes(plan, saved, &needs, now);
    let mut read_plans: BTreeMap<String, ReadPlan> = BTreeMap::new();
    for stream in plan.streams.iter().rev() {
        let mut need = needs.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        for child in plan.streams.iter().filter(|child| child.name != stream.name) {
            let theirs = read_plans.get(&child.name).copied().unwrap_or(ReadPlan::Skip);
            let asks = theirs.active(child).any(|(_, request)| waits_for(request, stream));
            if asks && !theirs.is_skip() {
                let state = saved.stream(&child.name);
                need = wider(stream, need, need_of(stream, theirs, &state, now));
            }
        }
        let route = routes.get(&stream.name).copied().unwrap_or_default();
        read_plans.insert(stream.name.clone(), need.by_route(route));
    }
    read_plans
}

/// Whether a request consumes a queue that a stream feeds.
fn waits_for(request: &RequestPlan, stream: &StreamPlan) -> bool {
    fed(stream).any(|queue| queues(request).any(|other| other == queue))
}

/// The read plan of a stream, regardless of its children.
fn own_need(plan: &Plan, stream: &StreamPlan, state: &StreamState, now: DateTime<Utc>) -> ReadPlan {
    let Some(output) = &stream.output else { return ReadPlan::Skip };
    match output.mode {
        Mode::Incremental => {}
        Mode::Backfill => return ReadPlan::backfill(stream).unwrap_or(ReadPlan::Skip),
        Mode::DefinitionOnly => return ReadPlan::Skip,
        Mode::FullRefresh | Mode::Truncate | Mode::Snapshot => return ReadPlan::full(stream),
    }
    // Refused slices are retried by the numbers of their requests, which must still be the same.
    let other = state.shape != stream.shape && !state.refused_slices.is_empty();
    let changed = state.reads != stream.reads || state.writes != stream.writes || other;
    let refused = state.refused_routes.get(CHANGES).is_some_and(|at| now - *at < estimate::REFUSED);
    let whole = changed || refused && stream.changes_apart;
    let Some(complete_at) = state.complete_at.filter(|_| !whole) else {
        return ReadPlan::full(stream);
    };
    let due = match stream.refresh {
        Refresh::WithParent => parent_cursor(&plan.streams, stream).is_none(),
        every @ Refresh::Every(_) => is_due(every, complete_at, now),
    };
    if due {
        return ReadPlan::full(stream);
    }
    match (&stream.cursor, state.cursor) {
        (Some(cursor), Some(last)) if !stream.changes.is_empty() => {
            return ReadPlan::Changes { since: last.saturating_sub(cursor.lookback) };
        }
        (Some(_), _) => return ReadPlan::full(stream),
        (None, _) => {}
    }
    match (parent_cursor(&plan.streams, stream), state.gate) {
        (Some(lookback), Some(gate)) => {
            ReadPlan::ChangedParents { since: gate.saturating_sub(lookback), route: 0 }
        }
        (Some(_), None) => ReadPlan::full(stream),
        (None, _) => ReadPlan::Skip,
    }
}

/// Whether a full read is due, given the time of the last one. A time in the future is from a wrong clock, so
/// the read is due.
fn is_due(refresh: Refresh, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let Refresh::Every(age) = refresh else { return false };
    at > now || now - at >= chrono::TimeDelta::from_std(age).unwrap_or(chrono::TimeDelta::MAX)
}

/// The largest lookback of the cursors of the parents; `None` if a parent has no cursor.
fn parent_cursor(streams: &[Arc<StreamPlan>], stream: &StreamPlan) -> Option<i64> {
    let mut lookback = None;
    for request in stream.own_requests() {
        let Iterate::Queue { queue, .. } = request.iterate else { return None };
        for parent in streams.iter().filter(|parent| fed(parent).any(|one| one == queue)) {
            let cursor = parent.cursor.as_ref().filter(|_| !parent.changes.is_empty())?;
            lookback = lookback.max(Some(cursor.lookback));
        }
    }
    lookback
}

/// What a child needs of its parent.
pub(crate) fn need_of(
    parent: &StreamPlan,
    child_reads: ReadPlan,
    state: &StreamState,
    now: DateTime<Utc>,
) -> ReadPlan {
    let can_bound = parent.cursor.is_some() && !parent.changes.is_empty();
    // If the parent is not written itself, only this check makes weir list all parents regularly.
    let anchored = parent.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some());
    let due = !anchored && state.parents_at.is_none_or(|at| is_due(parent.refresh, at, now));
    match child_reads {
        ReadPlan::Skip | ReadPlan::Retry => ReadPlan::Skip,
        // Only a child without a cursor of its own follows its parents' changes.
        ReadPlan::ChangedParents { since, .. } if can_bound && !due => ReadPlan::Changes { since },
        _ => ReadPlan::full(parent),
    }
}

/// The smallest read plan that covers both, with the route of `one`.
pub(crate) fn wider(stream: &StreamPlan, one: ReadPlan, other: ReadPlan) -> ReadPlan {
    use ReadPlan::{Backfill, ChangedParents, Changes, Skip};
    match (one, other) {
        (Skip, any) | (any, Skip) => any,
        (Changes { since: one }, Changes { since: other }) => Changes { since: one.min(other) },
        (ChangedParents { since: one, route }, ChangedParents { since: other, .. }) => {
            ChangedParents { since: one.min(other), route }
        }
        (Backfill { .. }, Changes { .. } | ChangedParents { .. }) => one,
        _ => ReadPlan::full(stream).by_route(one.route()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{plan_under, planned, stream};
    use crate::plan::{PlanOptions, RoutePlan};
    use crate::progress::saved::{FullReadStats, RefusedSlice};
    use crate::report::SliceError;

    const HOUR: i64 = 3_600_000_000;
    const DAY: i64 = 24 * HOUR;
    const WEEK: i64 = 7 * DAY;
    const MINUTE: i64 = HOUR / 60;
    /// 2026-03-02T00:00:00Z.
    const NOW: i64 = 1_772_409_600_000_000;
    const ANCHOR: i64 = 1_767_225_600_000_000;

    /// Streams without a cursor, with a cursor, with separate requests for changes, with an anchor, and children.
    const STREAMS: &str = "
  plain: { get: /plain, key: [id], refresh: 1d, feeds: { plain_ids: id }, columns: { id: text } }
  always: { get: /always, key: [id], columns: { id: text } }
  cursor: { get: /cursor, key: [id], refresh: 1d, feeds: { ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true, lookback: 10m } }
  apart: { get: /apart, key: [id], refresh: 1d, feeds: { apart_ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, lookback: 5m, requests: [{ get: /changes, query: { since: '{{ cursor }}' } }] } }
  anchored: { get: /anchored, key: [id], refresh: 1d, feeds: { anchored_ids: id },
    columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true, anchor: '2026-01-01' } }
  child: { for_each: ids, get: '/cursor/{{ id }}/child', key: [id], refresh: with_parent, columns: { id: text } }
  daily: { for_each: ids, get: '/cursor/{{ id }}/daily', key: [id], refresh: 1d, columns: { id: text } }
  calm: { for_each: plain_ids, get: '/plain/{{ plain_id }}/c', key: [id], refresh: 1d, columns: { id: text } }
  both: { key: [id], refresh: with_parent, columns: { id: text },
    requests: [{ for_each: ids, get: '/cursor/{{ id }}/b' }, { for_each: apart_ids, get: '/apart/{{ apart_id }}/b' }] }
  bounded: { for_each: ids, get: '/cursor/{{ id }}/bounded', key: [id], refresh: 1d,
    columns: { id: text, at: timestamp }, cursor: { field: at, query: { since: '{{ cursor }}' } } }
";

    /// Streams of a backfill, which needs a cursor.
    const APART: &str = "
  apart: { get: /apart, key: [id], columns: { id: text, at: timestamp },
    cursor: { field: at, requests: [{ get: /changes, query: { since: '{{ cursor }}' } }] } }
";

    fn time(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    fn full(route: usize) -> ReadPlan {
        ReadPlan::Full { route }
    }

    fn parents(since: i64) -> ReadPlan {
        ReadPlan::ChangedParents { since, route: 0 }
    }

    fn changes(since: i64) -> ReadPlan {
        ReadPlan::Changes { since }
    }

    fn refused_slice() -> RefusedSlice {
        let error = SliceError {
            stream: String::new(),
            slice: String::new(),
            url: String::new(),
            status: Some(403),
            message: String::new(),
        };
        let (values, carried) = (Vec::new(), Vec::new());
        RefusedSlice { request: 0, number: 0, values, carried, error, recurs: false }
    }

    /// The saved state of a stream that was read in full an hour ago.
    fn fresh(stream: &StreamPlan) -> StreamState {
        StreamState {
            reads: stream.reads.clone(),
            writes: stream.writes.clone(),
            shape: stream.shape.clone(),
            complete_at: Some(time(NOW - HOUR)),
            parents_at: Some(time(NOW - HOUR)),
            cursor: Some(NOW - 2 * HOUR),
            gate: Some(NOW - 3 * HOUR),
            ..StreamState::default()
        }
    }

    /// Checks the read plan of a stream, regardless of its children. The saved state is that of a full read
    /// an hour ago, after `change`.
    #[track_caller]
    fn check_own(name: &str, change: impl FnOnce(&mut StreamState), expected: ReadPlan) {
        check_mode(name, "mode: incremental", change, expected);
    }

    #[track_caller]
    fn check_mode(
        name: &str,
        mode: &str,
        change: impl FnOnce(&mut StreamState),
        expected: ReadPlan,
    ) {
        let range = Some(("2026-01-01".to_owned(), "2026-02-01".to_owned()));
        let options = PlanOptions { range, ..PlanOptions::default() };
        let plan = match mode {
            "mode: backfill" => plan_under(APART, mode, &options),
            _ => planned(STREAMS, mode),
        };
        let stream = stream(&plan, name);
        let mut state = fresh(stream);
        change(&mut state);
        assert_eq!(own_need(&plan, stream, &state, time(NOW)), expected, "{name}, {mode}");
    }

    #[test]
    fn a_stream_without_a_cursor_is_read_in_full_or_not_at_all() {
        check_own("plain", |state| *state = StreamState::default(), full(0));
        check_own("plain", |_| (), ReadPlan::Skip);
        check_own("plain", |state| state.complete_at = None, full(0));
        check_own("plain", |state| state.complete_at = Some(time(NOW - DAY)), full(0));
        check_own("plain", |state| state.complete_at = Some(time(NOW - DAY + 1)), ReadPlan::Skip);
        check_own("plain", |state| state.complete_at = Some(time(NOW)), ReadPlan::Skip);
        // A time in the future: the clock was wrong, or is wrong now.
        check_own("plain", |state| state.complete_at = Some(time(NOW + 1)), full(0));
        // `refresh: 0s`, the default.
        check_own("always", |state| state.complete_at = Some(time(NOW)), full(0));
    }

    #[test]
    fn changed_inputs_columns_or_requests_need_a_full_read() {
        check_own("plain", |state| state.reads.push('x'), full(0));
        check_own("plain", |state| state.writes.push('x'), full(0));
        check_own("cursor", |state| state.reads.push('x'), full(0));
        check_own("child", |state| state.writes.push('x'), full(0));
        check_own("anchored", |state| state.reads.push('x'), ReadPlan::FromAnchor);
        // The numbers of requests matter only for refused slices.
        check_own("plain", |state| state.shape.push('x'), ReadPlan::Skip);
        check_own("plain", |state| state.refused_slices.push(refused_slice()), ReadPlan::Skip);
        let both = |state: &mut StreamState| {
            state.shape.push('x');
            state.refused_slices.push(refused_slice());
        };
        check_own("plain", both, full(0));
        check_own("cursor", both, full(0));
    }

    #[test]
    fn a_stream_with_a_cursor_reads_changes_until_it_is_due() {
        let since = NOW - 2 * HOUR;
        check_own("cursor", |_| (), changes(since - 10 * MINUTE));
        check_own("apart", |_| (), changes(since - 5 * MINUTE));
        check_own("anchored", |_| (), changes(since));
        check_own("bounded", |_| (), changes(since));
        check_own("cursor", |state| state.complete_at = Some(time(NOW - DAY)), full(0));
        check_own("cursor", |state| state.complete_at = None, full(0));
        check_own("cursor", |state| state.cursor = None, full(0));
        check_own("cursor", |state| *state = StreamState::default(), full(0));
        check_own("anchored", |state| state.cursor = None, ReadPlan::FromAnchor);
        check_own(
            "anchored",
            |state| state.complete_at = Some(time(NOW - DAY)),
            ReadPlan::FromAnchor,
        );
        check_own("cursor", |state| state.cursor = Some(i64::MIN), changes(i64::MIN));
        // The gate is that of streams without a cursor.
        check_own("cursor", |state| state.gate = None, changes(since - 10 * MINUTE));
    }

    #[test]
    fn refused_requests_for_changes_are_retried_after_a_week() {
        let since = NOW - 2 * HOUR - 5 * MINUTE;
        let refused = |at: i64| {
            move |state: &mut StreamState| {
                state.refused_routes.insert(CHANGES.to_owned(), time(at));
            }
        };
        check_own("apart", refused(NOW), full(0));
        check_own("apart", refused(NOW - WEEK + 1), full(0));
        check_own("apart", refused(NOW - WEEK), changes(since));
        let route = |state: &mut StreamState| {
            state.refused_routes.insert("fused".to_owned(), time(NOW));
        };
        check_own("apart", route, changes(since));
        // A full read needs its requests for changes, too.
        check_own("cursor", refused(NOW), changes(NOW - 2 * HOUR - 10 * MINUTE));
    }

    #[test]
    fn a_child_without_a_cursor_follows_its_parents() {
        let gate = NOW - 3 * HOUR;
        check_own("child", |_| (), parents(gate - 10 * MINUTE));
        check_own("daily", |_| (), parents(gate - 10 * MINUTE));
        // The largest lookback of all parents.
        check_own("both", |_| (), parents(gate - 10 * MINUTE));
        let old = |state: &mut StreamState| state.complete_at = Some(time(NOW - 100 * DAY));
        check_own("child", old, parents(gate - 10 * MINUTE));
        check_own("daily", old, full(0));
        check_own("child", |state| state.gate = None, full(0));
        check_own("child", |state| state.complete_at = None, full(0));
        check_own("child", |state| state.gate = Some(i64::MIN), parents(i64::MIN));
        // The cursor is that of streams that have one.
        check_own("child", |state| state.cursor = None, parents(gate - 10 * MINUTE));
        // Without a cursor of the parents, weir cannot find the changed ones.
        check_own("calm", |_| (), ReadPlan::Skip);
        check_own("calm", old, full(0));
    }

    #[test]
    fn other_modes_read_the_same_whatever_is_saved() {
        for mode in ["full-refresh", "truncate", "snapshot"] {
            let mode = format!("mode: {mode}");
            check_mode("plain", &mode, |_| (), full(0));
            check_mode("cursor", &mode, |_| (), full(0));
            check_mode("child", &mode, |_| (), full(0));
            check_mode("anchored", &mode, |_| (), ReadPlan::FromAnchor);
        }
        let range = ReadPlan::Backfill { from: ANCHOR, to: ANCHOR + 31 * DAY };
        check_mode("apart", "mode: backfill", |_| (), range);
        check_mode("apart", "mode: backfill", |state| *state = StreamState::default(), range);
    }

    /// Checks what a child needs of its parent. `age` is the time since all parents were listed.
    #[track_caller]
    fn check_need(parent: &str, child: ReadPlan, age: Option<i64>, expected: ReadPlan) {
        let plan = planned(STREAMS, "mode: incremental");
        let stream = stream(&plan, parent);
        let parents_at = age.map(|age| time(NOW - age));
        let state = StreamState { parents_at, ..StreamState::default() };
        assert_eq!(
            need_of(stream, child, &state, time(NOW)),
            expected,
            "{parent} {child:?} {age:?}"
        );
    }

    #[test]
    fn a_child_needs_all_parents_unless_it_follows_those_that_change() {
        check_need("cursor", ReadPlan::Skip, Some(0), ReadPlan::Skip);
        check_need("cursor", ReadPlan::Retry, Some(0), ReadPlan::Skip);
        check_need("cursor", parents(7), Some(HOUR), changes(7));
        check_need("cursor", parents(7), Some(DAY - 1), changes(7));
        check_need("cursor", parents(7), Some(DAY), full(0));
        check_need("cursor", parents(7), Some(-1), full(0));
        check_need("cursor", parents(7), None, full(0));
        check_need("plain", parents(7), Some(HOUR), full(0));
        // A full read from an anchor never finds deleted parents, so it is not repeated.
        check_need("anchored", parents(7), None, changes(7));
        check_need("anchored", full(0), Some(HOUR), ReadPlan::FromAnchor);
        check_need("cursor", full(0), Some(HOUR), full(0));
        check_need("cursor", full(2), Some(HOUR), full(0));
        check_need("cursor", changes(7), Some(HOUR), full(0));
        check_need("cursor", ReadPlan::Backfill { from: 1, to: 2 }, Some(HOUR), full(0));
        check_need("cursor", ReadPlan::FromAnchor, Some(HOUR), full(0));
    }

    #[track_caller]
    fn check_wider(name: &str, one: ReadPlan, other: ReadPlan, expected: ReadPlan) {
        let plan = planned(STREAMS, "mode: incremental");
        assert_eq!(wider(stream(&plan, name), one, other), expected, "{one:?}, {other:?}");
    }

    #[test]
    fn the_wider_of_two_plans_covers_both() {
        let routed = |since, route| ReadPlan::ChangedParents { since, route };
        let range = ReadPlan::Backfill { from: 1, to: 9 };
        check_wider("cursor", ReadPlan::Skip, ReadPlan::Skip, ReadPlan::Skip);
        check_wider("cursor", ReadPlan::Skip, changes(5), changes(5));
        check_wider("cursor", changes(5), ReadPlan::Skip, changes(5));
        check_wider("cursor", changes(5), changes(3), changes(3));
        check_wider("cursor", changes(3), changes(5), changes(3));
        check_wider("cursor", routed(5, 1), routed(3, 2), routed(3, 1));
        check_wider("cursor", range, changes(3), range);
        check_wider("cursor", range, routed(3, 1), range);
        check_wider("cursor", range, full(0), full(0));
        check_wider("cursor", full(2), changes(3), full(2));
        check_wider("cursor", changes(3), full(2), full(0));
        check_wider("cursor", routed(3, 2), changes(3), full(2));
        check_wider("cursor", ReadPlan::Retry, changes(3), full(0));
        check_wider("anchored", changes(3), ReadPlan::FromAnchor, ReadPlan::FromAnchor);
        check_wider("anchored", full(0), changes(3), ReadPlan::FromAnchor);
    }

    /// Checks the read plans of `cursor` and its children. The streams in `unread` have no saved state.
    #[track_caller]
    fn check_all(unread: &[&str], expected: [(&str, ReadPlan); 4]) {
        let plan = planned(STREAMS, "mode: incremental");
        let mut saved = SavedState::default();
        for stream in plan.streams.iter().filter(|stream| !unread.contains(&&*stream.name)) {
            saved.streams.insert(stream.name.clone(), fresh(stream));
        }
        let decided = decide(&plan, &saved, time(NOW));
        for (name, expected) in expected {
            assert_eq!(decided.get(name), Some(&expected), "{name}, unread: {unread:?}");
        }
    }

    #[test]
    fn a_parent_is_read_as_its_children_need() {
        let gate = NOW - 3 * HOUR - 10 * MINUTE;
        // `bounded` requests the changes of all parents.
        let (child, bounded) = (("child", parents(gate)), ("bounded", changes(NOW - 2 * HOUR)));
        check_all(&[], [("cursor", full(0)), child, bounded, ("plain", ReadPlan::Skip)]);
        check_all(
            &["child"],
            [("cursor", full(0)), ("child", full(0)), bounded, ("calm", ReadPlan::Skip)],
        );
        check_all(
            &["calm"],
            [
                ("calm", full(0)),
                ("plain", full(0)),
                child,
                ("apart", changes(gate.min(NOW - 2 * HOUR - 5 * MINUTE))),
            ],
        );
    }

    #[test]
    fn the_route_of_a_plan_is_the_cheapest_one() {
        let plan = planned(
            "  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text } }
  c: { for_each: ids, get: '/p/{{ id }}/c', key: [id], columns: { id: text }, routes: { list: { get: /c } } }
",
            "mode: incremental",
        );
        let names: Vec<&str> =
            stream(&plan, "c").routes.iter().map(|route: &RoutePlan| &*route.name).collect();
        assert_eq!(names, ["default", "list"]);
        let mut saved = SavedState::default();
        let full_read = FullReadStats {
            route: "default".to_owned(),
            rows: 100,
            requests: 2,
            ..FullReadStats::default()
        };
        saved.streams.insert("p".to_owned(), StreamState { full_read, ..StreamState::default() });
        let decided = decide(&plan, &saved, time(NOW));
        assert_eq!(decided.get("c"), Some(&full(1)));
        assert_eq!(decided.get("p"), Some(&full(0)));
    }
}
