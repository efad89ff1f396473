//! What was before a run: the one that has not ended, and tables that have lost what was written.

use std::{collections::BTreeMap, sync::Arc};

use crate::engine::{self, Counted, OpenRun, OpenStream, Recall, Way};
use crate::error::{Error, Result};
use crate::plan::{OWN, Plan, Run, StreamPlan};
use crate::replication::Mode;
use crate::report::Planned;
use crate::state::Store;
use crate::write::{Disposition, Target};

/// Streams of an open run that a hint names one by one.
const NAMED: usize = 6;

/// What becomes of a run that has not ended.
pub(super) enum GoOn {
    /// It goes on by this plan, and reads what it was to read.
    With(Box<Plan>, BTreeMap<String, Way>),
    /// It is given up; why, for a person.
    Not(String),
}

/// Streams of whose tables something is gone that the state takes for written, as when someone dropped
/// a column, and what. What is still to be read of them would not bring it back.
pub(super) async fn lacking(
    plan: &Plan,
    recall: &Recall,
    target: &dyn Target,
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
        if let Ok(Some(lost)) = target.lacks(&output.table).await {
            let message = format!("{lost}: everything has to be read again");
            lacking.insert(stream.name.clone(), message);
        }
    }
    lacking
}

/// Decides about a run that has not ended. `prepare` makes its plan.
///
/// # Errors
/// It had other streams than those that are selected now.
pub(super) fn go_on(
    prepare: &(dyn Fn(Run) -> Result<Plan> + Send + Sync),
    open: &OpenRun,
    lacking: &BTreeMap<String, String>,
) -> Result<GoOn> {
    let run = Run { id: open.id.clone(), started_at: open.started_at };
    let again = prepare(run)?;
    match difference(&again, open, lacking) {
        None => {
            let ways = again.streams.iter().filter_map(|stream| {
                let then = open.streams.get(&stream.name)?;
                let route = stream.routes.iter().position(|route| route.name == then.route)?;
                Some((stream.name.clone(), Way { reach: then.reach, route }))
            });
            let ways = ways.collect();
            Ok(GoOn::With(Box::new(again), ways))
        }
        Some(Difference::Selection) if again.is_selection => {
            let written = open.streams.iter().filter(|(_, stream)| stream.object.is_some());
            let names: Vec<&str> = written.map(|(name, _)| name.as_str()).collect();
            let how = if names.len() > NAMED {
                "the same `--streams` as then".to_owned()
            } else {
                format!("`--streams {}`", names.join(","))
            };
            Err(open_error(open).with_hint(format!(
                "run with {how} to continue it, or with `--fresh` to give it up"
            )))
        }
        Some(difference) => {
            let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
            let why = difference.shown();
            Ok(GoOn::Not(format!("the run of {since} is given up and begun anew: {why}")))
        }
    }
}

pub(super) fn open_error(open: &OpenRun) -> Error {
    let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
    let streams = match open.streams.len() {
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    };
    Error::input(format!("the run of {since} with {streams} has not ended"))
}

/// Remembers a run that begins.
pub(super) async fn remember(
    store: &dyn Store,
    (plan, ways): (&Plan, &BTreeMap<String, Way>),
    (retry, planned): (bool, Option<Planned>),
    counted: &[Counted],
) -> Result<()> {
    let streams = plan.streams.iter().map(|stream| {
        let way = ways.get(&stream.name).copied().unwrap_or_default();
        (stream.name.clone(), open_stream(stream, way))
    });
    let (id, started_at) = (plan.run.id.clone(), plan.run.started_at);
    let (streams, counted) = (streams.collect(), counted.to_vec());
    let open = OpenRun { id, started_at, retry, streams, planned, counted };
    store.save(&[open.change()]).await
}

fn open_stream(stream: &StreamPlan, Way { reach, route }: Way) -> OpenStream {
    let route = stream.routes.get(route).map_or(OWN, |route| &route.name).to_owned();
    OpenStream {
        route,
        reads: stream.reads.clone(),
        shape: stream.shape.clone(),
        writes: stream.writes.clone(),
        object: stream.output.as_ref().map(|output| output.table.object.clone()),
        reach,
    }
}

/// Why a run cannot be continued by this plan.
enum Difference {
    Selection,
    Stream(String),
    Table(String),
}

impl Difference {
    fn shown(&self) -> String {
        match self {
            Self::Selection => "its streams were others".to_owned(),
            Self::Stream(name) => {
                format!("since then, the spec or the replication has changed for `{name}`")
            }
            Self::Table(name) => {
                format!("since then, the table of `{name}` has lost what was written to it")
            }
        }
    }
}

fn difference(
    plan: &Plan,
    open: &OpenRun,
    lacking: &BTreeMap<String, String>,
) -> Option<Difference> {
    let names = plan.streams.iter().map(|stream| stream.name.as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    if !names.into_iter().eq(open.streams.keys().map(String::as_str)) {
        return Some(Difference::Selection);
    }
    let differs = |stream: &&Arc<StreamPlan>| {
        let then = open.streams.get(&stream.name);
        then.is_none_or(|then| {
            let other_range = engine::range(stream).is_some_and(|range| range != then.reach);
            let route = stream.routes.iter().position(|route| route.name == then.route);
            // It keeps its route to the end, whichever is wanted now.
            let way = route.map(|route| Way { reach: then.reach, route });
            let now = way.map(|way| open_stream(stream, way));
            other_range || now.as_ref() != Some(then)
        })
    };
    if let Some(stream) = plan.streams.iter().find(differs) {
        return Some(Difference::Stream(stream.name.clone()));
    }
    let partly = |(name, then): &(&String, &OpenStream)| {
        let stream = plan.streams.iter().find(|stream| stream.name == **name);
        let route = |stream: &StreamPlan| {
            stream.routes.iter().position(|route| route.name == then.route).unwrap_or_default()
        };
        let way = stream.map(|stream| (stream, Way { reach: then.reach, route: route(stream) }));
        way.is_none_or(|(stream, way)| !engine::writes_all(stream, way))
    };
    let mut lost = open.streams.iter().filter(partly).map(|(name, _)| name);
    lost.find(|name| lacking.contains_key(*name)).cloned().map(Difference::Table)
}
