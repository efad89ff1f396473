//! Decides whether and how an unfinished run is resumed, and detects tables that have lost data.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::plan::{OWN, Plan, Run, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::planner::restart;
use crate::progress::saved::{OpenRun, OpenStream, SavedState};
use crate::replication::Mode;
use crate::run;
use crate::state::Change;
use crate::sync::owner;
use crate::sync::owner::ExistingTables;
use crate::write::{Disposition, Target};

/// Maximum number of streams of an unfinished run that a hint names.
const NAMED: usize = 6;

/// What happens to an unfinished run.
pub(crate) enum Resume {
    /// It is resumed.
    Yes(Box<ResumedRun>),
    /// It is discarded, for this reason, as shown to users.
    No(String),
}

/// A run that is resumed.
pub(crate) struct ResumedRun {
    pub(crate) plan: Plan,
    pub(crate) read_plans: BTreeMap<String, ReadPlan>,
    /// The new saved state, and the changes that produce it.
    pub(crate) saved: SavedState,
    pub(crate) changes: Vec<Change>,
    /// Streams that are read again from the start, each with the reason.
    pub(crate) restarts: BTreeMap<String, String>,
}

/// Streams of a resumed run that are read again from the start: how each is read, and why.
type Restarts = BTreeMap<String, (ReadPlan, String)>;

/// Streams whose tables lack data that the state records as written, each with a description. For example,
/// a user dropped a column or emptied the table. An incremental read would not restore the data.
pub(crate) async fn missing_data(
    plan: &Plan,
    saved: &SavedState,
    target: &dyn Target,
    existing_tables: &ExistingTables,
) -> BTreeMap<String, String> {
    let mut missing = BTreeMap::new();
    for stream in &plan.streams {
        let Some(output) = &stream.output else { continue };
        let state = saved.stream(&stream.name);
        let kept = state.writes == stream.writes && state.reads == stream.reads;
        // With changed settings the stream is read in full anyway, unless it reads only a range.
        let counts = state.complete_at.is_some() && (kept || output.mode == Mode::Backfill);
        if output.table.disposition != Disposition::Merge || !counts {
            continue;
        }
        // If the table cannot be read, the stream will fail with the same error.
        let lost = target.missing_part(&output.table).await.ok().flatten().or_else(|| {
            owner::changed(&output.table, existing_tables.get(&stream.name)?, &state, saved)
        });
        if let Some(lost) = lost {
            let message = format!("{lost}; the stream has to be read in full");
            missing.insert(stream.name.clone(), message);
        }
    }
    missing
}

/// Streams that are read in full because the previous run read or wrote them with other settings, each with
/// the reason.
pub(crate) fn changed_settings(plan: &Plan, saved: &SavedState) -> BTreeMap<String, String> {
    let mut streams = BTreeMap::new();
    for stream in &plan.streams {
        let state = saved.stream(&stream.name);
        let mode = stream.output.as_ref().map(|output| output.mode);
        let reads = mode.is_some_and(|mode| mode != Mode::Backfill);
        if !reads || state.complete_at.is_none() {
            continue;
        }
        let what = match (state.reads == stream.reads, state.writes == stream.writes) {
            (true, true) => continue,
            (false, true) => "its inputs or its connection",
            (true, false) => "its mode, its columns or its `object`",
            (false, false) => "its inputs or connection, and its mode, columns or `object`",
        };
        let message = format!(
            "{what} changed since the last run; if another replication into this target is also called `{}`, \
             give each its own `name`",
            plan.name
        );
        streams.insert(stream.name.clone(), message);
    }
    streams
}

/// Decides what happens to an unfinished run. `prepare` makes its plan. Only reads the state and the target.
///
/// # Errors
/// The unfinished run has other streams than those selected now.
pub(crate) async fn resume(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    saved: &SavedState,
    missing: &BTreeMap<String, String>,
    target: &dyn Target,
    now: DateTime<Utc>,
) -> Result<Option<Resume>> {
    let Some(open) = saved.run.as_ref().filter(|open| !open.retry) else { return Ok(None) };
    let run = Run { id: open.id.clone(), started_at: open.started_at };
    let plan = prepare(run)?;
    let mut other = match difference(&plan, open) {
        Ok(other) => other,
        Err(Difference::Selection) if plan.is_selection => return Err(other_streams(open)),
        Err(difference) => {
            let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
            let why = difference.shown();
            let message = format!("the run of {since} is discarded and a new run starts: {why}");
            return Ok(Some(Resume::No(message)));
        }
    };
    let new = run::read_plans(&plan, saved, now);
    for stream in &plan.streams {
        let Some(read_plan) =
            open.streams.get(&stream.name).and_then(|then| open_read_plan(stream, then))
        else {
            continue;
        };
        let lost = missing.get(&stream.name).filter(|_| !read_plan.writes_all(stream)).cloned();
        let (read_plan, why) = match lost {
            None if has_lost_staged_rows(stream, saved, target).await? => (
                read_plan,
                "the staged rows are missing; the stream is read again from the start".to_owned(),
            ),
            None => continue,
            // The rest of the unfinished read would not restore the missing data.
            Some(lost) => (new.get(&stream.name).copied().unwrap_or(read_plan), lost),
        };
        other.entry(stream.name.clone()).or_insert((read_plan, why));
    }
    let open = OpenRun { streams: opened(&plan, &open.streams), ..open.clone() };
    let mut saved = saved.with(&[open.change()])?;
    let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
    let read_plans =
        other.iter().map(|(name, (read_plan, _))| (name.clone(), *read_plan)).collect();
    let (_, changes) = restart::prepare(&saved, &plan.streams, &queues, &read_plans, now);
    if !other.is_empty() {
        saved = saved.with(&changes)?;
    }
    let open = saved.run.iter().flat_map(|open| &open.streams);
    let read_plans = open.filter_map(|(name, then)| {
        let stream = plan.streams.iter().find(|stream| stream.name == *name)?;
        Some((name.clone(), open_read_plan(stream, then)?))
    });
    let read_plans = read_plans.collect();
    let changes = if other.is_empty() { Vec::new() } else { changes };
    let restarts = other.into_iter().map(|(name, (_, why))| (name, why)).collect();
    Ok(Some(Resume::Yes(Box::new(ResumedRun { plan, read_plans, saved, changes, restarts }))))
}

/// The streams of an unfinished run with the settings of a plan. The read plans stay the same.
fn opened(plan: &Plan, then: &BTreeMap<String, OpenStream>) -> BTreeMap<String, OpenStream> {
    let now = plan.streams.iter().filter_map(|stream| {
        let read_plan = open_read_plan(stream, then.get(&stream.name)?)?;
        Some((stream.name.clone(), open_stream(stream, read_plan)))
    });
    now.collect()
}

/// How the unfinished run reads a stream; `None` if the stream no longer has the route.
fn open_read_plan(stream: &StreamPlan, then: &OpenStream) -> Option<ReadPlan> {
    let route = stream.routes.iter().position(|route| route.name == then.route)?;
    Some(ReadPlan::restored(stream, then.reach, route))
}

/// Whether rows that the unfinished run had staged are missing, although they were not published.
async fn has_lost_staged_rows(
    stream: &StreamPlan,
    saved: &SavedState,
    target: &dyn Target,
) -> Result<bool> {
    let state = saved.stream(&stream.name);
    let run = saved.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
    let progress = state.open.filter(|progress| progress.run_id == run && !progress.publishing);
    match (&stream.output, progress) {
        (Some(output), Some(progress)) => {
            Ok(!target.is_staged(&output.table, progress.staged).await?)
        }
        _ => Ok(false),
    }
}

fn other_streams(open: &OpenRun) -> Error {
    let written = open.streams.iter().filter(|(_, stream)| stream.object.is_some());
    let names: Vec<&str> = written.map(|(name, _)| name.as_str()).collect();
    let how = if names.len() > NAMED {
        "the same `--streams` as before".to_owned()
    } else {
        format!("`--streams {}`", names.join(","))
    };
    let hint = format!("run with {how} to resume it, or with `--fresh` to discard it");
    open_error(open).with_hint(hint)
}

pub(crate) fn open_error(open: &OpenRun) -> Error {
    let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
    let written = open.streams.values().filter(|stream| stream.object.is_some()).count();
    // Counts streams that only feed others only if there are no other streams.
    let streams = match if written == 0 { open.streams.len() } else { written } {
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    };
    Error::input(format!("the run of {since} with {streams} is not finished"))
}

/// The saved state of a run that starts, with its streams only.
pub(crate) fn new_run(plan: &Plan, read_plans: &BTreeMap<String, ReadPlan>) -> OpenRun {
    let streams = plan.streams.iter().map(|stream| {
        let read_plan = read_plans.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        (stream.name.clone(), open_stream(stream, read_plan))
    });
    let (id, started_at) = (plan.run.id.clone(), plan.run.started_at);
    let streams = streams.collect();
    OpenRun { id, started_at, retry: false, streams, planned: None, counted: Vec::new() }
}

fn open_stream(stream: &StreamPlan, read_plan: ReadPlan) -> OpenStream {
    let route = stream.routes.get(read_plan.route()).map_or(OWN, |route| &route.name).to_owned();
    OpenStream {
        route,
        reads: stream.reads.clone(),
        shape: stream.shape.clone(),
        writes: stream.writes.clone(),
        object: stream.output.as_ref().map(|output| output.table.object.clone()),
        reach: read_plan.saved(),
    }
}

/// Why an unfinished run cannot be resumed with the current plan.
enum Difference {
    Selection,
    Stream(String),
}

impl Difference {
    fn shown(&self) -> String {
        match self {
            Self::Selection => "it had other streams".to_owned(),
            Self::Stream(name) => {
                format!("the spec or the replication has changed for `{name}` since then")
            }
        }
    }
}

/// The streams of an unfinished run that are read again from the start, because their write settings changed.
///
/// # Errors
/// The run read other data, so that it cannot be resumed.
fn difference(plan: &Plan, open: &OpenRun) -> Result<Restarts, Difference> {
    let names = plan.streams.iter().map(|stream| stream.name.as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    if !names.into_iter().eq(open.streams.keys().map(String::as_str)) {
        return Err(Difference::Selection);
    }
    let mut restarts = Restarts::new();
    for stream in &plan.streams {
        let other = || Difference::Stream(stream.name.clone());
        let then = open.streams.get(&stream.name).ok_or_else(other)?;
        // An unfinished stream keeps its route, whichever is selected now.
        let read_plan = open_read_plan(stream, then).ok_or_else(other)?;
        let now = open_stream(stream, read_plan);
        let other_range = ReadPlan::backfill(stream).is_some_and(|range| range != read_plan);
        if (&now.reads, &now.shape) != (&then.reads, &then.shape) || other_range {
            return Err(other());
        }
        if now == *then {
            continue;
        }
        let again = match (stream.output.as_ref().map(|output| output.mode), read_plan) {
            (Some(Mode::Backfill), ReadPlan::Backfill { .. }) => read_plan,
            (Some(Mode::Backfill | Mode::DefinitionOnly) | None, _) => return Err(other()),
            _ => ReadPlan::full(stream).by_route(read_plan.route()),
        };
        let why =
            "its columns, its mode or its `object` changed; the stream is read again from the start"
                .to_owned();
        restarts.insert(stream.name.clone(), (again, why));
    }
    Ok(restarts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanOptions;
    use crate::plan::testing::plan_under;
    use crate::progress::saved::{Reach, StreamState};

    const STREAMS: &str = "
  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text } }
  c: { for_each: ids, get: '/p/{{ id }}/c', key: [id], columns: { id: text },
    routes: { list: { get: /c } } }
";
    const CURSOR: &str = "
  s: { get: /s, key: [id], columns: { id: text, at: timestamp }, cursor: { field: at, newest_first: true } }
";
    const FULL: ReadPlan = ReadPlan::Full { route: 0 };
    const LIST: ReadPlan = ReadPlan::Full { route: 1 };

    /// An open run of all streams of a plan.
    fn open_run(plan: &Plan, read_plan: ReadPlan) -> OpenRun {
        let streams = plan.streams.iter();
        let streams = streams.map(|stream| (stream.name.clone(), open_stream(stream, read_plan)));
        OpenRun {
            id: "run".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            retry: false,
            streams: streams.collect(),
            planned: None,
            counted: Vec::new(),
        }
    }

    fn options(range: &str) -> PlanOptions {
        let range = Some(("2026-01-01".to_owned(), range.to_owned()));
        PlanOptions { range, ..PlanOptions::default() }
    }

    /// Checks which streams of an open run restart and with which read plan, or why the run is discarded.
    fn shown(plan: &Plan, open: &OpenRun) -> String {
        match difference(plan, open) {
            Ok(restarts) => {
                let restarts =
                    restarts.iter().map(|(name, (read_plan, _))| format!("{name} {read_plan:?}"));
                restarts.collect::<Vec<_>>().join(", ")
            }
            Err(Difference::Selection) => "other streams".to_owned(),
            Err(Difference::Stream(name)) => format!("`{name}` has changed"),
        }
    }

    #[track_caller]
    fn check(mode: &str, change: impl FnOnce(&mut OpenRun), expected: &str) {
        let plan = plan_under(STREAMS, &format!("mode: {mode}"), &PlanOptions::default());
        let mut open = open_run(&plan, FULL);
        open.streams.insert("c".to_owned(), open_stream(&plan.streams[1], LIST));
        change(&mut open);
        assert_eq!(shown(&plan, &open), expected);
    }

    fn of<'run>(open: &'run mut OpenRun, name: &str) -> &'run mut OpenStream {
        open.streams.get_mut(name).unwrap()
    }

    #[test]
    fn an_open_run_goes_on_unless_it_read_something_else() {
        let mode = "incremental";
        check(mode, |_| (), "");
        check(mode, |open| drop(open.streams.remove("c")), "other streams");
        let more = |open: &mut OpenRun| {
            let stream = of(open, "c").clone();
            open.streams.insert("d".to_owned(), stream);
        };
        check(mode, more, "other streams");
        check(mode, |open| of(open, "c").reads.push('x'), "`c` has changed");
        check(mode, |open| of(open, "p").shape.push('x'), "`p` has changed");
        check(mode, |open| of(open, "c").route = "former".to_owned(), "`c` has changed");
        check(mode, |open| of(open, "c").writes.push('x'), "c Full { route: 1 }");
        check(mode, |open| of(open, "c").object = Some("x".to_owned()), "c Full { route: 1 }");
        check("full-refresh", |open| of(open, "p").writes.push('x'), "p Full { route: 0 }");
        let since = |open: &mut OpenRun| of(open, "c").reach = Reach::Since(5);
        check(mode, since, "");
        let both = |open: &mut OpenRun| {
            since(open);
            of(open, "c").writes.push('x');
        };
        check(mode, both, "c Full { route: 1 }");
    }

    /// Checks whether an open backfill up to a day is resumed on the day of `now`.
    #[track_caller]
    fn check_backfill(then: &str, now: &str, change: impl FnOnce(&mut OpenRun), expected: &str) {
        let plan = plan_under(CURSOR, "mode: backfill", &options(now));
        let old = plan_under(CURSOR, "mode: backfill", &options(then));
        let read_plan = ReadPlan::backfill(&old.streams[0]).unwrap();
        let mut open = open_run(&old, read_plan);
        change(&mut open);
        assert_eq!(shown(&plan, &open), expected);
    }

    #[test]
    fn an_open_backfill_goes_on_for_the_same_range() {
        let day = "2026-01-02";
        let again = "s Backfill { from: 1767225600000000, to: 1767312000000000 }";
        check_backfill(day, day, |_| (), "");
        check_backfill(day, "2026-01-03", |_| (), "`s` has changed");
        check_backfill(day, day, |open| of(open, "s").writes.push('x'), again);
        let full = |open: &mut OpenRun| of(open, "s").reach = Reach::Complete;
        check_backfill(day, day, full, "`s` has changed");
    }

    /// Checks the reason for a full read of a stream whose state has one.
    #[track_caller]
    fn check_changed_settings(
        mode: &str,
        change: impl FnOnce(&mut StreamState),
        expected: Option<&str>,
    ) {
        let plan = plan_under(CURSOR, &format!("mode: {mode}"), &options("2026-01-02"));
        let stream = &plan.streams[0];
        let mut state = StreamState {
            reads: stream.reads.clone(),
            writes: stream.writes.clone(),
            complete_at: Some(DateTime::UNIX_EPOCH),
            ..Default::default()
        };
        change(&mut state);
        let mut saved = SavedState::default();
        saved.streams.insert("s".to_owned(), state);
        let found = changed_settings(&plan, &saved);
        let found = found.get("s").map(String::as_str);
        assert_eq!(
            found.map(|why| expected.is_some_and(|text| why.starts_with(text))),
            expected.map(|_| true),
            "{found:?}"
        );
    }

    #[test]
    fn changed_settings_explain_a_full_read() {
        let (inputs, columns) = ("its inputs or its connection changed", "its mode, its columns");
        let mode = "incremental";
        check_changed_settings(mode, |_| (), None);
        check_changed_settings(mode, |state| state.reads.push('x'), Some(inputs));
        check_changed_settings(mode, |state| state.writes.push('x'), Some(columns));
        let both = |state: &mut StreamState| {
            state.reads.push('x');
            state.writes.push('x');
        };
        check_changed_settings(mode, both, Some("its inputs or connection, and its mode"));
        check_changed_settings("backfill", both, None);
        check_changed_settings(
            mode,
            |state| {
                state.reads.push('x');
                state.complete_at = None;
            },
            None,
        );
    }
}
