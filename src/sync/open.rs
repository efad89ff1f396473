//! Runs that have not ended: whether one can be gone on with.

use std::{collections::BTreeSet, sync::Arc};

use crate::engine::{self, OpenRun, OpenStream, Reach, Recall, Way};
use crate::error::Error;
use crate::plan::{OWN, Plan, StreamPlan};

pub(super) fn open_error(open: &OpenRun) -> Error {
    let since = open.started_at.format("%Y-%m-%d %H:%M UTC");
    let streams = match open.streams.len() {
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    };
    Error::input(format!("the run of {since} with {streams} has not ended"))
}

pub(super) fn open_stream(stream: &StreamPlan, Way { reach, route }: Way) -> OpenStream {
    let route = stream.routes.get(route).map_or(OWN, |route| &route.name).to_owned();
    OpenStream {
        route,
        reads: stream.reads.clone(),
        writes: stream.writes.clone(),
        object: stream.output.as_ref().map(|output| output.table.object.clone()),
        reach,
    }
}

/// Why a run cannot be continued by this plan.
pub(super) enum Difference {
    Selection,
    Stream(String),
    Table(String),
}

impl Difference {
    pub(super) fn shown(&self) -> String {
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

pub(super) fn difference(
    plan: &Plan,
    open: &OpenRun,
    lacking: &BTreeSet<String>,
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
            let wanted = stream.wanted.is_none_or(|wanted| Some(wanted) == route);
            let way = route.filter(|_| wanted).map(|route| Way { reach: then.reach, route });
            other_range || way.is_none_or(|way| *then != open_stream(stream, way))
        })
    };
    if let Some(stream) = plan.streams.iter().find(differs) {
        return Some(Difference::Stream(stream.name.clone()));
    }
    let partly = |(_, stream): &(&String, &OpenStream)| stream.reach != Reach::Complete;
    let mut lost = open.streams.iter().filter(partly).map(|(name, _)| name);
    lost.find(|name| lacking.contains(*name)).cloned().map(Difference::Table)
}

/// Whether anything was done that is worth going on with.
pub(super) fn has_begun(recall: &Recall, streams: &[Arc<StreamPlan>]) -> bool {
    let id = recall.run.as_ref().map(|run| run.id.as_str()).unwrap_or_default();
    streams.iter().any(|stream| {
        let state = recall.stream(&stream.name);
        let open = state.open.as_ref().filter(|open| open.run_id == id);
        let begun = open.is_some_and(|open| {
            open.staged > 0
                || !open.open.is_empty()
                || open.finished.iter().any(|one| one.count() > 0)
        });
        begun || state.ended_in(id).is_some_and(engine::LastRun::is_done)
    })
}
