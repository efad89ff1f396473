//! The listings of a slice, by the kind of its request: those with which it starts, how one continues, and what
//! replaces a request that the API refuses.

use std::sync::Arc;

use crate::error::Result;
use crate::extract::messages::SeenRecord;
use crate::extract::pages::fetch_by_id;
use crate::extract::pages::fingerprint::Fingerprint;
use crate::extract::pages::listing::Listing;
use crate::extract::pages::request::first_url;
use crate::http::pagination::Position;
use crate::plan::{Iterate, OWN, RequestPlan, RouteKind, StreamPlan};
use crate::progress::item::QueueItem;
use crate::progress::saved::OpenListing;
use crate::progress::versions::KnownFingerprints;
use crate::template::{Scope, Value};

/// The request of a slice.
pub(crate) struct Route<'plan> {
    pub(crate) plan: &'plan StreamPlan,
    /// Index of the request.
    pub(crate) number: usize,
    pub(crate) request: &'plan RequestPlan,
    pub(crate) scope: Arc<Scope>,
}

/// What replaces a request that the API refuses.
pub(crate) enum Fallback<'plan> {
    /// The stream is read again by another route.
    RestartStream,
    /// The slice is read again by the default request.
    RestartSlice,
    /// The slice continues with these listings of the default request.
    Continue(Vec<Listing<'plan>>),
}

impl<'plan> Route<'plan> {
    /// The listing of the slice's own request.
    pub(crate) fn listing(&self) -> Listing<'plan> {
        Listing::first(self.number, self.request, &self.scope)
    }

    /// The listings with which a slice starts. `refused`: the API has refused the request. `limited`: the run takes
    /// a limited number of rows.
    pub(crate) fn start(
        &self,
        items: &[QueueItem],
        refused: bool,
        limited: bool,
    ) -> Vec<Listing<'plan>> {
        match self.request.kind {
            RouteKind::NoRequest => Vec::new(),
            RouteKind::Embedded(_) => self.default_listings(items),
            RouteKind::Covers(_) | RouteKind::Listing if !refused => vec![self.listing()],
            // A limited run needs few rows, so that fetching changed records by id saves nothing.
            RouteKind::ListThenFetch(_) if !refused && !limited => vec![self.listing()],
            _ => self.default_listings(items),
        }
    }

    /// The listings of the default request that replace the slice's request, in reverse order. A request that
    /// replaces no other is its own default.
    pub(crate) fn default_listings(&self, items: &[QueueItem]) -> Vec<Listing<'plan>> {
        match self.request.kind {
            RouteKind::Embedded(_) | RouteKind::Covers(_) => {
                let values = items.iter().rev().map(|item| item.value.as_ref());
                let listings: Vec<_> =
                    values.filter_map(|value| self.default_listing_of(value)).collect();
                if listings.is_empty() { vec![self.listing()] } else { listings }
            }
            RouteKind::ListThenFetch(_) => {
                vec![self.default_listing().unwrap_or_else(|| self.listing())]
            }
            RouteKind::Listing | RouteKind::NoRequest => vec![self.listing()],
        }
    }

    fn default_request(&self) -> Option<(usize, &'plan RequestPlan)> {
        let number = self.request.own?;
        Some((number, self.plan.requests.get(number)?))
    }

    /// The default request's listing for the whole slice.
    fn default_listing(&self) -> Option<Listing<'plan>> {
        let (number, request) = self.default_request()?;
        let first = Listing::first(number, request, &self.scope);
        Some(Listing { with: vec![OWN.to_owned()], ..first })
    }

    /// The default request's listing for one value of the slice.
    fn default_listing_of(&self, value: &str) -> Option<Listing<'plan>> {
        let (number, request) = self.default_request()?;
        let Iterate::Queue { variable, .. } = &request.iterate else { return None };
        let scope = self.scope.as_ref().clone().with_only(Arc::clone(variable), Value::from(value));
        let first = Listing::first(number, request, &Arc::new(scope));
        Some(Listing { with: vec![value.to_owned()], ..first })
    }

    /// A listing at its next page.
    pub(crate) fn continued(
        &self,
        listing: Listing<'plan>,
        at: Position,
        items: &[QueueItem],
    ) -> Option<Listing<'plan>> {
        match self.request.kind {
            RouteKind::Embedded(_) if listing.number == self.number => {
                self.default_listings(items).pop().map(|rest| Listing { at, ..rest })
            }
            _ => Some(Listing { at, ..listing }),
        }
    }

    /// Position in the default request's listing after an embedded list, by the token in the response.
    pub(crate) fn after_embedded(
        &self,
        token: &str,
        items: &[QueueItem],
        base_url: &str,
    ) -> Result<Position> {
        let rest = self.default_listings(items).pop();
        let (Some(embedded), Some(rest)) = (self.request.kind.embedded(), rest) else {
            return Ok(Position::First);
        };
        let mut url = first_url(base_url, &rest)?;
        url.query_pairs_mut().append_pair(&embedded.param, token);
        Ok(Position::Query(url.query().unwrap_or_default().to_owned()))
    }

    /// Listings of the values that a response does not cover. `covered`: the values that it covers; `None`: all.
    /// `part`: range of the slice's values that the request was about; `None`: all.
    pub(crate) fn uncovered(
        &self,
        items: &[QueueItem],
        covered: Option<Vec<String>>,
        part: Option<(usize, usize)>,
    ) -> Vec<Listing<'plan>> {
        let Some(covered) = covered else { return Vec::new() };
        let (from, to) = part.unwrap_or((0, items.len()));
        let items = items.get(from..to).unwrap_or_default();
        let values = items.iter().map(|item| item.value.as_ref());
        let missing = values.filter(|value| !covered.iter().any(|one| one == value));
        missing.filter_map(|value| self.default_listing_of(value)).collect()
    }

    /// The records to save fingerprints of, given those on a page of a request with index `number`. Adds the listings
    /// that fetch new and changed records to `open`.
    pub(crate) fn seen(
        &self,
        number: usize,
        fingerprints: Vec<Fingerprint>,
        known: Option<&KnownFingerprints>,
        open: &mut Vec<Listing<'plan>>,
    ) -> Vec<SeenRecord> {
        match &self.request.kind {
            RouteKind::ListThenFetch(fetch) if number == self.number => {
                let (unchanged, changed) = fetch_by_id::split(fingerprints, known);
                fetch_by_id::open(&self.listing(), fetch, changed, open);
                unchanged.into_iter().map(|one| one.seen(true)).collect()
            }
            _ => fingerprints.into_iter().map(|one| one.seen(false)).collect(),
        }
    }

    /// Whether a listing is about a part of the slice's values.
    pub(crate) fn is_part(&self, listing: &Listing<'_>, items: &[QueueItem]) -> bool {
        listing.part.is_some() || self.request.kind.covers().is_some() && items.len() > 1
    }

    /// Whether a refusal of a listing's first page leaves the slice another request. A refused shared request of an embedded
    /// list is handled before there is a listing.
    pub(crate) fn has_fallback_in_slice(&self) -> bool {
        matches!(self.request.kind, RouteKind::Covers(_) | RouteKind::ListThenFetch(_))
    }

    /// What the slice does after the API refused its request.
    pub(crate) fn fallback(&self, items: &[QueueItem]) -> Fallback<'plan> {
        match self.request.kind {
            RouteKind::Covers(_) => Fallback::Continue(self.default_listings(items)),
            RouteKind::ListThenFetch(_) => Fallback::RestartSlice,
            RouteKind::Listing | RouteKind::NoRequest | RouteKind::Embedded(_) => {
                Fallback::RestartStream
            }
        }
    }

    /// A listing that an earlier process started. `None` if the plan does not have it any more.
    pub(crate) fn resumed(&self, open: OpenListing) -> Option<Listing<'plan>> {
        if open.depth > 0 {
            return match &self.request.kind {
                RouteKind::ListThenFetch(fetch) => {
                    Some(fetch_by_id::resumed(&self.listing(), fetch, open))
                }
                _ => self.resumed_children(open),
            };
        }
        let replacement = open.with.first().and_then(|value| match self.request.kind {
            RouteKind::ListThenFetch(_) => self.default_listing(),
            RouteKind::Embedded(_) | RouteKind::Covers(_) => self.default_listing_of(value),
            RouteKind::Listing | RouteKind::NoRequest => None,
        });
        let first = replacement.unwrap_or_else(|| self.listing());
        let first = match open.part {
            Some(part) => first.of_part(part),
            None => first,
        };
        Some(Listing { at: open.at, total: open.total, ..first })
    }

    fn resumed_children(&self, open: OpenListing) -> Option<Listing<'plan>> {
        let children = self.request.children.as_ref()?;
        let mut scope = self.scope.as_ref().clone();
        for ((variable, _), value) in children.with.iter().zip(&open.with) {
            scope = scope.with(Arc::clone(variable), Value::from(value.as_str()));
        }
        Some(Listing {
            scope: Arc::new(scope),
            path: &children.path,
            query: &children.query,
            pager: &children.pager,
            with: open.with,
            at: open.at,
            total: open.total,
            depth: open.depth,
            ..self.listing()
        })
    }
}
