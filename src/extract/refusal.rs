//! Handles refused requests of a slice: what is left out, what other requests replace, and what is read again.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use arrow_array::RecordBatch;

use crate::error::{Error, Kind, Result};
use crate::extract::messages::{Slice, SliceEvent};
use crate::extract::pages::fingerprint::ids;
use crate::extract::pages::listing::{Listing, ReducedRequest};
use crate::extract::pages::page::{Fetched, is_child};
use crate::extract::pages::route::Fallback;
use crate::extract::pages::split::halves;
use crate::extract::sharing::fused::{FusedRequest, RequestRefusal};
use crate::extract::slice::SliceRun;
use crate::http::answer::{Answer, Cause, FailedRequest, is_too_long};
use crate::progress::saved::Doubt;
use crate::report::{Event, SliceError};
use crate::secret::shown;
use crate::spec::{Meaning, Then};

/// Maximum number of restarts of a slice because a position expired.
const MAX_RESTARTS: u32 = 3;
/// Maximum number of consecutive unreadable pages that are skipped. With more, the slice fails.
const MAX_UNREAD: u32 = 10;

impl<'run> SliceRun<'run> {
    /// Handles a page that the API did not return. Breaks if the slice ends with it.
    pub(crate) async fn unread(
        &mut self,
        listing: Listing<'run>,
        answer: Answer<Fetched>,
    ) -> Result<ControlFlow<()>> {
        let (then, means, url, status, message) = match answer {
            Answer::Read(_) => return Ok(ControlFlow::Continue(())),
            Answer::Failed(failed) => return self.failed(listing, *failed).await,
            Answer::Given { then, means, url, status, message } => {
                (then, means, url, status, message)
            }
        };
        let tentative = self.is_tentative(&listing);
        let said = || match status {
            Some(status) => format!("{status} {message}"),
            None => message.clone(),
        };
        if then == Then::Empty && !listing.is_fetching() {
            return Ok(ControlFlow::Continue(()));
        }
        if is_too_long(status, &url) && self.halve(&listing) {
            self.links.shorten(self.slice.items.len());
            return Ok(ControlFlow::Continue(()));
        }
        if then == Then::Gone && (!tentative || self.is_answered(&listing)) {
            let error = self.slice_error(&listing, url.as_str(), status, message);
            return self.gone(&listing, error).await;
        }
        if tentative {
            let path = url.path().to_owned();
            let sure = self.shared.reads_changes() || listing.is_fetching();
            if means == Some(Meaning::Credentials) && sure {
                let what = format!("`{path}` was refused: {message}");
                let known = self.shared.env.client.lockout.error();
                return Err(known.unwrap_or_else(|| Error::new(Kind::Credentials, what)));
            }
            self.route_refused(RequestRefusal { path, status, message, gone: false }).await?;
            return Ok(ControlFlow::Continue(()));
        }
        if then == Then::RestartSlice {
            if listing.is_fresh() || self.slice.attempt >= MAX_RESTARTS {
                let what = format!("`{}` was refused: {}", url.path(), said());
                return Err(Error::new(Kind::Rejected, what));
            }
            self.restart().await?;
            return Ok(ControlFlow::Continue(()));
        }
        let error = self.slice_error(&listing, url.as_str(), status, message);
        self.refused(listing, then, error).await
    }

    /// Whether the API has answered a request of the same kind.
    fn is_answered(&self, listing: &Listing<'_>) -> bool {
        self.shared.env.answered.has(&listing.kind())
    }

    pub(crate) fn slice_error(
        &self,
        listing: &Listing<'_>,
        url: &str,
        status: Option<u16>,
        message: String,
    ) -> SliceError {
        let (stream, slice) = (self.shared.plan.name.clone(), listing.scope.describe());
        SliceError { stream, slice, url: shown(url), status, message }
    }

    /// Splits a listing in two, each with half of its values. Returns `false` if it has one value.
    fn halve(&mut self, listing: &Listing<'run>) -> bool {
        let halves = halves(&self.route, listing);
        let halved = halves.is_some();
        self.open.extend(halves.into_iter().flatten());
        halved
    }

    /// Leaves out an object that does not exist, with its children. The rows of a parent stay until listings no longer
    /// contain the parent.
    pub(crate) async fn gone(
        &mut self,
        listing: &Listing<'run>,
        error: SliceError,
    ) -> Result<ControlFlow<()>> {
        if self.halve(listing) {
            return Ok(ControlFlow::Continue(()));
        }
        let shared = self.shared;
        shared.keep_refusal(&error);
        let mut failed = shared.failed(&self.slice, error);
        let whole = listing.depth == 0 && !self.route.is_part(listing, &self.slice.items);
        if whole {
            let slice = Some(Arc::clone(&self.slice));
            let doubt = Doubt { kind: listing.kind(), child: false, slice: failed };
            shared.send(SliceEvent::Gone { slice, doubt }).await?;
            return Ok(ControlFlow::Break(()));
        }
        self.whole &= listing.depth > 0;
        failed.values = self.values_of(listing);
        let items = self.slice.items.iter();
        let left = items.filter(|item| failed.values.iter().any(|value| **value == *item.value));
        failed.carried = left.map(|item| item.carried.to_string()).collect();
        let doubt = Doubt { kind: listing.kind(), child: true, slice: failed };
        shared.send(SliceEvent::Gone { slice: None, doubt }).await?;
        Ok(ControlFlow::Continue(()))
    }

    /// The values of the slice that a listing is about.
    fn values_of(&self, listing: &Listing<'_>) -> Vec<String> {
        let items = self.slice.items.iter().map(|item| item.value.to_string());
        match listing.part {
            Some((from, to)) => items.skip(from).take(to - from).collect(),
            None if listing.depth > 0 => items.collect(),
            None => listing.with.first().cloned().into_iter().collect(),
        }
    }

    /// Continues without an object or page that the API does not return although it answers other requests.
    async fn failed(
        &mut self,
        listing: Listing<'run>,
        failed: FailedRequest,
    ) -> Result<ControlFlow<()>> {
        let FailedRequest { error: failure, url, status, message, cause } = failed;
        if self.halve(&listing) {
            if cause == Cause::TooLong {
                self.links.shorten(self.slice.items.len());
            }
            return Ok(ControlFlow::Continue(()));
        }
        let pager = listing.pager;
        let costly =
            pager.costly().iter().filter(|name| url.query_pairs().any(|(one, _)| one == **name));
        let costly = costly.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let smallest = pager.smallest_page();
        // With several records per page, records that have no fault would lose those columns, too.
        let single = smallest.is_some() || listing.depth > 0 || !pager.is_paged();
        if cause == Cause::Heavy && !costly.is_empty() && listing.lean.is_none() && single {
            let message =
                format!("read without {costly}, because the server fails with it: {message}");
            let lean = Some(ReducedRequest { status, message });
            self.open.push(Listing { narrow: smallest, lean, ..listing });
            return Ok(ControlFlow::Continue(()));
        }
        let error = self.slice_error(&listing, url.as_str(), status, message);
        let follows = pager.position_after_unread(&listing.at, smallest).is_some();
        if cause == Cause::Heavy && follows && self.unread < MAX_UNREAD {
            self.unread += 1;
            let listing = Listing { narrow: smallest, lean: None, ..listing };
            return self.refused(listing, Then::SkipPage, error).await;
        }
        if !is_child(&listing) || !self.shared.env.answered.excuses(listing.kind()) {
            return Err(failure);
        }
        if listing.depth == 0 {
            return self.refused(listing, Then::SkipSlice, error).await;
        }
        self.shared.record(&error);
        let gap = format!("records were left out: {}", error.message);
        self.shared.leave(self.shared.failed(&self.slice, error), gap).await?;
        self.whole = false;
        Ok(ControlFlow::Continue(()))
    }

    /// Records that the API refuses the shared request.
    pub(crate) async fn note_refused(&self) -> Result<()> {
        let number = self.route.number;
        let refused = self.links.fused.as_ref().is_some_and(FusedRequest::is_refused);
        if !refused || self.shared.is_refused(number) {
            return Ok(());
        }
        self.shared.refuse(number);
        self.shared.send(SliceEvent::RouteRefused).await
    }

    /// Whether a refusal of a listing's next page would mean that the API does not support the route.
    pub(crate) fn is_tentative(&self, listing: &Listing<'_>) -> bool {
        let shared = self.shared;
        let other_requests = || {
            let replaces_all = self.route.request.own.is_none();
            replaces_all && (shared.may_read_whole() || !shared.is_by_parents())
        };
        // Once the API has served the request, a refusal is about the requested object.
        let unproven = listing.depth == 0
            && !shared.is_served(listing.number)
            && (self.route.has_fallback_in_slice() || other_requests());
        listing.number == self.route.number
            && listing.is_fresh()
            && (unproven || listing.is_fetching())
    }

    /// Continues without a refused request, as far as the slice can. Otherwise the stream is read again by another
    /// route.
    pub(crate) async fn route_refused(&mut self, refusal: RequestRefusal) -> Result<()> {
        let first = self.shared.refuse(self.route.number);
        let fallback = self.route.fallback(&self.slice.items);
        if matches!(fallback, Fallback::RestartStream) {
            return Err(Error::new(Kind::Rejected, refusal.to_string()));
        }
        if first {
            self.report_refused_route(&refusal).await?;
        }
        match fallback {
            Fallback::Continue(listings) => self.open = listings,
            Fallback::RestartSlice | Fallback::RestartStream => self.restart().await?,
        }
        Ok(())
    }

    async fn report_refused_route(&self, refusal: &RequestRefusal) -> Result<()> {
        let shared = self.shared;
        let stream = Some(shared.plan.name.clone());
        let route = shared.route();
        let message = format!(
            "the route `{route}` cannot be used; weir reads the stream by its default route: {refusal}"
        );
        shared.env.client.reporter.report(&Event::Warning { stream, message });
        shared.send(SliceEvent::RouteRefused).await
    }

    /// The API answered the default request after it refused the shared one. So the object was not the reason.
    pub(crate) async fn settle_doubt(&mut self) -> Result<()> {
        let Some(refusal) = self.doubted.take() else { return Ok(()) };
        let first = self.links.fused.as_ref().is_some_and(FusedRequest::refuse);
        if !first {
            return Ok(());
        }
        self.report_refused_route(&refusal).await
    }

    /// Reads the slice again from the start.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        let attempt = self.slice.attempt + 1;
        let restarted = Arc::new(Slice { attempt, ..self.slice.as_ref().clone() });
        self.shared.stats.rows.fetch_sub(std::mem::take(&mut self.rows), Ordering::Relaxed);
        self.known = None;
        let refused = self.shared.is_refused(self.route.number);
        let limited = self.shared.plan.limit.is_some();
        self.open = self.route.start(&self.slice.items, refused, limited);
        let rest = self.rest();
        let slice = std::mem::replace(&mut self.slice, Arc::clone(&restarted));
        self.shared.send(SliceEvent::Restart { slice, restarted, rest }).await
    }

    /// Records a refusal. The slice continues if only a page or one of its values is left out.
    pub(crate) async fn refused(
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
        if self.route.is_part(&listing, &self.slice.items) {
            shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
            failed.carried.clear();
            failed.values = self.values_of(&listing);
            shared.send(SliceEvent::Part(failed)).await?;
            self.whole = false;
            return Ok(ControlFlow::Continue(()));
        }
        let size = shared.page_sizes.get(listing.number);
        let size = size.map(|size| size.load(Ordering::Relaxed));
        let size = listing.narrow.or(size);
        let after = listing.pager.position_after_unread(&listing.at, size);
        let Some(at) = after.filter(|_| then == Then::SkipPage) else {
            shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
            shared.send(SliceEvent::Refused(Arc::clone(&self.slice), failed)).await?;
            return Ok(ControlFlow::Break(()));
        };
        let gap = format!("a page was left out: {}", failed.error.message);
        shared.leave(failed, gap).await?;
        self.whole = false;
        listing.guard().check(&at, 0)?;
        self.open.push(Listing { at, ..listing });
        Ok(ControlFlow::Continue(()))
    }

    /// Records that a record was read with a reduced request.
    pub(crate) async fn record_reduced(
        &self,
        listing: &Listing<'_>,
        lean: ReducedRequest,
        rows: Option<&RecordBatch>,
    ) -> Result<()> {
        let ReducedRequest { status, message } = lean;
        let ids = match (&self.shared.plan.output, rows) {
            (Some(output), Some(rows)) => ids(rows, output).unwrap_or_default(),
            _ => Vec::new(),
        };
        let path = listing.path.render_path(&listing.scope).unwrap_or_default();
        let error = SliceError {
            stream: self.shared.plan.name.clone(),
            slice: ids.iter().map(|id| format!("id={id}")).collect::<Vec<_>>().join(" "),
            url: shown(&format!("{}{path}", self.shared.env.client.access.base_url)),
            status,
            message,
        };
        self.shared.record(&error);
        self.shared.send(SliceEvent::Part(self.shared.failed(&self.slice, error))).await
    }
}
