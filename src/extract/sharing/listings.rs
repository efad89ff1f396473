//! Listings that several streams read alike: each page is asked for once, and read by all of them.
//!
//! The streams go in step: a page is asked for when all of them are about to ask for it. As soon as one
//! is elsewhere, each goes on alone.

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
    /// Somebody has moved, or is gone.
    moved: Notify,
}

struct ListingMember {
    plan: Arc<StreamPlan>,
    number: usize,
    /// Whether the request is one of those for changes.
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
    /// The page that is being read, and who has not taken it yet.
    page: Option<(Arc<OnceCell<Parts>>, Vec<usize>)>,
    /// Whether they go on alone.
    parted: bool,
}

#[derive(Default)]
struct ReaderState {
    /// URL of the page that it is about to ask for.
    at: Option<String>,
    gone: bool,
    stats: Option<Arc<Stats>>,
}

type Parts = Mutex<HashMap<usize, (Page, HeaderMap)>>;

/// The parties of a run, and the place of each stream's request in them.
pub(crate) fn places(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
) -> HashMap<(String, usize), SharedListing> {
    let mut parties: BTreeMap<String, Vec<ListingMember>> = BTreeMap::new();
    for (plan, read_plan) in plans {
        let changes = read_plan.sends_changes(plan);
        for (number, request) in read_plan.active(plan) {
            if matches!(request.iterate, Iterate::Once)
                && request.method == Method::GET
                && plan.limit.is_none()
            {
                let key = request.listing();
                let member = ListingMember { plan: Arc::clone(plan), number, changes };
                parties.entry(key).or_default().push(member);
            }
        }
    }
    let mut shared_listings = HashMap::new();
    for members in parties.into_values().filter(|members| members.len() > 1) {
        let names: Vec<_> = members.iter().map(|one| (one.plan.name.clone(), one.number)).collect();
        let places = members.iter().map(|_| ReaderState::default()).collect();
        let state = Mutex::new(State { places, ..State::default() });
        let party = Arc::new(ListingGroup { members, state, moved: Notify::new() });
        for (number, name) in names.into_iter().enumerate() {
            shared_listings.insert(name, SharedListing { party: Arc::clone(&party), number });
        }
    }
    shared_listings
}

/// A stream's place in a party; dropped, nobody waits for the stream any more.
pub(crate) struct SharedListing {
    party: Arc<ListingGroup>,
    number: usize,
}

impl Drop for SharedListing {
    fn drop(&mut self) {
        let mut state = self.party.state();
        if let Some(place) = state.places.get_mut(self.number) {
            place.gone = true;
        }
        state.taken(self.number);
        drop(state);
        self.party.moved.notify_waiters();
    }
}

impl State {
    /// Takes note that somebody has its part of the page, or wants none.
    fn taken(&mut self, number: usize) {
        if let Some((_, waiting)) = &mut self.page {
            waiting.retain(|one| *one != number);
            if waiting.is_empty() {
                self.page = None;
            }
        }
    }
}

/// What is to be done about a page.
enum Step {
    Wait,
    Alone,
    Together(Arc<OnceCell<Parts>>),
}

impl SharedListing {
    /// Says where the figures go.
    pub(crate) fn sit(&self, stats: &Arc<Stats>) {
        if let Some(place) = self.party.state().places.get_mut(self.number) {
            place.stats = Some(Arc::clone(stats));
        }
    }

    /// The page with this URL, read together with the others; `None` when the stream is to ask alone.
    pub(crate) async fn ask(
        &self,
        shared: &StreamContext,
        price: RequestCost<'_>,
        build: &(dyn Fn() -> Result<Request> + Send + Sync),
        url: &str,
    ) -> Result<Option<(Page, HeaderMap)>> {
        let party = &self.party;
        if let Some(place) = party.state().places.get_mut(self.number) {
            place.at = Some(url.to_owned());
        }
        party.moved.notify_waiters();
        let parts = loop {
            let moved = party.moved.notified();
            match party.step(self.number) {
                Step::Alone => return Ok(None),
                Step::Together(parts) => break parts,
                Step::Wait => {}
            }
            tokio::select! {
                biased;
                () = shared.enough.cancelled() => return Err(interrupted()),
                () = moved => {}
            }
        };
        let sent = parts.get_or_try_init(|| party.send(shared, price, build)).await;
        let part = match sent {
            Ok(parts) => parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            // Each for itself finds out what can be done about it.
            Err(_) => None,
        };
        if part.is_some() && !party.is_bearer(self.number) {
            shared.stats.borne.fetch_add(1, Ordering::Relaxed);
        }
        let mut state = party.state();
        state.parted |= part.is_none();
        if let Some(place) = state.places.get_mut(self.number) {
            place.at = None;
        }
        state.taken(self.number);
        drop(state);
        party.moved.notify_waiters();
        Ok(part)
    }
}

impl ListingGroup {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cost of what is read together stands with this one.
    fn is_bearer(&self, number: usize) -> bool {
        let state = self.state();
        let first = state.places.iter().position(|place| !place.gone);
        first == Some(number)
    }

    fn step(&self, number: usize) -> Step {
        let mut state = self.state();
        if state.parted {
            return Step::Alone;
        }
        if let Some((parts, waiting)) = &state.page {
            let mine = waiting.contains(&number);
            return if mine { Step::Together(Arc::clone(parts)) } else { Step::Wait };
        }
        let there: Vec<usize> = (0..state.places.len())
            .filter(|one| state.places.get(*one).is_some_and(|place| !place.gone))
            .collect();
        let at = |one: &usize| state.places.get(*one).and_then(|place| place.at.as_deref());
        if there.iter().any(|one| at(one).is_none()) {
            return Step::Wait;
        }
        if there.len() < 2 || there.iter().any(|one| at(one) != at(&number)) {
            state.parted = true;
            drop(state);
            self.moved.notify_waiters();
            return Step::Alone;
        }
        let parts = Arc::new(OnceCell::new());
        state.page = Some((Arc::clone(&parts), there));
        drop(state);
        self.moved.notify_waiters();
        Step::Together(parts)
    }

    /// Asks for a page, and reads it for all. The first of them bears the cost.
    async fn send(
        &self,
        shared: &StreamContext,
        price: RequestCost<'_>,
        build: &(dyn Fn() -> Result<Request> + Send + Sync),
    ) -> Result<Parts> {
        let (there, stats) = {
            let state = self.state();
            let there = state.page.as_ref().map(|(_, waiting)| waiting.clone());
            let there = there.unwrap_or_default();
            let first = there.iter().min().and_then(|first| state.places.get(*first));
            (there, first.and_then(|place| place.stats.clone()))
        };
        let members: Vec<(usize, &ListingMember)> =
            there.iter().filter_map(|number| Some((*number, self.members.get(*number)?))).collect();
        let stats = stats.unwrap_or_else(|| Arc::clone(&shared.stats));
        let bearer = members.iter().min_by_key(|(number, _)| *number);
        let call = Call {
            stream: bearer.map_or(&shared.plan.name, |(_, member)| &member.plan.name),
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
