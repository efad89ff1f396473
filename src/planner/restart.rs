//! What begins anew in a run that goes on.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{OWN, StreamPlan};
use crate::planner::decide::{need_of, wider};
use crate::planner::read_plan;
use crate::planner::read_plan::{ReadPlan, fed};
use crate::progress::saved::{LastRun, OpenRun, QUEUE, SavedState, StreamState};
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
    saved: &SavedState,
    (streams, queues): (&[Arc<StreamPlan>], &[String]),
    others: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> (Vec<String>, Vec<Change>) {
    let Some(then) = &saved.run else { return Default::default() };
    let afresh = RestartSet::of(saved, (streams, queues), (then, others), now);
    let mut open = then.clone();
    let (mut names, mut changes) = (Vec::new(), Vec::new());
    for stream in streams {
        let (Some(read_plan), Some(then)) =
            (afresh.new.get(stream.name.as_str()), open.streams.get_mut(&stream.name))
        else {
            continue;
        };
        names.push(stream.name.clone());
        then.reach = read_plan.saved();
        let route = stream.routes.get(read_plan.route());
        route.map_or(OWN, |route| &route.name).clone_into(&mut then.route);
        // What it has read does not count, nor does whose children that were.
        changes.extend(saved.without_parts(&stream.name));
        let state = StreamState { last: None, open: None, ..saved.stream(&stream.name) };
        changes.push(state.change(&stream.name));
    }
    for name in queues.iter().enumerate().filter_map(|(at, name)| afresh.feeds(at).then_some(name))
    {
        let prefix = format!("{QUEUE}{name}/");
        let log = saved.rest.keys().filter(|key| key.starts_with(&prefix));
        changes.extend(log.map(Change::forget));
    }
    changes.push(open.change());
    (names, changes)
}

/// The streams that begin anew.
struct RestartSet<'run> {
    saved: &'run SavedState,
    streams: &'run [Arc<StreamPlan>],
    queues: &'run [String],
    /// Those that feed what they fed before.
    others: &'run BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
    run: &'run str,
    /// How all were read.
    old: BTreeMap<&'run str, ReadPlan>,
    /// How those are read that begin anew.
    new: BTreeMap<&'run str, ReadPlan>,
}

impl<'run> RestartSet<'run> {
    fn of(
        saved: &'run SavedState,
        (streams, queues): (&'run [Arc<StreamPlan>], &'run [String]),
        (open, others): (&'run OpenRun, &'run BTreeMap<String, ReadPlan>),
        now: DateTime<Utc>,
    ) -> Self {
        let (old, run) = (BTreeMap::new(), open.id.as_str());
        let new = others.iter().map(|(name, read_plan)| (name.as_str(), *read_plan)).collect();
        let mut afresh = Self { saved, streams, queues, others, now, run, old, new };
        for stream in streams {
            let Some(then) = open.streams.get(&stream.name) else { continue };
            let route = stream.routes.iter().position(|route| route.name == then.route);
            let read_plan = ReadPlan::restored(stream, then.reach, route.unwrap_or_default());
            afresh.old.insert(&stream.name, read_plan);
            let state = saved.stream(&stream.name);
            let ended = state.ended_in(run).map(|last| &last.report);
            let failed = ended.filter(|report| report.status == StreamStatus::Failed);
            if failed.is_some_and(|report| report.route_refused) {
                let whole = read_plan.sends_changes(stream);
                let again = if whole { ReadPlan::full(stream) } else { read_plan.by_route(0) };
                afresh.new.insert(&stream.name, again);
            } else if failed.is_some() && stream.internal {
                afresh.new.insert(&stream.name, ReadPlan::Skip);
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
            let old = self.read_plan(stream);
            let mut wanted = old;
            let mut begins = self.waits(stream);
            for child in self.streams.iter().filter(|child| child.name != stream.name) {
                if !self.is_new(child) {
                    continue;
                }
                let read_plan = self.read_plan(child);
                let before = self.old.get(child.name.as_str()).copied().unwrap_or(ReadPlan::Skip);
                for queue in fed(stream).filter(|queue| waits_for(child, read_plan, *queue)) {
                    let state = self.saved.stream(&child.name);
                    let need = need_of((stream, child), read_plan, &state, self.now);
                    wanted = wider(stream, wanted, need);
                    // Nobody has kept the log for it, or not all of it.
                    begins |= !waits_for(child, before, queue) || !self.is_whole(queue);
                }
            }
            begins |= wanted != old;
            if begins && !self.is_new(stream) || wanted != old {
                self.new.insert(&stream.name, wanted);
                grown = true;
            }
        }
        grown
    }

    /// Whether a stream shares in a queue that is fed anew: as another feeder, or as one who waits for its
    /// values.
    fn waits(&self, stream: &StreamPlan) -> bool {
        let read_plan = self.read_plan(stream);
        let state = self.saved.stream(&stream.name);
        let is_done = state.ended_in(self.run).is_some_and(LastRun::is_done);
        let waits = read_plan.active(stream).flat_map(|(_, request)| read_plan::queues(request));
        !read_plan.is_skip()
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
        let mut log = self.saved.rest.range(prefix.clone()..).map(|(key, _)| key);
        let first = log.next().and_then(|key| key.strip_prefix(&prefix)?.parse::<u64>().ok());
        first.is_none_or(|start| start == 0)
    }

    fn is_new(&self, stream: &StreamPlan) -> bool {
        self.new.get(stream.name.as_str()).is_some_and(|read_plan| !read_plan.is_skip())
    }

    fn read_plan(&self, stream: &StreamPlan) -> ReadPlan {
        let read_plan = self.new.get(stream.name.as_str()).or(self.old.get(stream.name.as_str()));
        read_plan.copied().unwrap_or(ReadPlan::Skip)
    }
}

fn waits_for(stream: &StreamPlan, read_plan: ReadPlan, queue: usize) -> bool {
    read_plan.active(stream).any(|(_, request)| read_plan::queues(request).any(|one| one == queue))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Plan;
    use crate::plan::testing::planned;
    use crate::progress::saved::{Completeness, OpenStream, Reach};

    /// A parent with two children, one of them with routes that need other queues; and a stream with separate requests
    /// for changes.
    const STREAMS: &str = "
  p: { get: /p, key: [id], refresh: 1d, feeds: { ids: id }, columns: { id: text, at: timestamp },
    cursor: { field: at, newest_first: true } }
  q: { internal: true, get: /q, key: [id], feeds: { tags: id }, columns: { id: text } }
  c: { for_each: ids, get: '/p/{{ id }}/c', key: [id], refresh: 1d, columns: { id: text },
    routes: { list: { get: /c }, inverted: { for_each: tags, get: '/q/{{ tag }}/c', columns: { id: text } } } }
  d: { for_each: ids, get: '/p/{{ id }}/d', key: [id], refresh: 1d, columns: { id: text } }
  apart: { get: /apart, key: [id], columns: { id: text, at: timestamp },
    cursor: { field: at, requests: [{ get: /changes, query: { since: '{{ cursor }}' } }] } }
";
    const FULL: ReadPlan = ReadPlan::Full { route: 0 };
    const LIST: ReadPlan = ReadPlan::Full { route: 1 };
    const INVERTED: ReadPlan = ReadPlan::Full { route: 2 };
    const CHANGES: ReadPlan = ReadPlan::Changes { since: 5 };

    /// How a stream of the open run has ended.
    #[derive(Clone, Copy, PartialEq)]
    enum End {
        Open,
        Done,
        Failed,
        /// The API refused its route, or its requests for changes.
        Refused,
        /// The API refused its route in the run before.
        Before,
    }
    use End::{Before, Done, Failed, Open, Refused};

    fn last(stream: &str, end: End) -> Option<LastRun> {
        let status = if end == Done { "done" } else { "failed" };
        let report = json!({
            "stream": stream, "status": status, "object": null, "rows": 0, "requests": 0, "retries": 0, "bytes": 0,
            "duplicates": 0, "misfits": 0, "skipped": 0, "complete": false, "reach": "", "seconds": 0.0,
            "route_refused": matches!(end, Refused | Before),
        });
        let run_id = if end == Before { "before" } else { "run" }.to_owned();
        let (report, completeness) =
            (serde_json::from_value(report).unwrap(), Completeness::Failed);
        let (at, started_at) = (DateTime::UNIX_EPOCH, None);
        (end != Open).then_some(LastRun { run_id, at, started_at, report, completeness })
    }

    /// What is saved of an open run with these streams; the log of `ids` begins at a value.
    fn saved(plan: &Plan, streams: &[(&str, ReadPlan, End)], log: u64) -> SavedState {
        let mut saved = SavedState::default();
        let mut open = BTreeMap::new();
        for stream in &plan.streams {
            let of = streams.iter().find(|(name, ..)| *name == stream.name);
            let (way, end) = of.map_or((ReadPlan::Skip, Open), |(_, way, end)| (*way, *end));
            let one = OpenStream {
                reads: stream.reads.clone(),
                writes: stream.writes.clone(),
                shape: stream.shape.clone(),
                object: None,
                reach: way.saved(),
                route: stream.routes[way.route()].name.clone(),
            };
            open.insert(stream.name.clone(), one);
            let state = StreamState {
                last: last(&stream.name, end),
                parents_at: Some(DateTime::UNIX_EPOCH),
                ..StreamState::default()
            };
            saved.streams.insert(stream.name.clone(), state);
        }
        saved.rest.insert(format!("{QUEUE}ids/{log:012}"), Value::from(Vec::<Value>::new()));
        saved.run = Some(OpenRun {
            id: "run".to_owned(),
            started_at: DateTime::UNIX_EPOCH,
            retry: false,
            streams: open,
            planned: None,
            counted: Vec::new(),
        });
        saved
    }

    /// The streams that begin again and by which route, with `-` those that are not read any more, and whether the log
    /// of `ids` is forgotten.
    #[track_caller]
    fn check_log(
        streams: &[(&str, ReadPlan, End)],
        (others, log): (&[(&str, ReadPlan)], u64),
        expected: &str,
    ) {
        let plan = planned(STREAMS, "mode: incremental");
        let saved = saved(&plan, streams, log);
        let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
        let others = others.iter().map(|(name, way)| ((*name).to_owned(), *way)).collect();
        let (names, changes) =
            anew(&saved, (&plan.streams, &queues), &others, DateTime::UNIX_EPOCH);
        let after = saved.with(&changes).unwrap();
        let open = after.run.unwrap();
        let mut shown: Vec<String> = names
            .iter()
            .map(|name| {
                let then = &open.streams[name];
                assert_eq!(after.streams[name].last, None, "{name}");
                match then.reach {
                    Reach::Nothing => format!("-{name}"),
                    _ => format!("{name}/{}", then.route),
                }
            })
            .collect();
        shown.extend(after.rest.is_empty().then(|| "log".to_owned()));
        assert_eq!(shown.join(" "), expected);
    }

    #[track_caller]
    fn check(streams: &[(&str, ReadPlan, End)], expected: &str) {
        check_log(streams, (&[], 0), expected);
    }

    #[test]
    fn a_stream_begins_again_when_the_api_refused_its_route() {
        let parent = ("p", FULL, Done);
        check(&[parent, ("c", FULL, Open), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Failed), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Before), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Done), ("d", FULL, Done)], "");
        // No log was kept for it: the parent feeds it again, and whoever waits for the same values.
        check(&[parent, ("c", LIST, Refused), ("d", FULL, Done)], "p/default c/default log");
        check(
            &[parent, ("c", LIST, Refused), ("d", FULL, Open)],
            "p/default d/default c/default log",
        );
        check(
            &[parent, ("c", LIST, Refused), ("d", FULL, Failed)],
            "p/default d/default c/default log",
        );
        check(&[("c", LIST, Refused)], "p/default c/default log");
    }

    #[test]
    fn a_feeder_that_failed_is_left_out() {
        let parent = ("p", FULL, Done);
        check(
            &[parent, ("q", FULL, Failed), ("c", INVERTED, Refused)],
            "p/default -q c/default log",
        );
        check(&[parent, ("q", FULL, Failed), ("c", FULL, Open)], "-q");
        check(&[parent, ("q", FULL, Done), ("c", INVERTED, Open)], "");
    }

    #[test]
    fn a_stream_is_read_in_full_when_the_api_refused_its_requests_for_changes() {
        check(&[("apart", CHANGES, Refused)], "apart/default");
        check(&[("apart", CHANGES, Failed)], "");
        check(
            &[
                ("p", CHANGES, Refused),
                ("c", ReadPlan::ChangedParents { since: 5, route: 0 }, Open),
            ],
            "p/default c/default log",
        );
    }

    #[test]
    fn children_keep_what_they_have_when_the_log_of_their_parents_is_whole() {
        let streams = [("p", FULL, Done), ("c", FULL, Open), ("d", FULL, Done)];
        check_log(&streams, (&[("p", FULL)], 0), "p/default");
        check_log(&streams, (&[("p", FULL)], 7), "p/default c/default log");
        check_log(&streams, (&[("d", FULL)], 0), "d/default");
        // The values before the log are fed once more.
        check_log(&streams, (&[("d", FULL)], 7), "p/default d/default c/default log");
    }

    #[test]
    fn nothing_begins_again_without_an_open_run() {
        let plan = planned(STREAMS, "mode: incremental");
        let (names, changes) = anew(
            &SavedState::default(),
            (&plan.streams, &[]),
            &BTreeMap::from([("p".to_owned(), FULL)]),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!((names.len(), changes.len()), (0, 0));
    }
}
