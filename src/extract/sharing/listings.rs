//! Listings that several streams read: each page is requested once, and decoded by all of them.
//!
//! The streams read in lockstep: a page is requested when all of them need it next. As soon as one needs another page,
//! each stream continues alone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tokio::sync::{Notify, OnceCell};

use crate::decode::{DecodeError, Page};
use crate::error::{Kind, Result};
use crate::extract::context::StreamContext;
use crate::http::answer::Answer;
use crate::http::call::{Call, Need};
use crate::http::client::interrupted;
use crate::http::exchange::{HeaderMap, Method, Request};
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::quota::request_cost::RequestCost;
use crate::report::counters::Stats;

/// Streams that read the same listing.
struct ListingGroup {
    members: Vec<ListingMember>,
    state: Mutex<State>,
    /// Notified when a member needs another page or leaves.
    moved: Notify,
}

struct ListingMember {
    plan: Arc<StreamPlan>,
    number: usize,
    /// Whether the request is one for changes.
    changes: bool,
}

impl ListingMember {
    fn request(&self) -> Option<&RequestPlan> {
        let all = if self.changes { &self.plan.changes } else { &self.plan.requests };
        all.get(self.number)
    }
}

#[derive(Default)]
struct State {
    places: Vec<ReaderState>,
    /// The current page, and the members that have not taken it yet.
    page: Option<(Arc<OnceCell<Parts>>, Vec<usize>)>,
    /// Whether each member continues alone.
    split_up: bool,
}

#[derive(Default)]
struct ReaderState {
    /// URL of the page that it needs next.
    at: Option<String>,
    gone: bool,
    stats: Option<Arc<Stats>>,
}

type Parts = Mutex<HashMap<usize, (Page, HeaderMap)>>;

/// Groups the listings of a run that several streams read, by stream and index of the request.
pub(crate) fn shared_listings(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
) -> HashMap<(String, usize), SharedListing> {
    let mut groups: BTreeMap<String, Vec<ListingMember>> = BTreeMap::new();
    for (plan, read_plan) in plans {
        let changes = read_plan.sends_changes(plan);
        for (number, request) in read_plan.active(plan) {
            if matches!(request.iterate, Iterate::Once)
                && request.method == Method::GET
                && plan.limit.is_none()
            {
                let key = request.listing();
                let member = ListingMember { plan: Arc::clone(plan), number, changes };
                groups.entry(key).or_default().push(member);
            }
        }
    }
    let mut shared_listings = HashMap::new();
    for members in groups.into_values().filter(|members| members.len() > 1) {
        let names: Vec<_> = members.iter().map(|one| (one.plan.name.clone(), one.number)).collect();
        let places = members.iter().map(|_| ReaderState::default()).collect();
        let state = Mutex::new(State { places, ..State::default() });
        let group = Arc::new(ListingGroup { members, state, moved: Notify::new() });
        for (number, name) in names.into_iter().enumerate() {
            shared_listings.insert(name, SharedListing { group: Arc::clone(&group), number });
        }
    }
    shared_listings
}

/// A stream's membership in a group. Once it is dropped, the group no longer waits for the stream.
pub(crate) struct SharedListing {
    group: Arc<ListingGroup>,
    number: usize,
}

impl Drop for SharedListing {
    fn drop(&mut self) {
        let mut state = self.group.state();
        if let Some(place) = state.places.get_mut(self.number) {
            place.gone = true;
        }
        state.taken(self.number);
        drop(state);
        self.group.moved.notify_waiters();
    }
}

impl State {
    /// Records that a member has taken its part of the page, or needs none.
    fn taken(&mut self, number: usize) {
        if let Some((_, waiting)) = &mut self.page {
            waiting.retain(|one| *one != number);
            if waiting.is_empty() {
                self.page = None;
            }
        }
    }
}

/// How a member gets its next page.
enum PageAction {
    Wait,
    Alone,
    Together(Arc<OnceCell<Parts>>),
}

impl SharedListing {
    /// Joins the group. `stats`: counters of the stream.
    pub(crate) fn join(&self, stats: &Arc<Stats>) {
        if let Some(place) = self.group.state().places.get_mut(self.number) {
            place.stats = Some(Arc::clone(stats));
        }
    }

    /// The page with this URL, read together with the other members. `None`: the stream requests it alone.
    pub(crate) async fn ask(
        &self,
        shared: &StreamContext,
        price: RequestCost<'_>,
        build: &(dyn Fn() -> Result<Request> + Send + Sync),
        url: &str,
    ) -> Result<Option<(Page, HeaderMap)>> {
        let group = &self.group;
        if let Some(place) = group.state().places.get_mut(self.number) {
            place.at = Some(url.to_owned());
        }
        group.moved.notify_waiters();
        let parts = loop {
            let moved = group.moved.notified();
            match group.action(self.number) {
                PageAction::Alone => return Ok(None),
                PageAction::Together(parts) => break parts,
                PageAction::Wait => {}
            }
            tokio::select! {
                biased;
                () = shared.enough.cancelled() => return Err(interrupted()),
                () = moved => {}
            }
        };
        let sent = parts.get_or_try_init(|| group.send(shared, price, build)).await;
        let part = match sent {
            Ok(parts) => parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            // Each stream requests the page itself, and handles its error.
            Err(_) => None,
        };
        if part.is_some() && !group.is_payer(self.number) {
            shared.stats.shared_pages.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = group.state();
        state.split_up |= part.is_none();
        if let Some(place) = state.places.get_mut(self.number) {
            place.at = None;
        }
        state.taken(self.number);
        drop(state);
        group.moved.notify_waiters();
        Ok(part)
    }
}

impl ListingGroup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cost of shared pages is charged to this member.
    fn is_payer(&self, number: usize) -> bool {
        let state = self.state();
        let first = state.places.iter().position(|place| !place.gone);
        first == Some(number)
    }

    fn action(&self, number: usize) -> PageAction {
        let mut state = self.state();
        if state.split_up {
            return PageAction::Alone;
        }
        if let Some((parts, waiting)) = &state.page {
            let mine = waiting.contains(&number);
            return if mine { PageAction::Together(Arc::clone(parts)) } else { PageAction::Wait };
        }
        let active: Vec<usize> = (0..state.places.len())
            .filter(|one| state.places.get(*one).is_some_and(|place| !place.gone))
            .collect();
        let at = |one: &usize| state.places.get(*one).and_then(|place| place.at.as_deref());
        if active.iter().any(|one| at(one).is_none()) {
            return PageAction::Wait;
        }
        if active.len() < 2 || active.iter().any(|one| at(one) != at(&number)) {
            state.split_up = true;
            drop(state);
            self.moved.notify_waiters();
            return PageAction::Alone;
        }
        let parts = Arc::new(OnceCell::new());
        state.page = Some((Arc::clone(&parts), active));
        drop(state);
        self.moved.notify_waiters();
        PageAction::Together(parts)
    }

    /// Requests a page, and decodes it for all members. The first of them is charged.
    async fn send(
        &self,
        shared: &StreamContext,
        price: RequestCost<'_>,
        build: &(dyn Fn() -> Result<Request> + Send + Sync),
    ) -> Result<Parts> {
        let (active, stats) = {
            let state = self.state();
            let active = state.page.as_ref().map(|(_, waiting)| waiting.clone());
            let active = active.unwrap_or_default();
            let first = active.iter().min().and_then(|first| state.places.get(*first));
            (active, first.and_then(|place| place.stats.clone()))
        };
        let members: Vec<(usize, &ListingMember)> = active
            .iter()
            .filter_map(|number| Some((*number, self.members.get(*number)?)))
            .collect();
        let stats = stats.unwrap_or_else(|| Arc::clone(&shared.stats));
        let payer = members.iter().min_by_key(|(number, _)| *number);
        let call = Call {
            stream: payer.map_or(&shared.plan.name, |(_, member)| &member.plan.name),
            stats: &stats,
            rules: &shared.plan.rules,
            child: false,
            need: Need::Tentative,
            leaves: false,
            shared: false,
            price,
            build,
            shrink: &|| false,
            narrow: &|| false,
        };
        let answer = shared.env.client.ask(&call, |response| {
            let (mut parts, mut objects) = (HashMap::new(), 0);
            for (number, member) in &members {
                let Some(request) = member.request() else { continue };
                match request.decoder.decode(response.json()) {
                    Ok(page) => {
                        objects = objects.max(u64::try_from(page.rows).unwrap_or(u64::MAX));
                        parts.insert(*number, (page, response.headers.clone()));
                    }
                    Err(error @ (DecodeError::Malformed(_) | DecodeError::NotJson(_))) => {
                        return Err(error);
                    }
                    Err(DecodeError::Shape(why)) => tracing::debug!(why, "read alone"),
                }
            }
            Ok((parts, objects))
        });
        Ok(match answer.await? {
            Answer::Read(parts) => Mutex::new(parts),
            Answer::Given { .. } | Answer::Failed(_) => Mutex::default(),
        })
    }
}
