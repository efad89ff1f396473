//! Listings that several streams read: each page is requested once, and decoded by all of them.
//!
//! The streams read in lockstep: a page is requested when all of them need it next. As soon as one needs another page,
//! each stream continues alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use tokio::sync::OnceCell;

use crate::decode::Page;
use crate::error::{Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::sharing::group::{Group, GroupState, Membership, decode_for, groups};
use crate::http::answer::Answer;
use crate::http::call::{Call, Need};
use crate::http::exchange::{HeaderMap, Method, Request};
use crate::plan::{Iterate, RequestPlan, StreamPlan};
use crate::planner::read_plan::ReadPlan;
use crate::quota::request_cost::RequestCost;
use crate::report::counters::Stats;

type Parts = Mutex<HashMap<usize, (Page, HeaderMap)>>;

/// The state of streams that read the same listing.
pub(crate) struct ListingState {
    /// Per member the page that it needs next; `None` once it has left.
    readers: Vec<Option<NextUrl>>,
    /// The current page, and the members that have not taken it yet.
    page: Option<(Arc<OnceCell<Parts>>, Vec<usize>)>,
    /// Whether each member continues alone.
    split_up: bool,
}

/// URL of the page that a member needs next; `None` while it handles a page.
type NextUrl = Option<String>;

/// A stream's membership in a group that reads the same listing.
pub(crate) type SharedListing = Membership<ListingState>;

/// Groups the listings of a run that several streams read, by stream and index of the request.
pub(crate) fn shared_listings(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
) -> HashMap<(String, usize), SharedListing> {
    let key = |plan: &StreamPlan, request: &RequestPlan| {
        let sharable = matches!(request.iterate, Iterate::Once)
            && request.method == Method::GET
            && plan.limit.is_none();
        sharable.then(|| request.listing())
    };
    groups(plans, key, |members| ListingState {
        readers: vec![Some(None); members.len()],
        page: None,
        split_up: false,
    })
}

/// How a member gets its next page.
enum PageAction {
    Alone,
    Together(Arc<OnceCell<Parts>>),
}

impl GroupState for ListingState {
    fn leave(&mut self, number: usize) {
        if let Some(reader) = self.readers.get_mut(number) {
            *reader = None;
        }
        self.taken(number);
    }
}

impl ListingState {
    fn set_next(&mut self, number: usize, url: NextUrl) {
        if let Some(Some(reader)) = self.readers.get_mut(number) {
            *reader = url;
        }
    }

    /// Records that a member has taken its part of the page, or needs none.
    fn taken(&mut self, number: usize) {
        if let Some((_, waiting)) = &mut self.page {
            waiting.retain(|one| *one != number);
            if waiting.is_empty() {
                self.page = None;
            }
        }
    }

    /// Whether the cost of shared pages is charged to this member.
    fn is_payer(&self, number: usize) -> bool {
        self.readers.iter().position(Option::is_some) == Some(number)
    }

    /// How a member gets its next page; `None`: it has to wait for other members.
    fn action(&mut self, number: usize) -> Option<PageAction> {
        if self.split_up {
            return Some(PageAction::Alone);
        }
        if let Some((parts, waiting)) = &self.page {
            return waiting.contains(&number).then(|| PageAction::Together(Arc::clone(parts)));
        }
        let readers = self.readers.iter().enumerate();
        let active: Vec<(usize, &NextUrl)> =
            readers.filter_map(|(number, reader)| Some((number, reader.as_ref()?))).collect();
        if active.iter().any(|(_, url)| url.is_none()) {
            return None;
        }
        let own = self.readers.get(number).and_then(Option::as_ref);
        if active.len() < 2 || active.iter().any(|(_, url)| Some(*url) != own) {
            self.split_up = true;
            return Some(PageAction::Alone);
        }
        let active = active.into_iter().map(|(number, _)| number).collect();
        let parts = Arc::new(OnceCell::new());
        self.page = Some((Arc::clone(&parts), active));
        Some(PageAction::Together(parts))
    }
}

impl SharedListing {
    /// Joins the group. `stats`: counters of the stream.
    pub(crate) fn join(&self, stats: &Arc<Stats>) {
        self.set_stats(stats);
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
        group.change(|state| state.set_next(self.number, Some(url.to_owned())));
        let action = group.wait(shared, |state| state.action(self.number)).await?;
        // Wakes the other members: there is a new page, or the group has split up.
        group.change(|_| ());
        let PageAction::Together(parts) = action else { return Ok(None) };
        let sent = parts.get_or_try_init(|| group.send(shared, price, build)).await;
        let part = match sent {
            Ok(parts) => parts.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            // Each stream requests the page itself, and handles its error.
            Err(_) => None,
        };
        let is_payer = group.change(|state| {
            state.split_up |= part.is_none();
            state.set_next(self.number, None);
            state.taken(self.number);
            state.is_payer(self.number)
        });
        if part.is_some() && !is_payer {
            shared.stats.shared_pages.fetch_add(1, Ordering::Relaxed);
        }
        Ok(part)
    }
}

impl Group<ListingState> {
    /// Requests a page, and decodes it for all members. The first of them is charged.
    async fn send(
        &self,
        shared: &StreamContext,
        price: RequestCost<'_>,
        build: &(dyn Fn() -> Result<Request> + Send + Sync),
    ) -> Result<Parts> {
        let waiting = self.state().page.as_ref().map(|(_, waiting)| waiting.clone());
        let mut waiting = waiting.unwrap_or_default();
        waiting.sort_unstable();
        let members = self.members(&waiting);
        let stats = self.stats(&members).unwrap_or_else(|| Arc::clone(&shared.stats));
        let call = Call {
            stream: members.first().map_or(&shared.plan.name, |(_, member)| &member.plan.name),
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
            for (number, _, page) in decode_for(&members, response)? {
                objects = objects.max(u64::try_from(page.rows).unwrap_or(u64::MAX));
                parts.insert(number, (page, response.headers.clone()));
            }
            Ok((parts, objects))
        });
        Ok(match answer.await? {
            Answer::Read(parts) => Mutex::new(parts),
            Answer::Given { .. } | Answer::Failed(_) => Mutex::default(),
        })
    }
}
