//! Decides which streams restart in a run that resumes.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use crate::plan::{OWN, StreamPlan};
use crate::planner::decide::{need_of, wider};
use crate::planner::read_plan;
use crate::planner::read_plan::{ReadPlan, fed};
use crate::progress::saved::{LastRun, OpenRun, QUEUE, SavedState, StreamState};
use crate::report::StreamStatus;
use crate::state::Change;

/// Returns the names of the streams that restart, and the changes of the saved state that restart them.
/// `queues` are the names of the plan's queues.
///
/// A stream restarts by its default route when the API refused its route. It restarts with a full read when
/// the API refused its requests for changes. Each of the `others` restarts with the given read plan.
///
/// A parent restarts when a restarted child needs values that the parent did not feed to it before. An
/// unfinished consumer of a queue restarts with each feeder of the queue. A stream that only fed a refused
/// route is skipped.
///
/// A stream in `others` feeds the same values as before. Its consumers keep their progress if the saved log
/// of the queue is complete.
pub fn prepare(
    saved: &SavedState,
    streams: &[Arc<StreamPlan>],
    queues: &[String],
    others: &BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
) -> (Vec<String>, Vec<Change>) {
    let Some(restarts) = RestartSet::of(saved, streams, queues, others, now) else {
        return Default::default();
    };
    let mut open = restarts.open.clone();
    let (mut names, mut changes) = (Vec::new(), Vec::new());
    for stream in streams {
        let (Some(read_plan), Some(then)) =
            (restarts.new.get(stream.name.as_str()), open.streams.get_mut(&stream.name))
        else {
            continue;
        };
        names.push(stream.name.clone());
        then.reach = read_plan.saved();
        let route = stream.routes.get(read_plan.route());
        route.map_or(OWN, |route| &route.name).clone_into(&mut then.route);
        // The restart discards its progress and the parts of the parents that it has read.
        changes.extend(saved.without_parts(&stream.name));
        let state = StreamState { last: None, open: None, ..saved.stream(&stream.name) };
        changes.push(state.change(&stream.name));
    }
    for name in
        queues.iter().enumerate().filter_map(|(at, name)| restarts.feeds(at).then_some(name))
    {
        let prefix = format!("{QUEUE}{name}/");
        let log = saved.rest.keys().filter(|key| key.starts_with(&prefix));
        changes.extend(log.map(Change::forget));
    }
    changes.push(open.change());
    (names, changes)
}

/// The streams that restart.
struct RestartSet<'run> {
    saved: &'run SavedState,
    streams: &'run [Arc<StreamPlan>],
    queues: &'run [String],
    /// Read plans of streams that restart and feed the same values as before.
    others: &'run BTreeMap<String, ReadPlan>,
    now: DateTime<Utc>,
    open: &'run OpenRun,
    /// Read plans of the open run, by stream.
    old: BTreeMap<&'run str, ReadPlan>,
    /// Read plans of the streams that restart; `Skip` for feeders that are no longer needed.
    new: BTreeMap<&'run str, ReadPlan>,
}

impl<'run> RestartSet<'run> {
    fn of(
        saved: &'run SavedState,
        streams: &'run [Arc<StreamPlan>],
        queues: &'run [String],
        others: &'run BTreeMap<String, ReadPlan>,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let open = saved.run.as_ref()?;
        let new = others.iter().map(|(name, read_plan)| (name.as_str(), *read_plan)).collect();
        let mut restarts =
            Self { saved, streams, queues, others, now, open, old: BTreeMap::new(), new };
        for stream in streams {
            let Some(then) = open.streams.get(&stream.name) else { continue };
            let route = stream.routes.iter().position(|route| route.name == then.route);
            let read_plan = ReadPlan::restored(stream, then.reach, route.unwrap_or_default());
            restarts.old.insert(&stream.name, read_plan);
            let state = saved.stream(&stream.name);
            let ended = state.ended_in(&open.id).map(|last| &last.report);
            let failed = ended.filter(|report| report.status == StreamStatus::Failed);
            if failed.is_some_and(|report| report.route_refused) {
                let again = if read_plan.sends_changes(stream) {
                    ReadPlan::full(stream)
                } else {
                    read_plan.by_route(0)
                };
                restarts.new.insert(&stream.name, again);
            } else if failed.is_some() && stream.internal {
                restarts.new.insert(&stream.name, ReadPlan::Skip);
            }
        }
        while restarts.grow() {}
        Some(restarts)
    }

    /// Adds the streams that must restart because others do. Returns whether it changed anything.
    fn grow(&mut self) -> bool {
        let mut grown = false;
        // Streams are sorted: parents precede their children.
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
                    let need = need_of(stream, read_plan, &state, self.now);
                    wanted = wider(stream, wanted, need);
                    // The log of the queue was not kept for this child, or is incomplete.
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

    /// Whether a stream uses a queue that is fed again: as another feeder, or as an unfinished consumer.
    fn waits(&self, stream: &StreamPlan) -> bool {
        let read_plan = self.read_plan(stream);
        let state = self.saved.stream(&stream.name);
        let is_done = state.ended_in(&self.open.id).is_some_and(LastRun::is_done);
        let waits = read_plan.active(stream).flat_map(|(_, request)| read_plan::queues(request));
        !read_plan.is_skip()
            && (fed(stream).any(|queue| self.feeds(queue))
                || !is_done && waits.into_iter().any(|queue| self.feeds(queue)))
    }

    /// Whether a queue is fed again from its first value.
    fn feeds(&self, queue: usize) -> bool {
        let kept =
            |stream: &StreamPlan| self.others.contains_key(&stream.name) && self.is_whole(queue);
        let mut new = self.streams.iter().filter(|stream| self.is_new(stream) && !kept(stream));
        new.any(|stream| fed(stream).any(|fed| fed == queue))
    }

    /// Whether the store has the complete log of a queue, from its first value.
    fn is_whole(&self, queue: usize) -> bool {
        let Some(name) = self.queues.get(queue) else {
            unreachable!("queue numbers index the plan's queues")
        };
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

    /// A parent with two children, and a stream with separate requests for changes. One child has routes that
    /// need other queues.
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

    /// The state of a stream of the open run.
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

    /// The saved state of an open run with these streams. The log of `ids` begins at value number `log`.
    fn saved(plan: &Plan, streams: &[(&str, ReadPlan, End)], log: u64) -> SavedState {
        let mut saved = SavedState::default();
        let mut open = BTreeMap::new();
        for stream in &plan.streams {
            let of = streams.iter().find(|(name, ..)| *name == stream.name);
            let (read_plan, end) =
                of.map_or((ReadPlan::Skip, Open), |(_, read_plan, end)| (*read_plan, *end));
            let one = OpenStream {
                reads: stream.reads.clone(),
                writes: stream.writes.clone(),
                shape: stream.shape.clone(),
                object: None,
                reach: read_plan.saved(),
                route: stream.routes[read_plan.route()].name.clone(),
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

    /// Compares the restarted streams as `name/route`, the streams that are now skipped as `-name`, and `log` if
    /// the log of `ids` is discarded.
    #[track_caller]
    fn check_log(
        streams: &[(&str, ReadPlan, End)],
        others: &[(&str, ReadPlan)],
        log: u64,
        expected: &str,
    ) {
        let plan = planned(STREAMS, "mode: incremental");
        let saved = saved(&plan, streams, log);
        let queues: Vec<String> = plan.queues.iter().map(|queue| queue.name.clone()).collect();
        let others =
            others.iter().map(|(name, read_plan)| ((*name).to_owned(), *read_plan)).collect();
        let (names, changes) =
            prepare(&saved, &plan.streams, &queues, &others, DateTime::UNIX_EPOCH);
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
        check_log(streams, &[], 0, expected);
    }

    #[test]
    fn a_stream_restarts_when_the_api_refused_its_route() {
        let parent = ("p", FULL, Done);
        check(&[parent, ("c", FULL, Open), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Failed), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Before), ("d", FULL, Open)], "");
        check(&[parent, ("c", LIST, Done), ("d", FULL, Done)], "");
        // No log was kept for `c`: the parent feeds it again, with all unfinished consumers of the queue.
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
    fn a_failed_feeder_of_a_refused_route_is_skipped() {
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
    fn children_keep_their_progress_when_the_log_of_their_queue_is_complete() {
        let streams = [("p", FULL, Done), ("c", FULL, Open), ("d", FULL, Done)];
        check_log(&streams, &[("p", FULL)], 0, "p/default");
        check_log(&streams, &[("p", FULL)], 7, "p/default c/default log");
        check_log(&streams, &[("d", FULL)], 0, "d/default");
        // The values before the log must be fed again.
        check_log(&streams, &[("d", FULL)], 7, "p/default d/default c/default log");
    }

    #[test]
    fn no_stream_restarts_without_an_open_run() {
        let plan = planned(STREAMS, "mode: incremental");
        let (names, changes) = prepare(
            &SavedState::default(),
            &plan.streams,
            &[],
            &BTreeMap::from([("p".to_owned(), FULL)]),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!((names.len(), changes.len()), (0, 0));
    }
}
