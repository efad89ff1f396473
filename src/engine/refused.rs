//! A slice of which something is refused: what is left out, what goes on otherwise, what begins anew.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use super::{
    fusion::{Refusal, Seat},
    listing::Listing,
    load::{Note, Slice},
    slice::Walk,
};
use crate::error::{Error, Kind, Result};
use crate::report::{Event, SliceError};
use crate::spec::Then;

impl<'run> Walk<'run> {
    /// Takes note that a request which others share with it is refused.
    pub(super) async fn note_refused(&self) -> Result<()> {
        let number = self.slice.request;
        let refused = self.source.seat.as_ref().is_some_and(Seat::is_refused);
        if !refused || self.shared.is_refused(number) {
            return Ok(());
        }
        self.shared.refuse(number);
        self.shared.tell(Note::RouteRefused).await
    }

    /// Whether a refusal of a listing's next page would say that the API does not serve the route.
    pub(super) fn is_tentative(&self, listing: &Listing<'_>) -> bool {
        let routed = &listing.request.routed;
        let shared = self.shared;
        let replaces_all =
            routed.own.is_none() && (shared.may_read_whole() || !shared.is_by_parents());
        let open = routed.found.is_some() || routed.fetch.is_some() || replaces_all;
        // Once it was served, a refusal is about what is asked for.
        let unsure = listing.depth == 0 && open && !shared.is_served(listing.number);
        listing.number == self.slice.request
            && listing.is_fresh()
            && (unsure || listing.is_fetching())
    }

    /// Goes on without the route, value by value or from the slice's start; where that is not possible, the
    /// stream is to be read anew without it.
    pub(super) async fn route_refused(&mut self, refusal: Refusal) -> Result<()> {
        let shared = self.shared;
        let first = shared.refuse(self.slice.request);
        let routed = &self.request.routed;
        if routed.found.is_none() && routed.fetch.is_none() {
            return Err(Error::new(Kind::Rejected, refusal.to_string()));
        }
        if first {
            self.tell_refused(&refusal).await?;
        }
        if self.request.routed.fetch.is_some() {
            return self.restart().await;
        }
        self.open = self.own_listings();
        Ok(())
    }

    async fn tell_refused(&self, refusal: &Refusal) -> Result<()> {
        let shared = self.shared;
        let stream = Some(shared.plan.name.clone());
        let route = shared.route();
        let message =
            format!("{refusal}; the route `{route}` is left for the stream's own requests");
        shared.env.client.reporter.report(&Event::Warning { stream, message });
        shared.tell(Note::RouteRefused).await
    }

    /// The own request was answered where the shared one was refused: it was not because of the object.
    pub(super) async fn settle_doubt(&mut self) -> Result<()> {
        let Some(refusal) = self.doubted.take() else { return Ok(()) };
        let first = self.source.seat.as_ref().is_some_and(Seat::refuse);
        if !first {
            return Ok(());
        }
        self.tell_refused(&refusal).await
    }

    /// Begins anew, since a position in it is no longer good.
    pub(super) async fn restart(&mut self) -> Result<()> {
        let attempt = self.slice.attempt + 1;
        let anew = Arc::new(Slice { attempt, ..self.slice.as_ref().clone() });
        self.shared.stats.rows.fetch_sub(std::mem::take(&mut self.rows), Ordering::Relaxed);
        self.known = None;
        let number = self.slice.request;
        self.open = if self.request.routed.embedded.is_some() || self.shared.is_refused(number) {
            self.own_listings()
        } else {
            vec![Listing::first((number, self.request), &self.scope)]
        };
        let rest = self.rest();
        let slice = std::mem::replace(&mut self.slice, Arc::clone(&anew));
        self.shared.tell(Note::Restart { slice, anew, rest }).await
    }

    /// Records a refusal; the slice goes on where only a page, or one of its values, is left out.
    pub(super) async fn refused(
        &mut self,
        mut listing: Listing<'run>,
        then: Then,
        error: SliceError,
    ) -> Result<ControlFlow<()>> {
        let shared = self.shared;
        shared.record(&error);
        let mut failed = shared.failed(&self.slice, error);
        if then == Then::StopStream {
            let gap = format!("the stream was stopped: {}", failed.error.message);
            shared.leave(failed, gap).await?;
            shared.enough.cancel();
            return Ok(ControlFlow::Break(()));
        }
        if self.request.routed.found.is_some() && self.slice.items.len() > 1 {
            shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
            let value = listing.open().with.into_iter().next().unwrap_or_default();
            failed.carried.clear();
            failed.values = vec![value];
            shared.tell(Note::Part(failed)).await?;
            self.whole = false;
            return Ok(ControlFlow::Continue(()));
        }
        let size = shared.page_sizes.get(listing.number);
        let size = size.map(|size| size.load(Ordering::Relaxed));
        let after = listing.pager.position_after_unread(&listing.at, size);
        let Some(at) = after.filter(|_| then == Then::SkipPage) else {
            shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
            shared.tell(Note::Refused(Arc::clone(&self.slice), failed)).await?;
            return Ok(ControlFlow::Break(()));
        };
        let gap = format!("a page was left out: {}", failed.error.message);
        shared.leave(failed, gap).await?;
        self.whole = false;
        listing.guard().check(&at, 0, false)?;
        self.open.push(Listing { at, ..listing });
        Ok(ControlFlow::Continue(()))
    }
}
