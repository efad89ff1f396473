//! Concludes from the way a stream was read: which rows may be deleted, what is saved, and what is reported.

use chrono::{DateTime, Utc};

use crate::error::{Error, Kind, Result};
use crate::extract::run_context::RunContext;
use crate::plan::{OWN, Run, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{
    ChangeStats, Completeness, Counts, FullReadStats, LastRun, Progress, RefusedSlice, StreamState,
};
use crate::report::{Notice, NoticeKind, StreamReport, StreamStatus, add_notice};
use crate::run::confirm_deletes;
use crate::run::loader::Loader;
use crate::run::stream_result::{StreamResult, empty, remarkable};
use crate::schema::ColumnType;
use crate::state::Change;
use crate::write;
use crate::write::{Committed, Deletable, Disposition};

/// The result of loading the rows.
pub(crate) struct LoadResult {
    pub(crate) result: Result<Option<Committed>>,
    pub(crate) progress: Progress,
    pub(crate) open: bool,
}

/// Maximum number of missing values to name in a message.
const NAMED: usize = 10;

/// A stream with its read plan and the state before the run.
pub(crate) struct StreamOutcome<'stream> {
    pub(crate) plan: &'stream StreamPlan,
    pub(crate) before: &'stream StreamState,
    pub(crate) run: &'stream Run,
    pub(crate) read_plan: ReadPlan,
}

impl StreamOutcome<'_> {
    fn merges(&self) -> bool {
        let output = self.plan.output.as_ref();
        output.is_some_and(|output| output.table.disposition == Disposition::Merge)
    }

    fn anchored(&self) -> bool {
        self.plan.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some())
    }

    /// Fails a stream that lacks rows requested by name, or whose slices were all refused.
    pub(crate) fn check(&self, loader: &Loader, refusal: Option<String>) -> Result<()> {
        let counts = loader.stats.counts();
        if self.read_plan.is_full()
            && !self.anchored()
            && counts.rows < self.plan.min_rows
            && self.plan.limit.is_none()
        {
            let (rows, least) = (counts.rows, self.plan.min_rows);
            let what = match self.lacking(loader) {
                Some(lacking) => lacking,
                None => format!(
                    "the inputs request {least} by name, but the API returned {rows}: the others do not exist or are not visible to this account"
                ),
            };
            return Err(Error::new(Kind::Rejected, what)
                .with_hint("check the inputs for misspelt or removed names"));
        }
        let strict = self.plan.output.as_ref().is_some_and(|output| output.strict);
        let notices = loader.stats.notices();
        if let Some(notice) = notices.iter().find(|notice| strict && notice.kind.fails_strict()) {
            let hint = "the stream has `strict`; without it, the run continues and reports this as a notice";
            return Err(Error::new(Kind::Shape, notice.to_string()).with_hint(hint));
        }
        if counts.skipped > 0 && counts.done == 0 && self.read_plan.is_full() {
            let (skipped, first) = (counts.skipped, refusal.unwrap_or_default());
            let what = format!("all {skipped} slices were refused: {first}");
            return Err(Error::new(Kind::Permission, what)
                .with_hint("the credentials may lack a permission for this stream"));
        }
        Ok(())
    }

    /// A message with the names that were requested and not returned; `None` if they are unknown because an
    /// earlier process of the run read some of the rows.
    fn lacking(&self, loader: &Loader) -> Option<String> {
        let (rows, least) = (loader.stats.counts().rows, self.plan.min_rows);
        let asked = self.plan.own_requests().iter().find_map(|request| request.asked.as_ref())?;
        let mut lacking = loader.stats.lacks(&asked.values);
        lacking.sort_unstable();
        lacking.dedup();
        if u64::try_from(lacking.len()).ok() != least.checked_sub(rows) {
            return None;
        }
        let names = lacking.iter().take(NAMED).map(|name| format!("`{name}`"));
        let mut names = names.collect::<Vec<_>>().join(", ");
        if let Some(more) = lacking.len().checked_sub(NAMED).filter(|more| *more > 0) {
            names = format!("{names} and {more} more");
        }
        let input = &asked.input;
        Some(format!(
            "`{input}`: not found, or not visible to this account: {names}; the API returned {rows} of {least}"
        ))
    }

    /// Determines which rows the commit may delete: those that the run has not seen.
    pub(crate) fn commit_info(
        &self,
        progress: &Progress,
        marks: bool,
        counts: &Counts,
        completeness: Completeness,
    ) -> write::CommitInfo {
        // Refused parents keep their rows, unless a row may have moved to another parent.
        let bound = self.plan.is_bound_to_parent() && self.is_by_parents();
        let read = match self.read_plan {
            ReadPlan::Full { .. } | ReadPlan::FromAnchor => {
                !self.anchored() && (marks && bound || counts.skipped == 0)
            }
            ReadPlan::ChangedParents { .. } => bound && marks,
            _ => false,
        };
        let doubtful = progress.notices.iter().any(|one| one.kind == NoticeKind::FullPage);
        let sound = self.plan.limit.is_none() && self.deletes_disabled().is_none() && !doubtful;
        let whole = read && progress.gaps.is_empty() && completeness == Completeness::Complete;
        let deletable = match (sound, whole) {
            (true, true) => Deletable::Everything,
            (true, false) if bound => Deletable::ReadParents,
            _ => Deletable::Nothing,
        };
        write::CommitInfo {
            deletable,
            at: self.run.started_at,
            discarded_slices: progress.discarded_slices.clone(),
        }
    }

    /// Why the run must not delete rows that it has not seen: after a change of the inputs, they may simply be
    /// outside of what it reads.
    pub(crate) fn deletes_disabled(&self) -> Option<String> {
        let before = self.before;
        if !self.merges() {
            return None;
        }
        let changed = before.complete_at.is_some() && before.reads != self.plan.reads;
        let why = || {
            let at = self.run.started_at.format("%Y-%m-%d");
            format!("the inputs or requests changed on {at}; `--fresh` turns deletes on again")
        };
        before.deletes_disabled.clone().or_else(|| changed.then(why))
    }

    /// Whether each slice belongs to a parent. Refused slices are then saved, and their parents keep their rows.
    pub(crate) fn is_by_parents(&self) -> bool {
        self.plan.has_parents() && self.read_plan.has_slices_by_parents(self.plan)
    }

    /// Completeness of the queues that the stream feeds.
    pub(crate) fn completeness(
        &self,
        result: Result<(), &Error>,
        incomplete: bool,
    ) -> Completeness {
        match result {
            Err(error) if self.plan.may_pass(error) => Completeness::Interrupted,
            Err(_) => Completeness::Failed,
            Ok(()) if incomplete => Completeness::Incomplete,
            Ok(()) if self.read_plan.is_full() && !self.anchored() => Completeness::Complete,
            Ok(()) => Completeness::ChangesOnly,
        }
    }

    /// State of the stream after its commit. `completeness` is that of the queues that it consumes.
    pub(crate) fn after(
        &self,
        progress: &Progress,
        committed: Option<&Committed>,
        now: DateTime<Utc>,
        completeness: Completeness,
    ) -> StreamState {
        let (before, plan, counts) = (self.before, self.plan, progress.counts);
        let incomplete = !progress.gaps.is_empty() || counts.skipped > 0;
        let report = self.report(&Ok(committed.cloned()), progress);
        let own =
            self.completeness(Ok(()), incomplete).max(completeness.min(Completeness::ChangesOnly));
        let last = self.last(now, report, own);
        let mut state = StreamState { last: Some(last), open: None, ..before.clone() };
        let complete = self.read_plan.is_full();
        if complete {
            let Counts { rows, points, shared, shared_points, derived, .. } = counts;
            let requests = counts.requests.saturating_sub(counts.retries).max(shared);
            let (route, slices) = (self.route().to_owned(), counts.done);
            let is_payer = counts.shared_pages == 0;
            state.full_read = FullReadStats {
                route,
                slices,
                rows,
                requests,
                points,
                shared,
                shared_points,
                derived,
                bearer: is_payer,
            };
        }
        if let Some(bound) = self.read_plan.bound() {
            let days = before.days_since(bound, self.run.started_at);
            let Counts { rows, changed, done, derived, .. } = counts;
            state.changes = Some(match &plan.cursor {
                Some(_) => ChangeStats { days, rows: changed, ..ChangeStats::default() },
                None => ChangeStats { days, rows, parents: done, derived },
            });
        }
        state.shape.clone_from(&plan.shape);
        if plan.output.is_none() {
            return state;
        }
        state.succeeded.clone_from(&state.last);
        state.committed = Some(self.run.id.clone());
        let clean = progress.gaps.is_empty() && completeness <= Completeness::ChangesOnly;
        let kept = before.writes == plan.writes && before.reads == plan.reads;
        if complete {
            (state.reads, state.writes) = (plan.reads.clone(), plan.writes.clone());
            state.deletes_disabled = self.deletes_disabled();
            if clean && (counts.skipped == 0 || self.is_by_parents()) {
                state.complete_at = Some(self.run.started_at);
            } else if !kept {
                state.complete_at = None;
            }
        }
        let reads = self.read_plan.is_full_or_incremental();
        if reads && clean && completeness == Completeness::Complete {
            state.parents_at = Some(self.run.started_at);
        }
        if let Some(cursor) = &plan.cursor {
            let old = before.cursor.filter(|_| kept);
            let known = self.not_after_start(progress.newest, cursor.kind);
            // Refused slices of parents are saved, and the next run reads them in full.
            let recorded = complete && self.is_by_parents();
            if reads && clean && (counts.skipped == 0 || recorded) {
                state.cursor = old.max(known);
            } else if complete && !kept {
                state.cursor = None;
            }
        } else if reads && clean && (counts.skipped == 0 || self.is_by_parents()) {
            let known = self.not_after_start(progress.newest_parent, ColumnType::Timestamp);
            state.gate = before.gate.filter(|_| kept).max(known);
        }
        state
            .refused_routes
            .extend(progress.refused_routes.iter().map(|route| (route.clone(), now)));
        state.refused_slices.clone_from(&progress.refused_slices);
        if !self.is_by_parents() && complete {
            // They cannot be retried separately; the next run reads everything again.
            state.refused_slices.iter_mut().for_each(|refused| refused.recurs = true);
        }
        if self.read_plan.sends_changes(plan) && !complete {
            let lasting = before.refused_slices.iter().filter(|refused| !refused.recurs);
            state.refused_slices.extend(lasting.cloned());
        }
        state
    }

    fn last(&self, at: DateTime<Utc>, report: StreamReport, completeness: Completeness) -> LastRun {
        let (run_id, started_at) = (self.run.id.clone(), Some(self.run.started_at));
        LastRun { run_id, at, started_at, report, completeness }
    }

    /// The cursor value to save, at most the start of the run: records that changed during the run may be on
    /// pages that were already read.
    fn not_after_start(&self, newest: Option<i64>, kind: ColumnType) -> Option<i64> {
        let newest = newest?;
        if kind == ColumnType::Int {
            return Some(newest);
        }
        Some(newest.min(self.run.started_at.timestamp_micros()))
    }

    /// State of a stream that failed and cannot be resumed.
    pub(crate) fn failed(
        &self,
        progress: &Progress,
        error: &Error,
        now: DateTime<Utc>,
    ) -> StreamState {
        // Saved only for status commands: the next run requests them anyway.
        let new =
            progress.refused_slices.iter().map(|one| RefusedSlice { recurs: true, ..one.clone() });
        let old = self.before.refused_slices.iter().filter(|one| !one.recurs).cloned();
        let refused_slices = new.chain(old).collect();
        let report = self.failure(progress, error, StreamStatus::Failed);
        let last = self.last(now, report, Completeness::Failed);
        let mut refused_routes = self.before.refused_routes.clone();
        refused_routes.extend(progress.refused_routes.iter().map(|route| (route.clone(), now)));
        if self.route() == OWN && !self.read_plan.sends_changes(self.plan) {
            // If the API refuses the default route, too, the refusals are not specific to a route.
            refused_routes.clear();
        }
        let before = self.before.clone();
        StreamState { last: Some(last), open: None, refused_slices, refused_routes, ..before }
    }

    /// Saves that a stream failed before it began. Returns the error.
    pub(crate) async fn give_up(
        &self,
        env: &RunContext,
        progress: &Progress,
        error: Error,
    ) -> Error {
        let Some(durable) = &env.durable else { return error };
        let after = self.failed(progress, &error, env.now());
        match durable.store.save(&[after.change(&self.plan.name)]).await {
            Ok(()) => error,
            Err(other) => other,
        }
    }

    /// Saves that the rows are already visible, together with other changes.
    pub(crate) async fn adopt(
        &self,
        env: &RunContext,
        progress: &Progress,
        completeness: Completeness,
        mut changes: Vec<Change>,
    ) -> Result<Option<Committed>> {
        let object = self.plan.output.as_ref().map(|output| output.table.object.clone());
        let rows = progress.counts.rows;
        let committed = object.map(|object| Committed { object, rows, ..Committed::default() });
        if let Some(durable) = &env.durable {
            let after = self.after(progress, committed.as_ref(), env.now(), completeness);
            changes.push(after.change(&self.plan.name));
            durable.store.save(&changes).await?;
        }
        Ok(committed)
    }

    fn failure(&self, progress: &Progress, error: &Error, status: StreamStatus) -> StreamReport {
        let report = self.report(&Ok(None), progress);
        StreamReport {
            status,
            rows: 0,
            object: None,
            complete: false,
            error: (status == StreamStatus::Failed).then(|| error.chain()),
            hint: error.hint().filter(|_| status == StreamStatus::Failed).map(str::to_owned),
            kind: Some(error.kind()),
            ..report
        }
    }

    fn report(&self, committed: &Result<Option<Committed>>, progress: &Progress) -> StreamReport {
        let counts = progress.counts;
        let committed = committed.as_ref().ok().and_then(Option::as_ref);
        let output = self.plan.output.as_ref();
        let named = || output.map(|output| output.table.object.clone());
        let status = if output.is_some() { StreamStatus::Done } else { StreamStatus::Fed };
        let mut notices = progress.notices.clone();
        let written = committed.iter().flat_map(|committed| &committed.notices);
        written.for_each(|notice| add_notice(&mut notices, notice.clone()));
        let deleted = committed.map_or(0, |committed| committed.deleted);
        let assumed = self.assumed_deletes(&counts, deleted).filter(|_| !progress.confirmed);
        if let Some(notice) = assumed {
            add_notice(&mut notices, notice);
        }
        StreamReport {
            object: committed.map(|committed| committed.object.clone()).or_else(named),
            rows: committed.map_or(counts.rows, |committed| committed.rows),
            deleted,
            requests: counts.requests,
            points: counts.points,
            retries: counts.retries,
            bytes: counts.bytes,
            duplicates: counts.duplicates + committed.map_or(0, |committed| committed.repeated),
            misfits: counts.misfits,
            columns: remarkable(&progress.columns),
            skipped: counts.skipped,
            complete: progress.gaps.is_empty() && counts.skipped == 0,
            gaps: progress.gaps.clone(),
            notices,
            reach: self.read_plan.shown(self.plan),
            route: self.route().to_owned(),
            route_refused: progress
                .refused_routes
                .iter()
                .any(|name| name == self.read_plan.refusal_name(self.plan)),
            ..empty(&self.plan.name, status)
        }
    }

    /// A notice about deletes that follow from numbered pages. If a record disappears while the pages are read,
    /// the first record of the next page moves to a page that was already read, and is missed. Without a total,
    /// weir cannot detect this.
    fn assumed_deletes(&self, counts: &Counts, deleted: u64) -> Option<Notice> {
        let several = counts.requests.saturating_sub(counts.retries) > counts.done;
        let mut active = self.read_plan.active(self.plan);
        let shifts = several && active.any(|(_, request)| request.pager.may_shift());
        (shifts && deleted > 0).then(|| Notice {
            kind: NoticeKind::DeletesAssumed,
            count: deleted,
            detail: match self.plan.confirm {
                Some(_) => format!(
                    "weir did not confirm them one by one, because more than {} rows are missing",
                    confirm_deletes::MOST
                ),
                None => "the next full read restores a row that was deleted by mistake; declare the \
                         `total` of `paginate` if the API reports one, or `confirm_deletes` to request \
                         each missing row"
                    .to_owned(),
            },
        })
    }

    /// Name of the route.
    fn route(&self) -> &str {
        self.read_plan.route_name(self.plan)
    }

    /// Returns the result of the stream, with its report.
    pub(crate) fn conclude(
        &self,
        outcome: LoadResult,
        env: &RunContext,
        took: std::time::Duration,
    ) -> StreamResult {
        let cancelled = env.client.cancel.is_cancelled();
        let paused = env.client.is_paused();
        let LoadResult { result, progress, open } = outcome;
        let report = match &result {
            Ok(_) => self.report(&result, &progress),
            Err(error)
                if cancelled
                    || error.kind() == Kind::Interrupted
                    || paused && error.kind().passes() =>
            {
                self.failure(&progress, error, StreamStatus::Interrupted)
            }
            Err(error) => self.failure(&progress, error, StreamStatus::Failed),
        };
        let refused = progress.refused_slices.into_iter().map(|refused| refused.error).collect();
        StreamResult {
            report: StreamReport { seconds: took.as_secs_f64(), ..report },
            open,
            refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::plan::testing::{plan_under, stream};
    use crate::plan::{Plan, PlanOptions};
    use crate::queue::Queues;
    use crate::report::SliceError;
    use crate::report::counters::Stats;
    use crate::write::Deletable::{Everything, Nothing, ReadParents};

    /// Start of the run, and times before it, in microseconds since 1970.
    const START: i64 = 9_000;
    const OLD: i64 = 1_000;
    const OLD_CURSOR: i64 = 2_000;
    const OLD_GATE: i64 = 3_000;
    const NEWEST: i64 = 5_000;
    const NEWEST_PARENT: i64 = 6_000;

    /// `bound`: the key contains the parent; `free`: rows may move to another parent.
    const STREAMS: &str = "
  plain: { get: /plain, key: [id], min_rows: '3', feeds: { ids: id }, columns: { id: text } }
  cursor: { get: /cursor, key: [id], columns: { id: text, at: timestamp }, cursor: { field: at, newest_first: true } }
  numbered: { get: /numbered, key: [id], columns: { id: text, n: int },
    cursor: { field: n, query: { since: '{{ cursor }}' } } }
  anchored: { get: /anchored, key: [id], min_rows: '3', columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true, anchor: '2026-01-01' } }
  bound: { for_each: ids, get: '/p/{{ id }}/b', key: [p, id], replaces: p, unique_ids: true,
    columns: { id: text, p: { text: '{{ id }}' } }, routes: { list: { get: /b } } }
  free: { for_each: ids, get: '/p/{{ id }}/f', key: [id], replaces: p, unique_ids: true,
    columns: { id: text, p: { text: '{{ id }}' } } }
  feeder: { internal: true, get: /feeder, key: [id], feeds: { more_ids: id }, columns: { id: text } }
  fed: { for_each: more_ids, get: '/feeder/{{ more_id }}', key: [id], columns: { id: text } }
";
    const FULL: ReadPlan = ReadPlan::Full { route: 0 };
    const LIST: ReadPlan = ReadPlan::Full { route: 1 };
    const CHANGES: ReadPlan = ReadPlan::Changes { since: OLD_CURSOR };
    const PARENTS: ReadPlan = ReadPlan::ChangedParents { since: OLD_GATE, route: 0 };
    const RANGE: ReadPlan = ReadPlan::Backfill { from: 1, to: 2 };
    const MERGE: &str = "mode: incremental";

    fn time(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    fn refused_slice(number: u64, recurs: bool) -> RefusedSlice {
        let error = SliceError {
            stream: String::new(),
            slice: String::new(),
            url: String::new(),
            status: Some(403),
            message: "no".to_owned(),
        };
        let (values, carried) = (Vec::new(), Vec::new());
        RefusedSlice { request: 0, number, values, carried, error, recurs }
    }

    /// A stream that was read. `new`: in full, by a run that merges, with nothing missing.
    struct Case {
        plan: Plan,
        name: &'static str,
        read_plan: ReadPlan,
        before: StreamState,
        progress: Progress,
        marks: bool,
        completeness: Completeness,
    }

    impl Case {
        fn new(name: &'static str) -> Self {
            Self::of(name, MERGE, None)
        }

        fn of(name: &'static str, defaults: &str, limit: Option<u64>) -> Self {
            let plan =
                plan_under(STREAMS, defaults, &PlanOptions { limit, ..PlanOptions::default() });
            let stream = stream(&plan, name);
            let before = StreamState {
                reads: stream.reads.clone(),
                writes: stream.writes.clone(),
                shape: stream.shape.clone(),
                cursor: Some(OLD_CURSOR),
                gate: Some(OLD_GATE),
                complete_at: Some(time(OLD)),
                parents_at: Some(time(OLD)),
                ..StreamState::default()
            };
            let counts = Counts { requests: 4, rows: 3, done: 4, ..Counts::default() };
            let progress = Progress {
                counts,
                newest: Some(NEWEST),
                newest_parent: Some(NEWEST_PARENT),
                ..Progress::default()
            };
            let (read_plan, marks, completeness) =
                (ReadPlan::full(stream), true, Completeness::Complete);
            Self { plan, name, read_plan, before, progress, marks, completeness }
        }

        fn with<T>(&self, look: impl FnOnce(&StreamOutcome<'_>) -> T) -> T {
            let run = Run { id: "run".to_owned(), started_at: time(START) };
            let plan = stream(&self.plan, self.name);
            look(&StreamOutcome {
                plan,
                before: &self.before,
                run: &run,
                read_plan: self.read_plan,
            })
        }

        fn notice(&mut self, kind: NoticeKind) {
            self.progress.notices.push(Notice { kind, count: 1, detail: String::new() });
        }

        fn after(&self) -> StreamState {
            self.with(|ending| {
                ending.after(&self.progress, None, time(START + 9), self.completeness)
            })
        }
    }

    #[track_caller]
    fn check_deletes(
        name: &'static str,
        change: impl FnOnce(&mut Case),
        expected: write::Deletable,
    ) {
        check_deletes_of(Case::new(name), change, expected);
    }

    #[track_caller]
    fn check_deletes_of(
        mut case: Case,
        change: impl FnOnce(&mut Case),
        expected: write::Deletable,
    ) {
        change(&mut case);
        let counts = case.progress.counts;
        let info =
            case.with(|it| it.commit_info(&case.progress, case.marks, &counts, case.completeness));
        assert_eq!(info.deletable, expected, "{}", case.name);
        assert_eq!(info.at, time(START));
    }

    fn gap(case: &mut Case) {
        case.progress.gaps.push("a page is missing".to_owned());
    }

    fn refused(case: &mut Case) {
        case.progress.counts.skipped = 1;
        case.progress.refused_slices.push(refused_slice(1, false));
    }

    fn other_reads(case: &mut Case) {
        case.before.reads.push('x');
    }

    fn other_writes(case: &mut Case) {
        case.before.writes.push('x');
    }

    fn full_page(case: &mut Case) {
        case.notice(NoticeKind::FullPage);
    }

    fn some_parents(case: &mut Case) {
        case.completeness = Completeness::ChangesOnly;
    }

    fn few_parents(case: &mut Case) {
        case.completeness = Completeness::Incomplete;
    }

    #[test]
    fn rows_are_deleted_only_after_everything_was_read() {
        check_deletes("plain", |_| (), Everything);
        check_deletes("plain", gap, Nothing);
        check_deletes("plain", refused, Nothing);
        check_deletes("plain", full_page, Nothing);
        check_deletes("plain", some_parents, Nothing);
        check_deletes("plain", few_parents, Nothing);
        check_deletes("plain", |case| case.notice(NoticeKind::Gone), Everything);
        check_deletes("plain", |case| case.marks = false, Everything);
        check_deletes_of(Case::of("plain", MERGE, Some(5)), |_| (), Nothing);
        check_deletes("cursor", |_| (), Everything);
        check_deletes("cursor", |case| case.read_plan = CHANGES, Nothing);
        check_deletes("cursor", |case| case.read_plan = RANGE, Nothing);
        check_deletes("plain", |case| case.read_plan = ReadPlan::Retry, Nothing);
        check_deletes("plain", |case| case.read_plan = ReadPlan::Skip, Nothing);
        check_deletes("anchored", |_| (), Nothing);
    }

    #[test]
    fn rows_stay_after_a_change_of_the_inputs() {
        check_deletes("plain", other_reads, Nothing);
        check_deletes("bound", other_reads, Nothing);
        check_deletes(
            "plain",
            |case| case.before.deletes_disabled = Some("why".to_owned()),
            Nothing,
        );
        // There are no existing rows that could be deleted by mistake.
        let first = |case: &mut Case| {
            case.before.reads.push('x');
            case.before.complete_at = None;
        };
        check_deletes("plain", first, Everything);
        check_deletes("plain", other_writes, Everything);
        // A table that is replaced keeps no rows.
        check_deletes_of(Case::of("plain", "mode: full-refresh", None), other_reads, Everything);
    }

    #[test]
    fn rows_of_parents_that_were_read_are_deleted_where_they_cannot_move() {
        check_deletes("bound", |_| (), Everything);
        check_deletes("bound", refused, Everything);
        check_deletes("bound", gap, ReadParents);
        check_deletes("bound", some_parents, ReadParents);
        check_deletes("bound", few_parents, ReadParents);
        check_deletes("bound", |case| case.read_plan = PARENTS, Everything);
        check_deletes("bound", |case| case.read_plan = ReadPlan::Retry, ReadParents);
        check_deletes("bound", full_page, Nothing);
        check_deletes_of(Case::of("bound", MERGE, Some(5)), |_| (), Nothing);
        let unmarked = |case: &mut Case| {
            case.marks = false;
            refused(case);
        };
        check_deletes("bound", unmarked, ReadParents);
        let changed = |case: &mut Case| {
            case.read_plan = PARENTS;
            case.completeness = Completeness::ChangesOnly;
        };
        check_deletes("bound", changed, ReadParents);
        // The slices of this route do not belong to parents.
        check_deletes("bound", |case| case.read_plan = LIST, Everything);
        let listed = |change: fn(&mut Case)| {
            move |case: &mut Case| {
                case.read_plan = LIST;
                change(case);
            }
        };
        check_deletes("bound", listed(refused), Nothing);
        check_deletes("bound", listed(gap), Nothing);
        check_deletes("free", |_| (), Everything);
        check_deletes("free", refused, Nothing);
        check_deletes("free", gap, Nothing);
        check_deletes("free", some_parents, Nothing);
        check_deletes("free", |case| case.read_plan = PARENTS, Nothing);
    }

    /// Checks the saved cursor, gate, and times of the last full read and of the last feeding of all parents.
    #[track_caller]
    fn check_after(name: &'static str, change: impl FnOnce(&mut Case), expected: [Option<i64>; 4]) {
        let mut case = Case::new(name);
        change(&mut case);
        let state = case.after();
        let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
        let found = [state.cursor, state.gate, micros(state.complete_at), micros(state.parents_at)];
        assert_eq!(found, expected, "{name}");
        assert_eq!(state.open, None);
    }

    fn by(read_plan: ReadPlan, change: fn(&mut Case)) -> impl FnOnce(&mut Case) {
        move |case| {
            case.read_plan = read_plan;
            change(case);
        }
    }

    fn nothing_else(_: &mut Case) {}

    #[test]
    fn a_cursor_moves_on_only_when_nothing_was_missing() {
        let gate = Some(OLD_GATE);
        let kept = [Some(OLD_CURSOR), gate, Some(OLD), Some(OLD)];
        let name = "cursor";
        check_after(name, |_| (), [Some(NEWEST), gate, Some(START), Some(START)]);
        check_after(name, gap, kept);
        check_after(name, few_parents, kept);
        check_after(name, refused, [Some(OLD_CURSOR), gate, Some(OLD), Some(START)]);
        check_after(name, some_parents, [Some(NEWEST), gate, Some(START), Some(OLD)]);
        let changed = |change| by(CHANGES, change);
        check_after(name, changed(nothing_else), [Some(NEWEST), gate, Some(OLD), Some(START)]);
        check_after(name, changed(some_parents), [Some(NEWEST), gate, Some(OLD), Some(OLD)]);
        check_after(name, changed(refused), [Some(OLD_CURSOR), gate, Some(OLD), Some(START)]);
        check_after(name, changed(gap), kept);
        check_after(name, changed(few_parents), kept);
        check_after(name, by(RANGE, nothing_else), kept);
        check_after(name, by(ReadPlan::Retry, nothing_else), kept);
        let ahead = |case: &mut Case| case.progress.newest = Some(START + 1);
        check_after(name, ahead, [Some(START), gate, Some(START), Some(START)]);
        // A number is no time.
        check_after("numbered", ahead, [Some(START + 1), gate, Some(START), Some(START)]);
        let behind = |case: &mut Case| case.progress.newest = Some(1);
        check_after(name, behind, [Some(OLD_CURSOR), gate, Some(START), Some(START)]);
        let none = |case: &mut Case| case.progress.newest = None;
        check_after(name, none, [Some(OLD_CURSOR), gate, Some(START), Some(START)]);
    }

    #[test]
    fn a_cursor_is_reset_when_the_inputs_or_columns_change() {
        let gate = Some(OLD_GATE);
        let (none, whole) = ([None, gate, None, Some(OLD)], Some(START));
        let and = |one: fn(&mut Case), two: fn(&mut Case)| {
            move |case: &mut Case| {
                one(case);
                two(case);
            }
        };
        check_after("cursor", and(other_reads, gap), none);
        check_after("cursor", and(other_writes, gap), none);
        check_after("cursor", and(other_writes, refused), [None, gate, None, whole]);
        let behind = |case: &mut Case| case.progress.newest = Some(1);
        check_after("cursor", and(other_reads, behind), [Some(1), gate, whole, whole]);
        check_after("cursor", and(other_writes, behind), [Some(1), gate, whole, whole]);
        let empty = |case: &mut Case| case.progress.newest = None;
        check_after("cursor", and(other_writes, empty), [None, gate, whole, whole]);
    }

    #[test]
    fn the_gate_of_a_child_moves_on_when_all_changed_parents_were_read_or_refused() {
        let cursor = Some(OLD_CURSOR);
        let all = [cursor, Some(NEWEST_PARENT), Some(START), Some(START)];
        let kept = [cursor, Some(OLD_GATE), Some(OLD), Some(OLD)];
        check_after("bound", |_| (), all);
        check_after("bound", refused, all);
        check_after("bound", gap, kept);
        check_after("bound", few_parents, kept);
        let changed = |change| by(PARENTS, change);
        check_after(
            "bound",
            changed(nothing_else),
            [cursor, Some(NEWEST_PARENT), Some(OLD), Some(START)],
        );
        check_after(
            "bound",
            changed(some_parents),
            [cursor, Some(NEWEST_PARENT), Some(OLD), Some(OLD)],
        );
        check_after("bound", changed(gap), kept);
        check_after("bound", by(LIST, nothing_else), all);
        check_after("bound", by(LIST, refused), [cursor, Some(OLD_GATE), Some(OLD), Some(START)]);
        check_after("bound", by(ReadPlan::Retry, nothing_else), kept);
        let ahead = |case: &mut Case| case.progress.newest_parent = Some(START + 1);
        check_after("bound", ahead, [cursor, Some(START), Some(START), Some(START)]);
        let behind = |case: &mut Case| case.progress.newest_parent = Some(1);
        check_after("bound", behind, [cursor, Some(OLD_GATE), Some(START), Some(START)]);
        let other = |case: &mut Case| {
            other_writes(case);
            behind(case);
        };
        check_after("bound", other, [cursor, Some(1), Some(START), Some(START)]);
        // A stream that only feeds others has no rows, so these are not saved.
        check_after("feeder", |_| (), kept);
    }

    /// Checks the numbers of the saved refused slices, with `*` if they recur, and the refused routes.
    #[track_caller]
    fn check_refused(name: &'static str, read_plan: ReadPlan, recurs: bool, expected: &str) {
        let mut case = Case::new(name);
        case.read_plan = read_plan;
        case.before.refused_slices = vec![refused_slice(1, false), refused_slice(2, true)];
        case.before.refused_routes.insert("before".to_owned(), time(OLD));
        case.progress.refused_slices = vec![refused_slice(3, recurs)];
        case.progress.refused_routes = vec!["list".to_owned()];
        assert_eq!(shown_refusals(&case.after()), expected, "{name} {read_plan:?}");
    }

    fn shown_refusals(state: &StreamState) -> String {
        let refused = state.refused_slices.iter().map(|refused| {
            let mark = if refused.recurs { "*" } else { "" };
            format!("{}{mark}", refused.number)
        });
        let routes = state
            .refused_routes
            .iter()
            .map(|(name, at)| format!("{name}@{}", at.timestamp_micros()));
        refused.chain(routes).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn refused_slices_and_routes_are_saved() {
        check_refused("bound", FULL, false, "3 before@1000 list@9009");
        check_refused("bound", ReadPlan::Retry, false, "3 before@1000 list@9009");
        check_refused("bound", PARENTS, false, "3 before@1000 list@9009");
        // These cannot be retried separately.
        check_refused("bound", LIST, false, "3* before@1000 list@9009");
        check_refused("plain", FULL, false, "3* before@1000 list@9009");
        // Refused slices of the last full read stay.
        check_refused("cursor", CHANGES, true, "3* 1 before@1000 list@9009");
        check_refused("cursor", RANGE, true, "3* 1 before@1000 list@9009");
    }

    /// Checks the saved refused slices and routes of a failed stream.
    #[track_caller]
    fn check_failed(name: &'static str, read_plan: ReadPlan, expected: &str) {
        let mut case = Case::new(name);
        case.read_plan = read_plan;
        case.before.refused_slices = vec![refused_slice(1, false), refused_slice(2, true)];
        case.before.refused_routes.insert("before".to_owned(), time(OLD));
        case.progress.refused_slices = vec![refused_slice(3, false)];
        case.progress.refused_routes = vec!["list".to_owned()];
        let error = Error::new(Kind::Rejected, "no");
        let state = case.with(|ending| ending.failed(&case.progress, &error, time(START + 9)));
        assert_eq!(shown_refusals(&state), expected, "{name} {read_plan:?}");
        assert_eq!((state.cursor, state.complete_at), (Some(OLD_CURSOR), Some(time(OLD))));
        assert_eq!(state.last.map(|last| last.completeness), Some(Completeness::Failed));
    }

    #[test]
    fn a_failed_stream_keeps_its_state_and_its_refused_slices() {
        // If the API refuses the default route, too, the other refusals are discarded.
        check_failed("bound", FULL, "3* 1");
        check_failed("bound", LIST, "3* 1 before@1000 list@9009");
        check_failed("cursor", CHANGES, "3* 1 before@1000 list@9009");
    }

    /// Checks the completeness of the queues that a stream feeds.
    #[track_caller]
    fn check_completeness(
        name: &'static str,
        read_plan: ReadPlan,
        result: Result<(), Kind>,
        expected: Completeness,
    ) {
        let mut case = Case::new(name);
        case.read_plan = read_plan;
        let result = result.map_err(|kind| Error::new(kind, "no"));
        let found = case.with(|ending| ending.completeness(result.as_ref().copied(), false));
        assert_eq!(found, expected, "{name} {read_plan:?}");
        let partial = if result.is_ok() { Completeness::Incomplete } else { expected };
        let found = case.with(|ending| ending.completeness(result.as_ref().copied(), true));
        assert_eq!(found, partial, "{name} {read_plan:?}, incomplete");
    }

    #[test]
    fn only_a_full_read_completes_the_queues_of_children() {
        check_completeness("plain", FULL, Ok(()), Completeness::Complete);
        check_completeness("cursor", CHANGES, Ok(()), Completeness::ChangesOnly);
        check_completeness("cursor", RANGE, Ok(()), Completeness::ChangesOnly);
        check_completeness("bound", PARENTS, Ok(()), Completeness::ChangesOnly);
        check_completeness("bound", ReadPlan::Retry, Ok(()), Completeness::ChangesOnly);
        check_completeness("anchored", ReadPlan::FromAnchor, Ok(()), Completeness::ChangesOnly);
        check_completeness("plain", FULL, Err(Kind::Unreachable), Completeness::Interrupted);
        check_completeness("plain", FULL, Err(Kind::Interrupted), Completeness::Interrupted);
        check_completeness("plain", FULL, Err(Kind::Paused), Completeness::Interrupted);
        check_completeness("plain", FULL, Err(Kind::Rejected), Completeness::Failed);
        check_completeness("plain", FULL, Err(Kind::Permission), Completeness::Failed);
        check_completeness("plain", FULL, Err(Kind::Credentials), Completeness::Interrupted);
        check_completeness("feeder", FULL, Err(Kind::Credentials), Completeness::Failed);
        check_completeness("feeder", FULL, Err(Kind::Unreachable), Completeness::Interrupted);
    }

    /// Checks the saved completeness of a stream.
    #[track_caller]
    fn check_last(name: &'static str, change: impl FnOnce(&mut Case), expected: Completeness) {
        let mut case = Case::new(name);
        change(&mut case);
        assert_eq!(case.after().last.map(|last| last.completeness), Some(expected), "{name}");
    }

    #[test]
    fn a_stream_is_no_more_complete_than_its_queues() {
        check_last("plain", |_| (), Completeness::Complete);
        check_last("plain", gap, Completeness::Incomplete);
        check_last("plain", refused, Completeness::Incomplete);
        check_last("bound", some_parents, Completeness::ChangesOnly);
        // The gap means that parents were missing.
        check_last("bound", few_parents, Completeness::ChangesOnly);
        check_last("anchored", |_| (), Completeness::ChangesOnly);
    }

    fn loader(case: &Case) -> Loader {
        let plan = case.plan.streams.iter().find(|stream| stream.name == case.name).unwrap();
        let Progress { counts, notices, columns, .. } = case.progress.clone();
        Loader {
            plan: Arc::clone(plan),
            writer: None,
            before: case.before.clone(),
            progress: case.progress.clone(),
            read_plan: case.read_plan,
            marks: case.marks,
            stats: Arc::new(Stats::resumed(counts, notices, columns)),
            page_sizes: Arc::default(),
            queues: Arc::new(Queues::new(Vec::new())),
            settlers: Vec::new(),
            durable: None,
            interval: (0, Duration::ZERO),
            pending: crate::run::loader::PendingRows::default(),
            parents: None,
            replaces: None,
            answered: Arc::default(),
        }
    }

    /// Checks the kind of the error of a stream; `None` if it has not failed.
    #[track_caller]
    fn check_end(mut case: Case, change: impl FnOnce(&mut Case), expected: Option<Kind>) {
        change(&mut case);
        let loader = loader(&case);
        let error = case.with(|ending| ending.check(&loader, Some("no".to_owned()))).err();
        assert_eq!(error.as_ref().map(Error::kind), expected, "{}: {error:?}", case.name);
    }

    #[test]
    fn a_stream_fails_if_rows_are_missing_or_all_slices_were_refused() {
        let few = |case: &mut Case| case.progress.counts.rows = 2;
        check_end(Case::new("plain"), |_| (), None);
        check_end(Case::new("plain"), few, Some(Kind::Rejected));
        check_end(
            Case::new("plain"),
            by(ReadPlan::Retry, |case| case.progress.counts.rows = 2),
            None,
        );
        check_end(Case::of("plain", MERGE, Some(2)), few, None);
        check_end(Case::new("anchored"), few, None);
        let collision = |case: &mut Case| case.notice(NoticeKind::KeyCollision);
        check_end(Case::new("plain"), collision, None);
        let strict = "mode: incremental, strict: true";
        check_end(Case::of("plain", strict, None), |_| (), None);
        check_end(Case::of("plain", strict, None), collision, Some(Kind::Shape));
        let missing = |case: &mut Case| case.notice(NoticeKind::MissingPages);
        check_end(Case::of("plain", strict, None), missing, Some(Kind::Shape));
        check_end(Case::of("plain", strict, None), full_page, None);
        check_end(Case::new("bound"), refused, None);
        let all = |case: &mut Case| {
            refused(case);
            case.progress.counts.done = 0;
        };
        check_end(Case::new("bound"), all, Some(Kind::Permission));
        check_end(
            Case::new("bound"),
            by(PARENTS, |case| {
                case.progress.counts.skipped = 1;
                case.progress.counts.done = 0;
            }),
            None,
        );
    }
}
