//! How much there is of everything, and how much of it changes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::state::{Changes, Learnt, Reach, Recall};
use crate::plan::{Iterate, Plan, RequestPlan, StreamPlan};
use crate::replication::Mode;

/// Records of a listing of which nothing is known.
const LISTED: f64 = 1000.0;
/// Children of a parent of whom nothing is known.
const CHILDREN: f64 = 3.0;
/// Part of the records that change in a day, of which nothing is known.
const CHANGED: f64 = 0.01;
/// Part of the parents whose only row follows from what is known, where nobody knows.
const DERIVED: f64 = 0.2;

/// How much there is.
pub(super) struct Outlook<'plan> {
    pub(super) plan: &'plan Plan,
    pub(super) recall: &'plan Recall,
    pub(super) now: DateTime<Utc>,
    /// Values of each queue.
    queues: Vec<f64>,
    /// Rows of each stream, and whether that is assumed.
    rows: BTreeMap<&'plan str, (f64, bool)>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

impl<'plan> Outlook<'plan> {
    pub(super) fn new(plan: &'plan Plan, recall: &'plan Recall, now: DateTime<Utc>) -> Self {
        let mut outlook = Self { plan, recall, now, queues: Vec::new(), rows: BTreeMap::new() };
        outlook.fill(&BTreeMap::new());
        let counted = outlook.counted();
        if !counted.is_empty() {
            outlook.fill(&counted);
        }
        outlook
    }

    /// Finds out how much there is of everything, given the rows of some streams and whether those are
    /// assumed.
    fn fill(&mut self, known: &BTreeMap<&'plan str, (f64, bool)>) {
        self.queues = vec![0.0; self.plan.queues.len()];
        for stream in &self.plan.streams {
            let rows = known.get(stream.name.as_str()).copied();
            let rows = rows.unwrap_or_else(|| self.all_rows(stream));
            self.rows.insert(&stream.name, rows);
            let mut fed: Vec<usize> =
                stream.requests.iter().flat_map(|one| &one.feeds).map(|feed| feed.queue).collect();
            fed.sort_unstable();
            fed.dedup();
            for queue in fed {
                if let Some(count) = self.queues.get_mut(queue) {
                    *count += rows.0;
                }
            }
        }
    }

    /// Rows of the streams that were counted. What several have together is divided by what is assumed
    /// of each, less what is learnt of some.
    fn counted(&self) -> BTreeMap<&'plan str, (f64, bool)> {
        let mut rows = BTreeMap::new();
        for counted in &self.recall.counted {
            let states = counted.streams.iter().filter_map(|name| self.recall.streams.get(name));
            let learnt = states.map(|state| &state.learnt).filter(|one| !one.route.is_empty());
            let known: Vec<u64> = learnt.map(|learnt| learnt.rows).collect();
            let left = real(counted.records.saturating_sub(known.iter().sum()));
            let unknown = self.plan.streams.iter().filter(|stream| {
                counted.streams.contains(&stream.name) && self.learnt(stream).is_none()
            });
            // Nobody is taken to have none.
            let part = |stream: &'plan StreamPlan| (&*stream.name, self.rows(stream).max(1.0));
            let unknown: Vec<_> = unknown.map(|stream| part(stream)).collect();
            let all: f64 = unknown.iter().map(|(_, part)| part).sum();
            // An API may count more, or less, than it lists.
            rows.extend(unknown.into_iter().map(|(name, part)| (name, (left * part / all, true))));
        }
        rows
    }

    pub(super) fn learnt(&self, stream: &StreamPlan) -> Option<Learnt> {
        let learnt = self.recall.streams.get(&stream.name).map(|state| state.learnt.clone());
        learnt.filter(|learnt| !learnt.route.is_empty())
    }

    /// Rows of a stream in all, and whether that is assumed.
    fn all_rows(&self, stream: &StreamPlan) -> (f64, bool) {
        if let Some(learnt) = self.learnt(stream) {
            return (real(learnt.rows), false);
        }
        // What is asked for by name is there as often.
        if stream.min_rows > 0 {
            return (real(stream.min_rows), true);
        }
        let rows = stream.own_requests().iter().map(|request| match &request.iterate {
            Iterate::Queue { queue, chunk: None, .. } => self.queue(*queue) * CHILDREN,
            Iterate::Values { values, .. } if values.is_empty() => 0.0,
            _ => LISTED,
        });
        (rows.fold(0.0, f64::max), true)
    }

    /// Whether what a reach brings rests on assumptions.
    pub(super) fn is_assumed(&self, (stream, reach): (&StreamPlan, Reach)) -> bool {
        let untold = matches!(reach, Reach::Since(_)) && self.changes(stream).is_none();
        untold || self.rows.get(stream.name.as_str()).is_some_and(|(_, assumed)| *assumed)
    }

    pub(super) fn rows(&self, stream: &StreamPlan) -> f64 {
        self.rows.get(stream.name.as_str()).map_or(0.0, |(rows, _)| *rows)
    }

    fn queue(&self, queue: usize) -> f64 {
        self.queues.get(queue).copied().unwrap_or_default()
    }

    /// Days in which what a run would read of a stream has changed.
    fn days(&self, stream: &StreamPlan, bound: i64) -> f64 {
        let state = self.recall.streams.get(&stream.name);
        state.map_or(1.0, |state| state.days_since(bound, self.now))
    }

    /// What the last run found that read what changed.
    fn changes(&self, stream: &StreamPlan) -> Option<Changes> {
        let state = self.recall.streams.get(&stream.name)?;
        state.changes.filter(|changes| changes.days > 0.0)
    }

    /// Records of a stream that change in so many days.
    fn changed(&self, stream: &StreamPlan, days: f64) -> f64 {
        let rows = self.rows(stream);
        match self.changes(stream) {
            Some(last) => (real(last.rows) * days / last.days).min(rows),
            None => (rows * CHANGED * days).clamp(1.0, rows.max(1.0)),
        }
    }

    /// Values of a queue that a reach of a stream is about. How many parents change, the stream itself
    /// knows best: what is listed again because of a look-back is not asked for again.
    pub(super) fn items(&self, queue: usize, (stream, reach): (&StreamPlan, Reach)) -> f64 {
        let Reach::Since(bound) = reach else { return self.queue(queue) };
        let days = self.days(stream, bound);
        if let Some(last) = self.changes(stream).filter(|_| stream.cursor.is_none()) {
            return (real(last.parents) * days / last.days).min(self.queue(queue));
        }
        let feeds = |stream: &&std::sync::Arc<StreamPlan>| {
            stream.requests.iter().flat_map(|one| &one.feeds).any(|feed| feed.queue == queue)
        };
        let changed = self.plan.streams.iter().filter(feeds);
        changed.map(|feeder| self.changed(feeder, days)).sum()
    }

    /// Rows that a reach brings.
    pub(super) fn rows_of(&self, stream: &StreamPlan, reach: Reach) -> f64 {
        let all = self.rows(stream);
        match (reach, self.changes(stream)) {
            (Reach::Since(bound), _) if stream.cursor.is_some() => {
                self.changed(stream, self.days(stream, bound))
            }
            (Reach::Since(bound), Some(last)) => {
                (real(last.rows) * self.days(stream, bound) / last.days).min(all)
            }
            (Reach::Since(_), None) => {
                let (mut now, mut whole) = (0.0, 0.0);
                for request in stream.own_requests() {
                    if let Iterate::Queue { queue, .. } = request.iterate {
                        now += self.items(queue, (stream, reach));
                        whole += self.queue(queue);
                    }
                }
                all * now / f64::max(whole, 1.0)
            }
            _ => all,
        }
    }

    /// Records of a stream that look otherwise than when they were last read.
    pub(super) fn unknown(&self, stream: &StreamPlan) -> f64 {
        let rows = self.rows(stream);
        let merges = stream.output.as_ref().is_some_and(|output| output.mode == Mode::Incremental);
        let state = self.recall.streams.get(&stream.name);
        let state = state.filter(|state| merges && state.holds_for(stream));
        let known = real(self.recall.looks(&stream.name));
        match state.and_then(|state| state.complete_at) {
            Some(at) => {
                let days = self.days(stream, at.timestamp_micros());
                self.changed(stream, days).max(rows - known).min(rows)
            }
            None => rows,
        }
    }

    /// Part of the parents whose only row follows from what is known. Those that change have more rows
    /// than others.
    pub(super) fn derived(
        &self,
        (stream, reach): (&StreamPlan, Reach),
        request: &RequestPlan,
    ) -> f64 {
        if request.routed.derive.is_none() {
            return 0.0;
        }
        let part = |derived: u64, all: u64| (all > 0).then(|| real(derived) / real(all));
        let changed = self.changes(stream).filter(|_| matches!(reach, Reach::Since(_)));
        let changed = changed.and_then(|last| part(last.derived, last.parents));
        let learnt = self.learnt(stream).filter(|learnt| learnt.derived > 0);
        let learnt = learnt.and_then(|learnt| part(learnt.derived, learnt.slices));
        changed.or(learnt).unwrap_or(DERIVED)
    }

    /// Part of the rows that follow from what is known.
    pub(super) fn derived_rows(
        &self,
        (stream, reach): (&StreamPlan, Reach),
        request: &RequestPlan,
        rows: f64,
    ) -> f64 {
        let Iterate::Queue { queue, .. } = request.iterate else { return 0.0 };
        let items = self.items(queue, (stream, reach));
        let derived = self.derived((stream, reach), request) * items;
        (derived / rows.max(1.0)).min(1.0)
    }
}
