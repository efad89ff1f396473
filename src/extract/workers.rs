//! Assigns slices to the workers of a request: first unfinished ones, then refused ones, then new ones.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::links::{AssignedRequest, RequestLinks};
use crate::extract::messages::{Slice, SliceEvent};
use crate::extract::slice;
use crate::extract::slice::SliceStart;
use crate::http::client::interrupted;
use crate::http::exchange::Method;
use crate::http::request::unfilled;
use crate::plan::{ChunkSize, ColumnValue, Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::progress::item::QueueItem;
use crate::progress::ranges::RangeSet;
use crate::progress::saved::{Completeness, OpenItem, OpenSlice, RefusedSlice};
use crate::progress::versions::KnownVersions;
use crate::queue::Consumer;
use crate::template::{Expression, Scope, Value};

/// First position of slices that an earlier run was refused.
const RETRIED: u64 = 1 << 40;

/// The slices of one request.
pub(crate) struct SliceSource {
    pub(crate) links: RequestLinks,
    consumer: Option<Consumer>,
    /// Slices that an earlier process started.
    begun: Mutex<Vec<OpenSlice>>,
    /// Slices that an earlier run was refused, with their positions.
    failed: Mutex<Vec<(u64, RefusedSlice)>>,
    /// Positions of finished and started slices.
    taken: RangeSet,
    /// Parents whose children are in the target. Their children are not requested again, or with a cursor only changed
    /// ones. `None`: all children are requested.
    known: Option<KnownVersions>,
    marks: bool,
    /// Position of the next slice of a list or range.
    next: AsyncMutex<u64>,
}

/// The slices of a request that earlier runs and processes left.
pub(crate) struct SliceHistory {
    /// Started slices.
    pub(crate) begun: Vec<OpenSlice>,
    /// Positions of finished slices.
    pub(crate) finished: RangeSet,
    /// Refused slices.
    pub(crate) failed: Vec<RefusedSlice>,
    /// Parents whose children are in the target; `None`: all children are requested.
    pub(crate) known: Option<KnownVersions>,
}

/// A slice for a worker.
struct NextSlice {
    slice: Slice,
    scope: Arc<Scope>,
    start: SliceStart,
}

impl SliceSource {
    pub(crate) fn new(assigned: AssignedRequest, past: SliceHistory, marks: bool) -> Self {
        let SliceHistory { begun, finished: mut taken, failed, known } = past;
        let AssignedRequest { consumer, links } = assigned;
        for open in &begun {
            taken.insert(open.from, open.to);
        }
        let failed = (RETRIED..).zip(failed);
        let failed = failed.filter(|(at, _)| taken.free(*at) == *at).collect();
        Self {
            links,
            consumer,
            begun: Mutex::new(begun),
            failed: Mutex::new(failed),
            taken,
            known,
            marks,
            next: AsyncMutex::new(0),
        }
    }

    /// Whether the children of any of these parents have to be requested.
    fn has_changed(&self, plan: &StreamPlan, read_plan: ReadPlan, items: &[QueueItem]) -> bool {
        let (Some(known), ReadPlan::ChangedParents { since, .. }) = (&self.known, read_plan) else {
            return true;
        };
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = plan.own_number(self.links.number);
        let before = failed.len();
        failed.retain(|(_, slice)| {
            let carried = slice.carried.iter().map(String::as_str).chain(std::iter::repeat(""));
            let mut all = slice.values.iter().zip(carried);
            !all.any(|(value, carried)| {
                items.iter().any(|item| *item.value == **value && *item.carried == *carried)
            })
        });
        failed.len() < before
            || items.iter().any(|item| match known.contains(own, item) {
                Some(known) => !known,
                None => item.stamp.is_none_or(|stamp| stamp >= since),
            })
    }

    /// Whether the bound does not apply, because one of these parents is new.
    fn is_unbounded(&self, read_plan: ReadPlan, items: &[QueueItem]) -> bool {
        let (Some(known), ReadPlan::Changes { .. }) = (&self.known, read_plan) else {
            return false;
        };
        items.iter().any(|item| known.lacks(item))
    }

    /// The next slice; `None` after the last.
    async fn next(&self, shared: &StreamContext, base: &Scope) -> Result<Option<NextSlice>> {
        let request = shared.request(self.links.number);
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(OpenSlice { from, to, number, attempt, items, listings, .. }) = begun {
            let item = |OpenItem(value, stamp, carried)| QueueItem {
                value: value.into(),
                stamp,
                carried: carried.into(),
            };
            let items: Vec<_> = items.into_iter().map(item).collect();
            let unbounded = self.is_unbounded(shared.read_plan, &items);
            let slice = Slice { from, to, number, attempt, items, unbounded, ..Slice::default() };
            return self.ready(request, base, slice, SliceStart::Begun(listings)).map(Some);
        }
        if shared.read_plan == ReadPlan::Retry {
            return self.refused(request, base);
        }
        let mut next = self.next.lock().await;
        if let Iterate::Queue { chunk, only, .. } = &request.iterate {
            let Some(consumer) = &self.consumer else { return Ok(None) };
            loop {
                let count = chunk.unwrap_or(1).min(self.links.max_values());
                let bytes = ChunkSize::bytes(request.method == Method::GET);
                let Some((from, items)) = consumer.next(ChunkSize { count, bytes }).await else {
                    // All parents were read without these, so that their parents no longer exist.
                    let all = consumer.completeness() == Completeness::Complete;
                    return if all { Ok(None) } else { self.refused(request, base) };
                };
                let to = from + items.len() as u64;
                let changed = self.has_changed(&shared.plan, shared.read_plan, &items);
                let unbounded = self.is_unbounded(shared.read_plan, &items);
                let slice = Slice { from, to, items, unbounded, ..Slice::default() };
                let mut next = self.ready(request, base, slice, SliceStart::First)?;
                let wanted = changed && holds(only.as_ref(), &next.scope)?;
                let derive = request.derive.as_ref().map(|derive| &derive.when);
                let derived = derive.is_some() && holds(derive, &next.scope)?;
                if let Some(fused) = &self.links.fused {
                    fused.announce(from, wanted && !derived);
                }
                if wanted {
                    next.start = match (derived, &self.links.fused) {
                        (true, _) => SliceStart::Derived,
                        (false, Some(_)) => SliceStart::Together,
                        (false, None) => SliceStart::First,
                    };
                    return Ok(Some(next));
                }
                let sent = shared.notes.send(SliceEvent::Unchanged(next.slice)).await;
                sent.map_err(|_| Error::target("the writer has stopped"))?;
            }
        }
        let number = self.taken.free(*next);
        *next = number + 1;
        if value_at(request, number).is_none() {
            return Ok(None);
        }
        let slice = Slice { from: number, to: number + 1, number, ..Slice::default() };
        self.ready(request, base, slice, SliceStart::First).map(Some)
    }

    /// The next slice that an earlier run was refused.
    fn refused(&self, request: &RequestPlan, base: &Scope) -> Result<Option<NextSlice>> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).pop();
        failed.map(|(at, failed)| self.again(request, base, at, failed)).transpose()
    }

    fn again(
        &self,
        request: &RequestPlan,
        base: &Scope,
        from: u64,
        failed: RefusedSlice,
    ) -> Result<NextSlice> {
        let carried = failed.carried.into_iter().chain(std::iter::repeat(String::new()));
        let item = |(value, carried): (String, String)| QueueItem {
            value: value.into(),
            stamp: None,
            carried: carried.into(),
        };
        let items = failed.values.into_iter().zip(carried).map(item).collect();
        let number = failed.number;
        let slice = Slice { from, to: from + 1, number, items, ..Slice::default() };
        self.ready(request, base, slice, SliceStart::Again)
    }

    /// Adds the variables of the request, and the parents whose rows the slice replaces.
    fn ready(
        &self,
        request: &RequestPlan,
        base: &Scope,
        slice: Slice,
        start: SliceStart,
    ) -> Result<NextSlice> {
        let scope = match &request.iterate {
            Iterate::Once => base.clone(),
            Iterate::Queue { chunk, variable, carried, .. } => {
                let mut values = slice.items.iter().map(|item| Value::from(item.value.as_ref()));
                let value = match chunk {
                    Some(_) => values.collect(),
                    None => values.next().unwrap_or_default(),
                };
                let along =
                    if carried.is_empty() { Vec::new() } else { common_carried(&slice.items) };
                let along = carried.iter().map(|(name, at)| {
                    let value = along.get(*at).and_then(Option::as_deref);
                    (Arc::clone(name), value.map_or(Value::from(()), Value::from))
                });
                base.with(Arc::clone(variable), value).with_silent(along)
            }
            Iterate::Values { variable, .. } | Iterate::Range { variable, .. } => {
                let value = value_at(request, slice.number).unwrap_or_default();
                base.with(Arc::clone(variable), value)
            }
        };
        let scope = Arc::new(scope);
        let parents = if self.marks { parents(request, &slice.items, &scope)? } else { Vec::new() };
        Ok(NextSlice {
            slice: Slice { request: self.links.number, parents, ..slice },
            scope,
            start,
        })
    }

    /// The lowest completeness of the request's queues. A stream whose parent failed is not complete.
    async fn completeness(&self, shared: &StreamContext) -> Result<Completeness> {
        let completeness = self.consumer.as_ref().filter(|_| shared.read_plan != ReadPlan::Retry);
        let completeness = completeness.map_or(Completeness::Complete, Consumer::completeness);
        let queue = match &shared.request(self.links.number).iterate {
            Iterate::Queue { queue, .. } => *queue,
            _ => 0,
        };
        self.judge(shared, queue, completeness).await?;
        let mut all = completeness;
        for (queue, watch) in &self.links.watches {
            let completeness = watch.complete().await;
            self.judge(shared, *queue, completeness).await?;
            all = all.max(completeness);
        }
        Ok(all)
    }

    /// Waits until the queues are complete that the filter `parent_in` needs.
    async fn await_watched(&self, shared: &StreamContext) -> Result<()> {
        for (queue, watch) in &self.links.watches {
            let completeness = watch.complete().await;
            if completeness >= Completeness::Interrupted {
                self.judge(shared, *queue, completeness).await?;
            }
        }
        Ok(())
    }

    async fn judge(
        &self,
        shared: &StreamContext,
        number: usize,
        completeness: Completeness,
    ) -> Result<()> {
        let source = || match shared.env.queue_sources.get(number) {
            Some(source) => source.to_string(),
            None => unreachable!("the plan has queue {number}"),
        };
        match completeness {
            Completeness::Complete | Completeness::ChangesOnly => {}
            Completeness::Incomplete => {
                shared.gap(format!("{} was not read completely", source())).await?;
            }
            Completeness::Interrupted => {
                if let Some(error) = shared.env.client.lockout.error() {
                    return Err(error);
                }
                let what = format!("{} did not finish", source());
                return Err(Error::new(Kind::Unreachable, what)
                    .with_hint("see why that stream stopped, then run again"));
            }
            Completeness::Failed => {
                if let Some(error) = shared.env.client.lockout.error() {
                    return Err(error);
                }
                let what = format!("{} failed", source());
                if !shared.needs(number) {
                    shared.refuse(self.links.number);
                }
                return Err(Error::new(Kind::Rejected, what)
                    .with_hint("correct the error of that stream, then run again"));
            }
        }
        Ok(())
    }
}

fn holds(expression: Option<&Expression>, scope: &Arc<Scope>) -> Result<bool> {
    let holds = expression.map(|expression| expression.holds(scope)).transpose();
    Ok(holds.map_err(|error| unfilled(&error))?.unwrap_or(true))
}

/// The value at a position of a list or range. A request that is sent once has one value.
fn value_at(request: &RequestPlan, number: u64) -> Option<Value> {
    let at = usize::try_from(number).ok()?;
    match &request.iterate {
        Iterate::Once => (at == 0).then(|| Value::from(())),
        Iterate::Queue { .. } => None,
        Iterate::Values { values, .. } => values.get(at).cloned(),
        Iterate::Range { from, to, step, .. } => {
            let offset = i64::try_from(number).ok()?.checked_mul(*step)?;
            from.checked_add(offset).filter(|value| value <= to).map(Value::from)
        }
    }
}

/// The carried values that all items of a slice have in common.
fn common_carried(items: &[QueueItem]) -> Vec<Option<String>> {
    let mut all = items.iter().map(QueueItem::values);
    let mut common = all.next().unwrap_or_default();
    for other in all {
        for (value, other) in common.iter_mut().zip(other) {
            value.take_if(|value| Some(&*value) != other.as_ref());
        }
    }
    common
}

/// The parents whose rows a slice replaces.
fn parents(request: &RequestPlan, items: &[QueueItem], scope: &Arc<Scope>) -> Result<Vec<String>> {
    let template = request.replaced.and_then(|at| match request.columns.get(at) {
        Some(ColumnValue::Slice(template)) => Some(template),
        _ => None,
    });
    match template {
        Some(template) => {
            let text = template.render(scope);
            Ok(vec![text.map_err(|error| unfilled(&error))?])
        }
        None => Ok(items.iter().map(|item| item.value.to_string()).collect()),
    }
}

/// Runs slices until none is left.
pub(crate) async fn work(
    shared: Arc<StreamContext>,
    source: Arc<SliceSource>,
) -> Result<Completeness> {
    let mut base = shared.env.scope(&shared.plan);
    if let (Some(cursor), Some(bound)) = (&shared.plan.cursor, shared.bound()) {
        base = base.with("cursor".into(), cursor.rendered(bound));
    }
    tokio::select! {
        biased;
        () = shared.env.client.cancel.cancelled() => return Err(interrupted()),
        () = shared.enough.cancelled() => return Ok(Completeness::Incomplete),
        watched = source.await_watched(&shared) => watched?,
    }
    loop {
        let next = tokio::select! {
            biased;
            () = shared.env.client.cancel.cancelled() => return Err(interrupted()),
            () = shared.enough.cancelled() => return Ok(Completeness::Incomplete),
            next = source.next(&shared, &base) => next?,
        };
        match next {
            Some(NextSlice { slice, mut scope, start }) => {
                if let Some(cursor) = shared.plan.cursor.as_ref().filter(|_| slice.unbounded) {
                    let start = cursor.rendered(cursor.start());
                    scope = Arc::new(scope.with("cursor".into(), start));
                }
                let ran = slice::run(&shared, &source.links, slice, scope, start).await;
                let interrupted =
                    ran.as_ref().is_err_and(|error| error.kind() == Kind::Interrupted);
                if interrupted && !shared.env.client.cancel.is_cancelled() {
                    // The stream has reached its row limit, or another worker failed.
                    return Ok(Completeness::Incomplete);
                }
                ran?;
            }
            None => return source.completeness(&shared).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{planned, stream};
    use crate::progress::versions::{VersionKind, VersionLog, met};
    use crate::report::SliceError;
    use crate::state::{Change, Entries};

    const STREAMS: &str = "
  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true } }
  c: { for_each: ids, get: '/p/{{ id }}/c', key: [id], refresh: 1d, columns: { id: text } }
  values: { for_each: { values: [x, y], as: v }, get: '/v/{{ v }}', key: [id], columns: { id: text } }
  range: { for_each: { range: { from: 3, to: 9, step: 3 }, as: n }, get: '/r/{{ n }}', key: [id],
    columns: { id: text } }
";
    const PARENTS: ReadPlan = ReadPlan::ChangedParents { since: 5, route: 0 };
    const CHANGES: ReadPlan = ReadPlan::Changes { since: 5 };
    const FULL: ReadPlan = ReadPlan::Full { route: 0 };

    fn item(value: &str, stamp: Option<i64>, carried: &str) -> QueueItem {
        QueueItem { value: value.into(), stamp, carried: carried.into() }
    }

    fn items(all: &[(&str, Option<i64>)]) -> Vec<QueueItem> {
        all.iter().map(|(value, stamp)| item(value, *stamp, "")).collect()
    }

    /// Parents as earlier runs have saved them.
    fn known(parents: &[QueueItem]) -> KnownVersions {
        let mut entries = Entries::new();
        let mut read = VersionLog::restored(VersionKind::Parents, "c", &entries, false);
        for parent in parents {
            read.note(0, parent);
        }
        for Change { key, value } in read.settled(true) {
            entries.extend(value.map(|value| (key, value)));
        }
        VersionLog::restored(VersionKind::Parents, "c", &entries, false).known()
    }

    /// Of more parents than are saved.
    fn too_many() -> KnownVersions {
        let entries = Entries::from([("parents/c".to_owned(), serde_json::Value::Null)]);
        VersionLog::restored(VersionKind::Parents, "c", &entries, false).known()
    }

    fn source(known: Option<KnownVersions>, refused: &[(&str, &str)]) -> SliceSource {
        let failed = refused.iter().map(|(value, carried)| RefusedSlice {
            request: 0,
            number: 0,
            values: vec![(*value).to_owned()],
            carried: vec![(*carried).to_owned()],
            error: SliceError {
                stream: String::new(),
                slice: String::new(),
                url: String::new(),
                status: None,
                message: String::new(),
            },
            recurs: false,
        });
        let links = RequestLinks::new(0);
        let (begun, finished) = (Vec::new(), RangeSet::default());
        let past = SliceHistory { begun, finished, failed: failed.collect(), known };
        SliceSource::new(AssignedRequest { consumer: None, links }, past, true)
    }

    /// Whether the children of any of these parents are asked for.
    #[track_caller]
    fn check_changed(
        known: Option<KnownVersions>,
        plan: ReadPlan,
        now: &[(&str, Option<i64>)],
        expected: bool,
    ) {
        let all = planned(STREAMS, "mode: incremental");
        let found = source(known, &[]).has_changed(stream(&all, "c"), plan, &items(now));
        assert_eq!(found, expected, "{plan:?} {now:?}");
    }

    #[test]
    fn children_are_asked_for_of_parents_that_have_changed() {
        let saved = || Some(known(&items(&[("1", Some(7)), ("2", Some(8))])));
        check_changed(saved(), PARENTS, &[("1", Some(7))], false);
        check_changed(saved(), PARENTS, &[("1", Some(8))], true);
        check_changed(saved(), PARENTS, &[("1", Some(6))], true);
        check_changed(saved(), PARENTS, &[("3", Some(7))], true);
        check_changed(saved(), PARENTS, &[("1", None)], true);
        check_changed(saved(), PARENTS, &[("1", Some(7)), ("2", Some(8))], false);
        check_changed(saved(), PARENTS, &[("1", Some(7)), ("2", Some(9))], true);
        check_changed(saved(), FULL, &[("1", Some(7))], true);
        check_changed(saved(), CHANGES, &[("1", Some(7))], true);
        check_changed(None, PARENTS, &[("1", Some(7))], true);
        // Of too many, the time alone decides.
        check_changed(Some(too_many()), PARENTS, &[("1", Some(4))], false);
        check_changed(Some(too_many()), PARENTS, &[("1", Some(5))], true);
        check_changed(Some(too_many()), PARENTS, &[("1", None)], true);
    }

    /// Whether the children of a parent that has not changed are asked for, given the slices that were refused; and
    /// how many of these are left.
    #[track_caller]
    fn check_refused(refused: &[(&str, &str)], now: &QueueItem, expected: (bool, usize)) {
        let all = planned(STREAMS, "mode: incremental");
        let source = source(Some(known(std::slice::from_ref(now))), refused);
        let found = source.has_changed(stream(&all, "c"), PARENTS, std::slice::from_ref(now));
        let left = source.failed.lock().unwrap().len();
        assert_eq!((found, left), expected, "{refused:?} {now:?}");
    }

    #[test]
    fn a_refused_slice_is_asked_for_again_with_its_parent() {
        let now = item("1", Some(7), "a");
        check_refused(&[], &now, (false, 0));
        check_refused(&[("1", "a")], &now, (true, 0));
        check_refused(&[("1", "a"), ("2", "a")], &now, (true, 1));
        check_refused(&[("2", "a")], &now, (false, 1));
        check_refused(&[("1", "b")], &now, (false, 1));
    }

    /// Whether parents are read without the bound.
    #[track_caller]
    fn check_unbounded(known: Option<KnownVersions>, plan: ReadPlan, now: &[&str], expected: bool) {
        let now: Vec<QueueItem> = now.iter().map(|value| item(value, Some(7), "")).collect();
        assert_eq!(source(known, &[]).is_unbounded(plan, &now), expected, "{plan:?} {now:?}");
    }

    #[test]
    fn the_bound_does_not_hold_for_a_parent_that_is_new() {
        let saved = || Some(known(&[met(&item("1", Some(3), ""))]));
        check_unbounded(saved(), CHANGES, &["1"], false);
        check_unbounded(saved(), CHANGES, &["2"], true);
        check_unbounded(saved(), CHANGES, &["1", "2"], true);
        check_unbounded(saved(), FULL, &["2"], false);
        check_unbounded(saved(), PARENTS, &["2"], false);
        check_unbounded(None, CHANGES, &["2"], false);
        // Nothing is saved of any parent.
        check_unbounded(Some(known(&[])), CHANGES, &["2"], false);
        check_unbounded(Some(too_many()), CHANGES, &["2"], false);
    }

    #[track_caller]
    fn check_value(name: &str, number: u64, expected: Option<&str>) {
        let plan = planned(STREAMS, "mode: incremental");
        let value = value_at(&stream(&plan, name).requests[0], number);
        assert_eq!(value.map(|value| value.to_string()).as_deref(), expected, "{name} {number}");
    }

    #[test]
    fn a_slice_has_its_value_of_a_list_or_range() {
        check_value("values", 0, Some("x"));
        check_value("values", 1, Some("y"));
        check_value("values", 2, None);
        check_value("range", 0, Some("3"));
        check_value("range", 2, Some("9"));
        check_value("range", 3, None);
        check_value("range", u64::MAX, None);
        check_value("range", 1 << 62, None);
        check_value("p", 0, Some("None"));
        check_value("p", 1, None);
        check_value("c", 0, None);
    }

    #[track_caller]
    fn check_common_carried(carried: &[&str], expected: &[Option<&str>]) {
        let items: Vec<QueueItem> =
            carried.iter().map(|carried| item("1", None, carried)).collect();
        let found = common_carried(&items);
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        assert_eq!(found, expected, "{carried:?}");
    }

    #[test]
    fn a_chunk_carries_what_all_its_values_carry() {
        check_common_carried(&[], &[]);
        check_common_carried(&[""], &[]);
        check_common_carried(&[r#"["a",null]"#], &[Some("a"), None]);
        check_common_carried(&[r#"["a","b"]"#, r#"["a","c"]"#], &[Some("a"), None]);
        check_common_carried(&[r#"["a"]"#, "[null]"], &[None]);
        check_common_carried(&["[null]", r#"["a"]"#], &[None]);
        check_common_carried(&[r#"["a"]"#, r#"["a"]"#, r#"["b"]"#], &[None]);
    }
}
