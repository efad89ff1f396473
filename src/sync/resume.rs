//! What was before a run: the one that has not ended, and tables that have lost what was written.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};
use crate::plan::{OWN, Plan, Run, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::planner::restart;
use crate::progress::saved::{Counted, OpenRun, OpenStream, Recall};
use crate::replication::Mode;
use crate::report::Planned;
use crate::run;
use crate::state::{Change, Store};
use crate::sync::owner;
use crate::sync::owner::Standings;
use crate::write::{Disposition, Target};

/// Streams of an open run that a hint names one by one.
const NAMED: usize = 6;

/// What becomes of a run that has not ended.
pub(crate) enum GoOn {
    /// It goes on, and reads what it was to read.
    With(Box<GoingOn>),
    /// It is given up; why, for a person.
    Not(String),
}

/// A run that goes on.
pub(crate) struct GoingOn {
    pub(crate) plan: Plan,
    pub(crate) ways: BTreeMap<String, ReadPlan>,
    /// What is then remembered, and the changes that make it so.
    pub(crate) recall: Recall,
    pub(crate) changes: Vec<Change>,
    /// Streams that begin anew in it, and why.
    pub(crate) anew: BTreeMap<String, String>,
}

/// Streams that begin anew in a run that goes on: how each is read, and why.
type Anew = BTreeMap<String, (ReadPlan, String)>;

/// Streams of whose tables something is gone that the state takes for written, as when someone dropped
/// a column or emptied the table, and what. What is still to be read of them would not bring it back.
pub(crate) async fn lacking(
    plan: &Plan,
    recall: &Recall,
    (target, standings): (&dyn Target, &Standings),
) -> BTreeMap<String, String> {
    let mut lacking = BTreeMap::new();
    for stream in &plan.streams {
        let Some(output) = &stream.output else { continue };
        let state = recall.stream(&stream.name);
        let kept = state.writes == stream.writes && state.reads == stream.reads;
        // What is written otherwise now is read again anyway, unless it is but a range.
        let counts = state.complete_at.is_some() && (kept || output.mode == Mode::Backfill);
        if output.table.disposition != Disposition::Merge || !counts {
            continue;
        }
        // What cannot be looked at now, the stream itself will fail for.
        let lost = target.missing_part(&output.table).await.ok().flatten().or_else(|| {
            owner::changed(&output.table, standings.get(&stream.name)?, (&state, recall))
        });
        if let Some(lost) = lost {
            let message = format!("{lost}: everything has to be read again");
            lacking.insert(stream.name.clone(), message);
        }
    }
    lacking
}

/// Streams of which the run before read other rows, or wrote them otherwise, so that everything is read; and why.
pub(crate) fn otherwise(plan: &Plan, recall: &Recall) -> BTreeMap<String, String> {
    let mut streams = BTreeMap::new();
    for stream in &plan.streams {
        let state = recall.stream(&stream.name);
        let mode = stream.output.as_ref().map(|output| output.mode);
        let reads = mode.is_some_and(|mode| mode != Mode::Backfill);
        if !reads || state.complete_at.is_none() {
            continue;
        }
        let what = match (state.reads == stream.reads, state.writes == stream.writes) {
            (true, true) => continue,
            (false, true) => "its inputs or its connection are",
            (true, false) => "its mode, its columns or its `object` are",
            (false, false) => "its inputs or connection, and its mode, columns or `object`, are",
        };
        let message = format!(
            "{what} not those of the last run, so everything is read; if another replication into \
             this target is called `{}` too, give each a `name` of its own",
            plan.name
        );
        streams.insert(stream.name.clone(), message);
    }
    streams
}

/// Decides about a run that has not ended. `prepare` makes its plan. Reads state and target only.
///
/// # Errors
/// It had other streams than those that are selected now.
pub(crate) async fn go_on(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    (recall, lacking): (&Recall, &BTreeMap<String, String>),
    target: &dyn Target,
    now: DateTime<Utc>,
) -> Result<Option<GoOn>> {
    let Some(open) = recall.run.as_ref().filter(|open| !open.retry) else { return Ok(None) };
    let run = Run { id: open.id.clone(), started_at: open.started_at };
    let plan = prepare(run)?;
    let mut other = match difference(&plan, open) {
        Ok(other) => other,
        Err(Difference::Selection) if plan.is_selection => return Err(other_streams(open)),
        Err(difference) => {
            let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
            let why = difference.shown();
            let message = format!("the run of {since} is given up and begun anew: {why}");
            return Ok(Some(GoOn::Not(message)));
        }
    };
    let whole = run::ways(&plan, recall, now);
    for stream in &plan.streams {
        let Some(way) = open.streams.get(&stream.name).and_then(|then| way_of(stream, then)) else {
            continue;
        };
        let lost = lacking.get(&stream.name).filter(|_| !way.writes_all(stream)).cloned();
        let (way, why) = match lost {
            None if is_unstaged(stream, recall, target).await? => (
                way,
                "the staged rows are gone: the stream is read again from its start".to_owned(),
            ),
            None => continue,
            // What the run was to read does not bring back what is lost.
            Some(lost) => (whole.get(&stream.name).copied().unwrap_or(way), lost),
        };
        other.entry(stream.name.clone()).or_insert((way, why));
    }
    let open = OpenRun { streams: opened(&plan, &open.streams), ..open.clone() };
    let mut recall = recall.with(&[open.change()])?;
    let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
    let ways = other.iter().map(|(name, (way, _))| (name.clone(), *way)).collect();
    let (_, changes) = restart::anew(&recall, (&plan.streams, &queues), &ways, now);
    if !other.is_empty() {
        recall = recall.with(&changes)?;
    }
    let open = recall.run.iter().flat_map(|open| &open.streams);
    let ways = open.filter_map(|(name, then)| {
        let stream = plan.streams.iter().find(|stream| stream.name == *name)?;
        Some((name.clone(), way_of(stream, then)?))
    });
    let ways = ways.collect();
    let changes = if other.is_empty() { Vec::new() } else { changes };
    let anew = other.into_iter().map(|(name, (_, why))| (name, why)).collect();
    Ok(Some(GoOn::With(Box::new(GoingOn { plan, ways, recall, changes, anew }))))
}

/// The streams of an open run as a plan has them now; what is read of each, and how, stays.
fn opened(plan: &Plan, then: &BTreeMap<String, OpenStream>) -> BTreeMap<String, OpenStream> {
    let now = plan.streams.iter().filter_map(|stream| {
        let way = way_of(stream, then.get(&stream.name)?)?;
        Some((stream.name.clone(), open_stream(stream, way)))
    });
    now.collect()
}

/// How a stream was read by the open run; `None` when it has lost the route.
fn way_of(stream: &StreamPlan, then: &OpenStream) -> Option<ReadPlan> {
    let route = stream.routes.iter().position(|route| route.name == then.route)?;
    Some(ReadPlan::restored(stream, then.reach, route))
}

/// Whether rows that the open run had staged are gone, though they were not published.
async fn is_unstaged(stream: &StreamPlan, recall: &Recall, target: &dyn Target) -> Result<bool> {
    let state = recall.stream(&stream.name);
    let run = recall.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
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
        "the same `--streams` as then".to_owned()
    } else {
        format!("`--streams {}`", names.join(","))
    };
    let hint = format!("run with {how} to continue it, or with `--fresh` to give it up");
    open_error(open).with_hint(hint)
}

pub(crate) fn open_error(open: &OpenRun) -> Error {
    let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
    let written = open.streams.values().filter(|stream| stream.object.is_some()).count();
    // Streams that only feed others are not counted, unless there are no others.
    let streams = match if written == 0 { open.streams.len() } else { written } {
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    };
    Error::input(format!("the run of {since} with {streams} has not ended"))
}

/// Remembers a run that begins.
pub(crate) async fn remember(
    store: &dyn Store,
    (plan, ways): (&Plan, &BTreeMap<String, ReadPlan>),
    (retry, planned): (bool, Option<Planned>),
    counted: &[Counted],
) -> Result<()> {
    let streams = plan.streams.iter().map(|stream| {
        let way = ways.get(&stream.name).copied().unwrap_or(ReadPlan::Skip);
        (stream.name.clone(), open_stream(stream, way))
    });
    let (id, started_at) = (plan.run.id.clone(), plan.run.started_at);
    let (streams, counted) = (streams.collect(), counted.to_vec());
    let open = OpenRun { id, started_at, retry, streams, planned, counted };
    store.save(&[open.change()]).await
}

fn open_stream(stream: &StreamPlan, way: ReadPlan) -> OpenStream {
    let route = stream.routes.get(way.route()).map_or(OWN, |route| &route.name).to_owned();
    OpenStream {
        route,
        reads: stream.reads.clone(),
        shape: stream.shape.clone(),
        writes: stream.writes.clone(),
        object: stream.output.as_ref().map(|output| output.table.object.clone()),
        reach: way.saved(),
    }
}

/// Why a run cannot be continued by this plan.
enum Difference {
    Selection,
    Stream(String),
}

impl Difference {
    fn shown(&self) -> String {
        match self {
            Self::Selection => "its streams were others".to_owned(),
            Self::Stream(name) => {
                format!("since then, the spec or the replication has changed for `{name}`")
            }
        }
    }
}

/// The streams of an open run whose rows are written otherwise now, so that they begin anew.
///
/// # Errors
/// The run read something else, so that it cannot go on.
fn difference(plan: &Plan, open: &OpenRun) -> Result<Anew, Difference> {
    let names = plan.streams.iter().map(|stream| stream.name.as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    if !names.into_iter().eq(open.streams.keys().map(String::as_str)) {
        return Err(Difference::Selection);
    }
    let mut anew = Anew::new();
    for stream in &plan.streams {
        let other = || Difference::Stream(stream.name.clone());
        let then = open.streams.get(&stream.name).ok_or_else(other)?;
        // It keeps its route to the end, whichever is wanted now.
        let way = way_of(stream, then).ok_or_else(other)?;
        let now = open_stream(stream, way);
        let other_range = ReadPlan::backfill(stream).is_some_and(|range| range != way);
        if (&now.reads, &now.shape) != (&then.reads, &then.shape) || other_range {
            return Err(other());
        }
        if now == *then {
            continue;
        }
        let again = match (stream.output.as_ref().map(|output| output.mode), way) {
            (Some(Mode::Backfill), ReadPlan::Backfill { .. }) => way,
            (Some(Mode::Backfill | Mode::DefinitionOnly) | None, _) => return Err(other()),
            _ => ReadPlan::full(stream).by_route(way.route()),
        };
        let why =
            "its columns, its mode or its `object` have changed: the stream is read again from its start"
                .to_owned();
        anew.insert(stream.name.clone(), (again, why));
    }
    Ok(anew)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;
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
    fn open_run(plan: &Plan, way: ReadPlan) -> OpenRun {
        let streams = plan.streams.iter();
        let streams = streams.map(|stream| (stream.name.clone(), open_stream(stream, way)));
        OpenRun {
            id: "run".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            retry: false,
            streams: streams.collect(),
            planned: None,
            counted: Vec::new(),
        }
    }

    fn options(range: &str) -> Options {
        let range = Some(("2026-01-01".to_owned(), range.to_owned()));
        Options { range, ..Options::default() }
    }

    /// What becomes of an open run: the streams that begin again and how, or why it is given up.
    fn shown(plan: &Plan, open: &OpenRun) -> String {
        match difference(plan, open) {
            Ok(anew) => {
                let anew = anew.iter().map(|(name, (way, _))| format!("{name} {way:?}"));
                anew.collect::<Vec<_>>().join(", ")
            }
            Err(Difference::Selection) => "other streams".to_owned(),
            Err(Difference::Stream(name)) => format!("`{name}` has changed"),
        }
    }

    #[track_caller]
    fn check(mode: &str, change: impl FnOnce(&mut OpenRun), expected: &str) {
        let plan = plan_under(STREAMS, &format!("mode: {mode}"), &Options::default());
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

    /// What becomes of an open backfill up to a day, when the day of `now` is asked for.
    #[track_caller]
    fn check_backfill(then: &str, now: &str, change: impl FnOnce(&mut OpenRun), expected: &str) {
        let plan = plan_under(CURSOR, "mode: backfill", &options(now));
        let old = plan_under(CURSOR, "mode: backfill", &options(then));
        let way = ReadPlan::backfill(&old.streams[0]).unwrap();
        let mut open = open_run(&old, way);
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

    /// Why everything is read, though the state has a full read.
    #[track_caller]
    fn check_otherwise(mode: &str, change: impl FnOnce(&mut StreamState), expected: Option<&str>) {
        let plan = plan_under(CURSOR, &format!("mode: {mode}"), &options("2026-01-02"));
        let stream = &plan.streams[0];
        let mut state = StreamState {
            reads: stream.reads.clone(),
            writes: stream.writes.clone(),
            complete_at: Some(DateTime::UNIX_EPOCH),
            ..Default::default()
        };
        change(&mut state);
        let mut recall = Recall::default();
        recall.streams.insert("s".to_owned(), state);
        let found = otherwise(&plan, &recall);
        let found = found.get("s").map(String::as_str);
        assert_eq!(
            found.map(|why| expected.is_some_and(|text| why.starts_with(text))),
            expected.map(|_| true),
            "{found:?}"
        );
    }

    #[test]
    fn the_user_learns_why_everything_is_read() {
        let (inputs, columns) = ("its inputs or its connection are not", "its mode, its columns");
        let mode = "incremental";
        check_otherwise(mode, |_| (), None);
        check_otherwise(mode, |state| state.reads.push('x'), Some(inputs));
        check_otherwise(mode, |state| state.writes.push('x'), Some(columns));
        let both = |state: &mut StreamState| {
            state.reads.push('x');
            state.writes.push('x');
        };
        check_otherwise(mode, both, Some("its inputs or connection, and its mode"));
        check_otherwise("backfill", both, None);
        check_otherwise(
            mode,
            |state| {
                state.reads.push('x');
                state.complete_at = None;
            },
            None,
        );
    }
}
