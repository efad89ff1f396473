//! What follows from how a stream was read: what may be concluded, remembered and told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::error::{Error, Kind, Result};
use crate::extract::run_context::RunContext;
use crate::plan::{OWN, Run, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{
    ChangeStats, Completeness, Counts, FullReadStats, LastRun, Progress, RefusedSlice, StreamState,
};
use crate::report::{ColumnReport, Notice, NoticeKind, StreamReport, StreamStatus, add_notice};
use crate::run::confirm_deletes;
use crate::run::loader::Loader;
use crate::schema::ColumnType;
use crate::state::Change;
use crate::write;
use crate::write::{Committed, Deletable, Disposition};

/// What a stream came to.
#[derive(Debug)]
pub(crate) struct StreamResult {
    pub(crate) report: StreamReport,
    /// Whether work is left that the next run goes on with.
    pub(crate) open: bool,
    /// Slices that were refused.
    pub(crate) refused: Vec<crate::report::SliceError>,
}

impl StreamResult {
    /// Of a stream whose task broke off: a fault of weir's own.
    pub(crate) fn broken(stream: &str) -> Self {
        let report = StreamReport {
            complete: false,
            error: Some(
                "the stream broke off: this is a fault in weir; please report it".to_owned(),
            ),
            hint: Some("run again to continue".to_owned()),
            ..empty(stream, StreamStatus::Failed)
        };
        Self { report, open: true, refused: Vec::new() }
    }
}

/// What became of the rows.
pub(crate) struct LoadResult {
    pub(crate) result: Result<Option<Committed>>,
    pub(crate) progress: Progress,
    pub(crate) open: bool,
}

/// Values that are named where they did not come.
const NAMED: usize = 10;

/// A stream that was read, or was to be.
pub(crate) struct StreamOutcome<'stream> {
    pub(crate) plan: &'stream StreamPlan,
    pub(crate) before: &'stream StreamState,
    pub(crate) run: &'stream Run,
    pub(crate) read_plan: ReadPlan,
}

/// A report without figures.
pub(crate) fn empty(stream: &str, status: StreamStatus) -> StreamReport {
    StreamReport {
        stream: stream.to_owned(),
        status,
        object: None,
        rows: 0,
        deleted: 0,
        requests: 0,
        points: 0,
        retries: 0,
        bytes: 0,
        duplicates: 0,
        misfits: 0,
        columns: BTreeMap::new(),
        skipped: 0,
        complete: true,
        gaps: Vec::new(),
        notices: Vec::new(),
        reach: "nothing".to_owned(),
        route: OWN.to_owned(),
        route_refused: false,
        earlier: false,
        seconds: 0.0,
        error: None,
        hint: None,
        kind: None,
    }
}

/// The columns of which there is anything to tell.
fn remarkable(columns: &BTreeMap<String, ColumnReport>) -> BTreeMap<String, ColumnReport> {
    let told = columns.iter().filter(|(_, column)| column.is_remarkable());
    told.map(|(name, column)| (name.clone(), column.clone())).collect()
}

impl StreamOutcome<'_> {
    fn merges(&self) -> bool {
        let output = self.plan.output.as_ref();
        output.is_some_and(|output| output.table.disposition == Disposition::Merge)
    }

    fn anchored(&self) -> bool {
        self.plan.cursor.as_ref().is_some_and(|cursor| cursor.anchor.is_some())
    }

    /// Fails a stream that lacks what was asked for by name, or of which everything was refused.
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
                    "the inputs ask for {least} by name, but {rows} came: some are not there, or this account may not see them"
                ),
            };
            return Err(Error::new(Kind::Rejected, what)
                .with_hint("look for misspelt or removed names in the inputs"));
        }
        let strict = self.plan.output.as_ref().is_some_and(|output| output.strict);
        let notices = loader.stats.notices();
        if let Some(notice) = notices.iter().find(|notice| strict && notice.kind.fails_strict()) {
            let hint = "`strict` is set for the stream: without it the run goes on and says so";
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

    /// What was asked for by name and did not come, in words; `None` where it is not known: an earlier process
    /// may have read it.
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
            "`{input}`: there is no {names}, or this account may not see it; {least} were asked for, {rows} came"
        ))
    }

    /// What the target may conclude of rows that were not seen.
    pub(crate) fn seen(
        &self,
        progress: &Progress,
        marks: bool,
        counts: &Counts,
        completeness: Completeness,
    ) -> write::CommitInfo {
        // Refused parents keep their rows, if none of these can have gone to another parent.
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

    /// Why rows that are not seen must not be taken for deleted: under other inputs they were never
    /// to be seen.
    pub(crate) fn deletes_disabled(&self) -> Option<String> {
        let before = self.before;
        if !self.merges() {
            return None;
        }
        let changed = before.complete_at.is_some() && before.reads != self.plan.reads;
        let why = || {
            let at = self.run.started_at.format("%Y-%m-%d");
            format!("what is read was changed on {at}; `--fresh` concludes deletes again")
        };
        before.deletes_disabled.clone().or_else(|| changed.then(why))
    }

    /// Whether its slices are about parents, whose refused ones are recorded and keep their rows.
    pub(crate) fn is_by_parents(&self) -> bool {
        self.plan.has_parents() && self.read_plan.has_slices_by_parents(self.plan)
    }

    /// What the children may rely on.
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

    /// What is remembered of the stream once its rows are visible; `completeness` is that of its queues.
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
            let bearer = counts.borne == 0;
            state.full_read = FullReadStats {
                route,
                slices,
                rows,
                requests,
                points,
                shared,
                shared_points,
                derived,
                bearer,
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
            // Refused slices of parents are recorded, and asked for again whole.
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
            // No run can ask for them alone; the next one reads everything again.
            state.refused_slices.iter_mut().for_each(|failed| failed.recurs = true);
        }
        if self.read_plan.sends_changes(plan) && !complete {
            let lasting = before.refused_slices.iter().filter(|failed| !failed.recurs);
            state.refused_slices.extend(lasting.cloned());
        }
        state
    }

    fn last(&self, at: DateTime<Utc>, report: StreamReport, completeness: Completeness) -> LastRun {
        let (run_id, started_at) = (self.run.id.clone(), Some(self.run.started_at));
        LastRun { run_id, at, started_at, report, completeness }
    }

    /// A value of a cursor that is safe to go on from: what changes while a run reads may have been
    /// passed already.
    fn not_after_start(&self, newest: Option<i64>, kind: ColumnType) -> Option<i64> {
        let newest = newest?;
        if kind == ColumnType::Int {
            return Some(newest);
        }
        Some(newest.min(self.run.started_at.timestamp_micros()))
    }

    /// What is remembered of a stream that failed for good.
    pub(crate) fn failed(
        &self,
        progress: &Progress,
        (error, now): (&Error, DateTime<Utc>),
    ) -> StreamState {
        // Told, though the next run asks for them again by itself.
        let new =
            progress.refused_slices.iter().map(|one| RefusedSlice { recurs: true, ..one.clone() });
        let old = self.before.refused_slices.iter().filter(|one| !one.recurs).cloned();
        let refused_slices = new.chain(old).collect();
        let report = self.failure(progress, error, StreamStatus::Failed);
        let last = self.last(now, report, Completeness::Failed);
        let mut refused_routes = self.before.refused_routes.clone();
        refused_routes.extend(progress.refused_routes.iter().map(|route| (route.clone(), now)));
        if self.route() == OWN && !self.read_plan.sends_changes(self.plan) {
            // What refuses the own requests too does not refuse a route.
            refused_routes.clear();
        }
        let before = self.before.clone();
        StreamState { last: Some(last), open: None, refused_slices, refused_routes, ..before }
    }

    /// Takes note that a stream failed for good before it could begin; returns why.
    pub(crate) async fn give_up(
        &self,
        env: &RunContext,
        progress: &Progress,
        error: Error,
    ) -> Error {
        let Some(durable) = &env.durable else { return error };
        let after = self.failed(progress, (&error, env.now()));
        match durable.store.save(&[after.change(&self.plan.name)]).await {
            Ok(()) => error,
            Err(other) => other,
        }
    }

    /// Takes note of rows that are visible already, and of other changes.
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

    /// What is to be told of deletes that follow from pages with numbers: while these are read, a record that
    /// goes moves the first of the next page to one that was read, and where no total is told nobody notices.
    fn assumed_deletes(&self, counts: &Counts, deleted: u64) -> Option<Notice> {
        let several = counts.requests.saturating_sub(counts.retries) > counts.done;
        let mut active = self.read_plan.active(self.plan);
        let shifts = several && active.any(|(_, request)| request.pager.may_shift());
        (shifts && deleted > 0).then(|| Notice {
            kind: NoticeKind::DeletesAssumed,
            count: deleted,
            detail: match self.plan.confirm {
                Some(_) => format!(
                    "they were not checked one by one, because more than {} rows are missing",
                    confirm_deletes::MOST
                ),
                None => "one that is still there comes back with the next complete reading; declare \
                         the `total` of `paginate` if the API tells one, or `confirm_deletes` to ask \
                         for each of them"
                    .to_owned(),
            },
        })
    }

    /// Name of the route.
    fn route(&self) -> &str {
        self.read_plan.route_name(self.plan)
    }

    /// Draws the report up.
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
        let refused = progress.refused_slices.into_iter().map(|failed| failed.error).collect();
        StreamResult {
            report: StreamReport { seconds: took.as_secs_f64(), ..report },
            open,
            refused,
        }
    }
}
