//! Groups of streams that send a request together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::decode::{DecodeError, Page};
use crate::error::Result;
use crate::extract::context::StreamContext;
use crate::http::client::interrupted;
use crate::http::exchange::Response;
use crate::plan::{RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::report::counters::Stats;

/// A request of a stream, as a member of a group.
pub(crate) struct Member {
    pub(crate) plan: Arc<StreamPlan>,
    /// Index of the request.
    request: usize,
    /// Whether the request is one for changes.
    changes: bool,
}

impl Member {
    /// The member's request.
    pub(crate) fn request(&self) -> &RequestPlan {
        let all = if self.changes { &self.plan.changes } else { &self.plan.requests };
        match all.get(self.request) {
            Some(request) => request,
            None => unreachable!("groups are made of the requests of the plan"),
        }
    }
}

/// What a group does when a member leaves.
pub(crate) trait GroupState {
    /// The member no longer takes part. Called once per member.
    fn leave(&mut self, number: usize);
}

/// A group, with the state that its members share.
pub(crate) struct Group<S> {
    pub(crate) members: Vec<Member>,
    state: Mutex<S>,
    /// Per member the counters of its stream, once it has joined.
    stats: Mutex<Vec<Option<Arc<Stats>>>>,
    /// Notified when the state changes.
    changed: Notify,
}

impl<S: GroupState> Group<S> {
    pub(crate) fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the members that wait.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `ready` returns a value. It is called after each change of the state.
    pub(crate) async fn wait<T: Send>(
        &self,
        shared: &StreamContext,
        mut ready: impl FnMut(&mut S) -> Option<T> + Send,
    ) -> Result<T>
    where
        S: Send,
    {
        loop {
            let changed = self.changed.notified();
            if let Some(value) = ready(&mut self.state()) {
                return Ok(value);
            }
            tokio::select! {
                biased;
                () = shared.enough.cancelled() => return Err(interrupted()),
                () = changed => {}
            }
        }
    }

    /// The members with these numbers.
    pub(crate) fn members(&self, numbers: &[usize]) -> Vec<(usize, &Member)> {
        numbers.iter().filter_map(|number| Some((*number, self.members.get(*number)?))).collect()
    }

    /// The counters that a shared request is charged to: those of the first of these members.
    pub(crate) fn stats(&self, members: &[(usize, &Member)]) -> Option<Arc<Stats>> {
        let (number, _) = members.first()?;
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.get(*number).cloned().flatten()
    }
}

/// A stream's membership in a group. Once it is dropped, the group no longer waits for the stream.
pub(crate) struct Membership<S: GroupState> {
    pub(crate) group: Arc<Group<S>>,
    pub(crate) number: usize,
}

impl<S: GroupState> Membership<S> {
    /// Sets the counters of the stream.
    pub(crate) fn set_stats(&self, stats: &Arc<Stats>) {
        let mut all = self.group.stats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = all.get_mut(self.number) {
            *slot = Some(Arc::clone(stats));
        }
    }
}

impl<S: GroupState> Drop for Membership<S> {
    fn drop(&mut self) {
        self.group.change(|state| state.leave(self.number));
    }
}

/// Groups the requests of a run with the same key. Requests without a key, or with a key that no other request has, are
/// in no group. `state` makes the state of a group. Returns the memberships by stream and index of the request.
pub(crate) fn groups<K: Ord, S: GroupState>(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
    key: impl Fn(&StreamPlan, &RequestPlan) -> Option<K>,
    state: impl Fn(&[Member]) -> S,
) -> HashMap<(String, usize), Membership<S>> {
    let mut by_key: BTreeMap<K, Vec<Member>> = BTreeMap::new();
    for (plan, read_plan) in plans {
        let changes = read_plan.sends_changes(plan);
        for (request, one) in read_plan.active(plan) {
            if let Some(key) = key(plan, one) {
                let member = Member { plan: Arc::clone(plan), request, changes };
                by_key.entry(key).or_default().push(member);
            }
        }
    }
    let mut memberships = HashMap::new();
    for members in by_key.into_values().filter(|members| members.len() > 1) {
        let names: Vec<_> =
            members.iter().map(|one| (one.plan.name.clone(), one.request)).collect();
        let group = Arc::new(Group {
            state: Mutex::new(state(&members)),
            stats: Mutex::new(vec![None; members.len()]),
            changed: Notify::new(),
            members,
        });
        for (number, name) in names.into_iter().enumerate() {
            memberships.insert(name, Membership { group: Arc::clone(&group), number });
        }
    }
    memberships
}

/// Decodes a response for each member. Leaves out members whose records the response does not contain.
pub(crate) fn decode_for<'group>(
    members: &[(usize, &'group Member)],
    response: &Response,
) -> Result<Vec<(usize, &'group Member, Page)>, DecodeError> {
    let mut pages = Vec::with_capacity(members.len());
    for (number, member) in members {
        match member.request().decoder.decode(response.json()) {
            Ok(page) => pages.push((*number, *member, page)),
            Err(error @ (DecodeError::Malformed(_) | DecodeError::NotJson(_))) => {
                return Err(error);
            }
            // The stream sends its own request.
            Err(DecodeError::Shape(why)) => {
                tracing::debug!(stream = member.plan.name, why, "not in the shared response");
            }
        }
    }
    Ok(pages)
}
