//! What begins anew in a run that goes on.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{OWN, StreamPlan};
use crate::planner::decide::{need_of, wider};
use crate::planner::read_plan;
use crate::planner::read_plan::fed;
use crate::progress::saved::{LastRun, OpenRun, QUEUE, Reach, SavedState, StreamState, Way};
use crate::report::StreamStatus;
use crate::state::Change;

/// The streams that begin anew, and the changes after which they do: the run goes on with those of which
/// the API refused the route, or the listing of changes, by their own requests, and with `others` as they
/// say. `queues` are the names of the plan's queues.
///
/// One of the `others` feeds what it fed before. Where the log of its queue is whole, the consumers keep
/// what they have done.
///
/// A stream of which changes were to be read is read whole. Parents that it then needs, and did not need
/// before, feed it anew; whoever waits for what is fed anew, and has not ended well, begins anew as well.
/// What only fed a refused route is not needed any more.
pub fn anew(
    recall: &SavedState,
    (streams, queues): (&[Arc<StreamPlan>], &[String]),
    others: &BTreeMap<String, Way>,
    now: DateTime<Utc>,
) -> (Vec<String>, Vec<Change>) {
    let Some(then) = &recall.run else { return Default::default() };
    let afresh = Afresh::of(recall, (streams, queues), (then, others), now);
    let mut open = then.clone();
    let (mut names, mut changes) = (Vec::new(), Vec::new());
    for stream in streams {
        let (Some(way), Some(then)) =
            (afresh.new.get(stream.name.as_str()), open.streams.get_mut(&stream.name))
        else {
            continue;
        };
        names.push(stream.name.clone());
        then.reach = way.reach;
        let route = stream.routes.get(way.route);
        route.map_or(OWN, |route| &route.name).clone_into(&mut then.route);
        // What it has read does not count, nor does whose children that were.
        changes.extend(recall.without_parts(&stream.name));
        let state = StreamState { last: None, open: None, ..recall.stream(&stream.name) };
        changes.push(state.change(&stream.name));
    }
    for name in queues.iter().enumerate().filter_map(|(at, name)| afresh.feeds(at).then_some(name))
    {
        let prefix = format!("{QUEUE}{name}/");
        let log = recall.rest.keys().filter(|key| key.starts_with(&prefix));
        changes.extend(log.map(Change::forget));
    }
    changes.push(open.change());
    (names, changes)
}

/// The streams that begin anew.
struct Afresh<'run> {
    recall: &'run SavedState,
    streams: &'run [Arc<StreamPlan>],
    queues: &'run [String],
    /// Those that feed what they fed before.
    others: &'run BTreeMap<String, Way>,
    now: DateTime<Utc>,
    run: &'run str,
    /// How all were read.
    old: BTreeMap<&'run str, Way>,
    /// How those are read that begin anew.
    new: BTreeMap<&'run str, Way>,
}

impl<'run> Afresh<'run> {
    fn of(
        recall: &'run SavedState,
        (streams, queues): (&'run [Arc<StreamPlan>], &'run [String]),
        (open, others): (&'run OpenRun, &'run BTreeMap<String, Way>),
        now: DateTime<Utc>,
    ) -> Self {
        let (old, run) = (BTreeMap::new(), open.id.as_str());
        let new = others.iter().map(|(name, way)| (name.as_str(), *way)).collect();
        let mut afresh = Self { recall, streams, queues, others, now, run, old, new };
        for stream in streams {
            let Some(then) = open.streams.get(&stream.name) else { continue };
            let route = stream.routes.iter().position(|route| route.name == then.route);
            let way = Way { reach: then.reach, route: route.unwrap_or_default() };
            afresh.old.insert(&stream.name, way);
            let state = recall.stream(&stream.name);
            let ended = state.ended_in(run).map(|last| &last.report);
            let failed = ended.filter(|report| report.status == StreamStatus::Failed);
            if failed.is_some_and(|report| report.route_refused) {
                let whole = !read_plan::has_own_requests(stream, way.reach);
                let reach = if whole { Reach::Complete } else { way.reach };
                afresh.new.insert(&stream.name, Way { reach, route: 0 });
            } else if failed.is_some() && stream.internal {
                afresh.new.insert(&stream.name, Way::NOTHING);
            }
        }
        while afresh.grow() {}
        afresh
    }

    /// Adds those who must begin anew because others do; `false` when there are none.
    fn grow(&mut self) -> bool {
        let mut grown = false;
        // Children come after their parents.
        for stream in self.streams.iter().rev() {
            let old = self.way(stream);
            let mut reach = old.reach;
            let mut begins = self.waits(stream);
            for child in self.streams.iter().filter(|child| child.name != stream.name) {
                if !self.is_new(child) {
                    continue;
                }
                let way = self.way(child);
                let before = self.old.get(child.name.as_str()).copied().unwrap_or_default();
                for queue in fed(stream).filter(|queue| waits_for(child, way, *queue)) {
                    let state = self.recall.stream(&child.name);
                    reach = wider(reach, need_of((stream, child), way.reach, &state, self.now));
                    // Nobody has kept the log for it, or not all of it.
                    begins |= !waits_for(child, before, queue) || !self.is_whole(queue);
                }
            }
            begins |= reach != old.reach;
            if begins && !self.is_new(stream) || reach != old.reach {
                self.new.insert(&stream.name, Way { reach, ..old });
                grown = true;
            }
        }
        grown
    }

    /// Whether a stream shares in a queue that is fed anew: as another feeder, or as one who waits for its
    /// values.
    fn waits(&self, stream: &StreamPlan) -> bool {
        let way = self.way(stream);
        let state = self.recall.stream(&stream.name);
        let is_done = state.ended_in(self.run).is_some_and(LastRun::is_done);
        let waits =
            read_plan::active(stream, way).flat_map(|(_, request)| read_plan::queues(request));
        way.reach != Reach::Nothing
            && (fed(stream).any(|queue| self.feeds(queue))
                || !is_done && waits.into_iter().any(|queue| self.feeds(queue)))
    }

    /// Whether a queue is fed anew.
    fn feeds(&self, queue: usize) -> bool {
        let kept =
            |stream: &StreamPlan| self.others.contains_key(&stream.name) && self.is_whole(queue);
        let mut new = self.streams.iter().filter(|stream| self.is_new(stream) && !kept(stream));
        new.any(|stream| fed(stream).any(|fed| fed == queue))
    }

    /// Whether the store has a queue's log from its first value on.
    fn is_whole(&self, queue: usize) -> bool {
        let Some(name) = self.queues.get(queue) else { return false };
        let prefix = format!("{QUEUE}{name}/");
        let mut log = self.recall.rest.range(prefix.clone()..).map(|(key, _)| key);
        let first = log.next().and_then(|key| key.strip_prefix(&prefix)?.parse::<u64>().ok());
        first.is_none_or(|start| start == 0)
    }

    fn is_new(&self, stream: &StreamPlan) -> bool {
        self.new.get(stream.name.as_str()).is_some_and(|way| way.reach != Reach::Nothing)
    }

    fn way(&self, stream: &StreamPlan) -> Way {
        let way = self.new.get(stream.name.as_str()).or(self.old.get(stream.name.as_str()));
        way.copied().unwrap_or(Way::NOTHING)
    }
}

fn waits_for(stream: &StreamPlan, way: Way, queue: usize) -> bool {
    read_plan::active(stream, way)
        .any(|(_, request)| read_plan::queues(request).any(|one| one == queue))
}
