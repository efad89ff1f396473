//! One slice: reads its pages one after the other, and the children of its records.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use arrow_array::{BooleanArray, RecordBatch};

use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::links::RequestLinks;
use crate::extract::messages::{SeenRecord, Slice, SliceEvent};
use crate::extract::pages::fetch_by_id::FetchedRows;
use crate::extract::pages::listing::Listing;
use crate::extract::pages::page::{Fetched, PageRecords};
use crate::extract::pages::request::first_url;
use crate::extract::pages::route::Route;
use crate::extract::pages::{fetch_by_id, page};
use crate::extract::sharing::fused::{AnswerPart, FusedReply, RequestRefusal};
use crate::http::answer::Answer;
use crate::http::pagination::{PageStep, Position};
use crate::progress::row_keys::KeySet;
use crate::progress::saved::OpenListing;
use crate::report::NoticeKind;
use crate::report::counters::Stats;
use crate::template::Scope;

/// Maximum number of records whose children wait until it is known whether the listing contains the children.
const MAX_UNDECIDED: usize = 20_000;

/// How a slice starts.
pub(crate) enum SliceStart {
    /// With the first page.
    First,
    /// With the first page of the default request, after a refusal in an earlier run.
    Again,
    /// With the listings that an earlier process left.
    Begun(Vec<OpenListing>),
    /// With a request that other streams share.
    Together,
    /// With a row derived from the parent record.
    Derived,
}

/// The next page of a slice.
enum NextPage<'run> {
    /// A page of a listing.
    Read(Box<Listing<'run>>, Box<Fetched>),
    /// The API did not return the page.
    Unread(Box<Listing<'run>>, Box<Answer<Fetched>>),
    /// All listings are finished.
    Done,
    /// The stream takes no more pages.
    Stopped,
}

/// Runs one slice to its end. A refused slice is recorded, and is not an error.
pub(crate) async fn run(
    shared: &StreamContext,
    links: &RequestLinks,
    slice: Slice,
    scope: Arc<Scope>,
    start: SliceStart,
) -> Result<()> {
    let number = slice.request;
    let request = shared.request(number);
    // An earlier process may have left out a part of any slice that it started.
    let whole =
        !matches!(start, SliceStart::Begun(_)) || !shared.incomplete.load(Ordering::Relaxed);
    let mut slice_run = SliceRun {
        shared,
        links,
        route: Route { plan: &shared.plan, number, request, scope },
        slice: Arc::new(slice),
        open: Vec::new(),
        rows: 0,
        finished: false,
        whole,
        known: None,
        holds_children: false,
        doubted: None,
        unread: 0,
    };
    if slice_run.begin(start).await?.is_break() {
        return Ok(());
    }
    loop {
        match slice_run.next_page().await? {
            NextPage::Read(listing, fetched) if listing.is_fetching() => {
                slice_run.read_fetched(*listing, *fetched).await?;
            }
            NextPage::Read(listing, fetched) => slice_run.read(*listing, *fetched).await?,
            NextPage::Unread(listing, answer) => {
                if slice_run.unread(*listing, *answer).await?.is_break() {
                    return Ok(());
                }
            }
            NextPage::Done => return slice_run.end().await,
            NextPage::Stopped => return Ok(()),
        }
    }
}

/// A slice while it is read.
pub(crate) struct SliceRun<'run> {
    pub(crate) shared: &'run StreamContext,
    pub(crate) links: &'run RequestLinks,
    pub(crate) route: Route<'run>,
    pub(crate) slice: Arc<Slice>,
    /// Unfinished listings; the last one is read next.
    pub(crate) open: Vec<Listing<'run>>,
    /// Number of rows so far.
    pub(crate) rows: u64,
    /// Whether the loader knows that no listing is left.
    pub(crate) finished: bool,
    /// Whether nothing of the slice was left out.
    pub(crate) whole: bool,
    /// Keys of the rows so far, if the slice has more than one page.
    pub(crate) known: Option<KeySet>,
    /// Whether the listing contains the children of its records.
    pub(crate) holds_children: bool,
    /// A refusal of the shared request, either of the object or of the route. The default request decides.
    pub(crate) doubted: Option<RequestRefusal>,
    /// Number of consecutive pages that were skipped.
    pub(crate) unread: u32,
}

/// What a page contributes to its stream.
#[derive(Default)]
struct PageResult {
    batch: Option<RecordBatch>,
    /// Whether the page belongs to another request than the slice's own listing.
    aside: bool,
    newest: Option<i64>,
    gap: Option<String>,
    seen: Vec<SeenRecord>,
}

impl<'run> SliceRun<'run> {
    /// Opens the listings with which the slice starts. Breaks if the slice is finished without any.
    async fn begin(&mut self, start: SliceStart) -> Result<ControlFlow<()>> {
        let shared = self.shared;
        match start {
            SliceStart::Derived => {
                self.derive().await?;
                return Ok(ControlFlow::Break(()));
            }
            SliceStart::Begun(begun) => {
                self.open = begun.into_iter().filter_map(|one| self.route.resumed(one)).collect();
            }
            SliceStart::Together => return self.begin_together().await,
            SliceStart::First => {
                let refused = shared.is_refused(self.route.number);
                let limited = shared.plan.limit.is_some();
                self.open = self.route.start(&self.slice.items, refused, limited);
            }
            SliceStart::Again => self.open = self.route.default_listings(&self.slice.items),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Starts with the slice's part of the response that other streams share.
    async fn begin_together(&mut self) -> Result<ControlFlow<()>> {
        let shared = self.shared;
        let reply = match &self.links.fused {
            Some(fused) => fused.ask(shared, self.slice.from, &self.route.scope).await?,
            None => FusedReply::Alone,
        };
        match reply {
            FusedReply::Alone => {
                self.note_refused().await?;
                self.open = self.route.default_listings(&self.slice.items);
            }
            FusedReply::Refused(refusal) if refusal.gone => {
                let RequestRefusal { path, status, message, .. } = refusal;
                let listing = self.route.listing();
                let error = self.slice_error(&listing, &path, status, message);
                return self.gone(&listing, error).await;
            }
            FusedReply::Refused(refusal) => {
                self.doubted = Some(refusal);
                self.open = self.route.default_listings(&self.slice.items);
            }
            FusedReply::AnswerPart(AnswerPart { page, next }) => {
                let base_url = &shared.env.client.access.base_url;
                let after =
                    |token: String| self.route.after_embedded(&token, &self.slice.items, base_url);
                let next = next.map(after).transpose()?;
                let step = PageStep { next, stated: true, ..PageStep::default() };
                let listing = self.route.listing();
                shared.env.answered.note(listing.kind());
                let fetched = Fetched { page, step, full: None, found: None, narrow: None };
                self.read(listing, fetched).await?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Requests the next page of the last open listing.
    async fn next_page(&mut self) -> Result<NextPage<'run>> {
        let Some(listing) = self.open.pop() else { return Ok(NextPage::Done) };
        if self.shared.enough.is_cancelled() {
            return Ok(NextPage::Stopped);
        }
        let listing = Box::new(listing);
        let tentative = self.is_tentative(&listing);
        Ok(match page::fetch(self.shared, self.links, &listing, tentative).await? {
            Answer::Read(fetched) => {
                self.shared.env.answered.note(listing.kind());
                self.unread = 0;
                NextPage::Read(listing, Box::new(fetched))
            }
            other => NextPage::Unread(listing, Box::new(other)),
        })
    }

    /// Delivers the row that is derived from the parent record.
    async fn derive(&mut self) -> Result<()> {
        let (shared, request) = (self.shared, self.route.request);
        let mut batch = None;
        if let (Some(output), Some(rows), Some(item)) =
            (&shared.plan.output, &shared.rows, self.slice.items.first())
            && page::allowance(shared, 1).await? > 0
        {
            batch = Some(rows.derived(output, request, &item.values(), &self.route.scope)?);
            Stats::add(&shared.stats.rows, 1);
        }
        Stats::add(&shared.stats.derived, 1);
        shared.stats.done.fetch_add(1, Ordering::Relaxed);
        self.deliver(PageResult { batch, ..PageResult::default() }).await
    }

    /// Delivers a page, and opens the listings that follow from it.
    async fn read(&mut self, mut listing: Listing<'run>, fetched: Fetched) -> Result<()> {
        let shared = self.shared;
        let Fetched { page, step, full, found, narrow } = fetched;
        listing.narrow = self.wider(&listing, narrow);
        let lean = listing.lean.take();
        if listing.number == self.route.number {
            shared.serve(listing.number);
        } else {
            self.settle_doubt().await?;
        }
        let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
        let stamps = page::stamps(shared, listing.request, &page);
        if let Some(bound) = shared.bound() {
            let changed = stamps.iter().flatten().filter(|stamp| **stamp >= bound).count();
            Stats::add(&shared.stats.changed, changed);
        }
        let past = page::is_past(shared, self.slice.unbounded, &stamps);
        let mut gap = step.gap.clone().filter(|_| !past);
        // The pages after this one are before the bound.
        let step = if past { PageStep { next: None, seam: None, ..step } } else { step };
        let next = self.next_of(&mut listing, step, rows, &mut gap);
        let full = full.filter(|_| !past);
        self.note_doubts(&listing, gap.as_deref(), full, page.errors.as_deref());
        gap = gap.or_else(|| Some(format!("an answer reports errors: {}", page.errors.as_ref()?)));
        let missing = self.route.uncovered(&self.slice.items, found, listing.part);
        let single = next.is_none()
            && listing.depth == 0
            && self.known.is_none()
            && self.open.is_empty()
            && missing.is_empty();
        // A page that is read again because records moved contains known rows.
        let aside = listing.depth > 0 || listing.number != self.route.number || listing.may_repeat;
        if let Some(next) = &next {
            listing.guard().check(next, rows)?;
            if rows == 0 {
                gap = Some("a page without records has a next page".to_owned());
            }
        }
        if gap.is_some() {
            self.whole = false;
            shared.incomplete.store(true, Ordering::Relaxed);
        }
        let selected = page::selected(&listing, self.links, &page);
        let children = self.children(&listing, &page, selected.as_ref())?;
        let newest = stamps.iter().flatten().max().copied();
        let (number, request) = (listing.number, listing.request);
        let known = (!single).then_some(&mut self.known);
        let records = PageRecords { page, stamps, selected };
        let delivered = page::deliver(shared, &listing, &records, known).await?;
        let (batch, fingerprints) = (delivered.batch, delivered.fingerprints);
        let reduced = lean.is_some();
        if let Some(lean) = lean {
            self.record_reduced(&listing, lean, batch.as_ref()).await?;
        }
        self.rows += u64::try_from(delivered.rows).unwrap_or_default();
        self.open.extend(missing);
        if let Some(at) = next {
            self.open.extend(self.route.continued(listing, at, &self.slice.items));
        }
        match request.children.as_ref().and_then(|children| children.unless) {
            // Later pages show whether the children have to be requested.
            Some(_) => drop(self.open.splice(0..0, children)),
            None => self.open.extend(children),
        }
        let known = self.links.fingerprints.as_ref();
        let mut seen = self.route.seen(number, fingerprints, known, &mut self.open);
        if reduced {
            // Rows that stay in the target are complete.
            for record in &mut seen {
                record.whole = record.stays;
            }
        }
        self.deliver(PageResult { batch, aside, newest, gap, seen }).await
    }

    /// Reports signs that a listing has more records than were returned.
    fn note_doubts(
        &self,
        listing: &Listing<'_>,
        gap: Option<&str>,
        full: Option<u64>,
        errors: Option<&str>,
    ) {
        let stats = &self.shared.stats;
        let place = || listing.path.render_path(&listing.scope).unwrap_or_default();
        if let Some(gap) = gap {
            stats.notice(NoticeKind::MissingPages, 1, || {
                format!("`{}`: {gap}; correct `paginate` in the spec", place())
            });
        }
        if let Some(rows) = full {
            stats.notice(NoticeKind::FullPage, 1, || {
                format!(
                    "`{}` returned exactly {rows} records; if there are more, correct `paginate` in the \
                     spec",
                    place()
                )
            });
        }
        if let Some(errors) = errors {
            stats.notice(NoticeKind::AnswerErrors, 1, || format!("`{}`: {errors}", place()));
        }
    }

    /// Position of a listing's next page after a page with `rows` rows.
    fn next_of(
        &self,
        listing: &mut Listing<'_>,
        step: PageStep,
        rows: u64,
        gap: &mut Option<String>,
    ) -> Option<Position> {
        let moved = step.total.is_some() && listing.total.is_some() && step.total != listing.total;
        // A page that is read again because records moved may contain only known records.
        listing.repeats_until.take_if(|until| !listing.at.is_before(until));
        listing.may_repeat = listing.repeats_until.is_some() || moved;
        if step.total.is_some() {
            listing.total = step.total;
        }
        let output = self.shared.plan.output.as_ref();
        match step.seam {
            Some(_) if output.is_some_and(|output| output.key.is_empty()) => {
                *gap = Some(
                    "records were deleted while the listing was read, and without a key weir cannot read the \
                     records that moved"
                        .to_owned(),
                );
                step.next
            }
            Some(seam) if rows > 0 || step.next.is_none() => {
                // After the last page, up to the end.
                listing.repeats_until = Some(step.next.unwrap_or(Position::Number(u64::MAX)));
                listing.guard().moved();
                // The pages that are read again contain the missing records.
                *gap = None;
                Some(seam)
            }
            _ => step.next,
        }
    }

    /// Delivers rows that were fetched by id.
    async fn read_fetched(
        &mut self,
        mut listing: Listing<'run>,
        Fetched { page, step: PageStep { next, .. }, narrow, .. }: Fetched,
    ) -> Result<()> {
        let shared = self.shared;
        listing.narrow = self.wider(&listing, narrow);
        let lean = listing.lean.take();
        let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
        let fetched = match fetch_by_id::requested_rows(shared, &mut listing, &page)? {
            Ok(fetched) => fetched,
            Err(other) => {
                let path = first_url(&shared.env.client.access.base_url, &listing)?;
                let path = path.path().to_owned();
                let message = format!("the response contains {other}, which was not requested");
                let refusal = RequestRefusal { path, status: None, message, gone: false };
                return self.route_refused(refusal).await;
            }
        };
        let FetchedRows { batch, mut seen, left } = fetched;
        if let Some(lean) = lean {
            for record in &mut seen {
                record.whole = false;
            }
            self.record_reduced(&listing, lean, Some(&batch)).await?;
        }
        let mut gap = None;
        if let Some(at) = next.filter(|_| left > 0) {
            listing.guard().check(&at, rows)?;
            self.open.push(Listing { at, ..listing });
        } else if left > 0 {
            gap = Some(format!("no response contained {left} of the records in a listing"));
            self.whole = false;
            shared.incomplete.store(true, Ordering::Relaxed);
            // The next run reads the records by the default route.
            shared.send(SliceEvent::RouteRefused).await?;
        }
        self.deliver(PageResult { batch: Some(batch), gap, seen, ..PageResult::default() }).await
    }

    /// Size of a listing's next page after a reduced one. The size doubles until it is the usual one.
    fn wider(&self, listing: &Listing<'_>, narrow: Option<u32>) -> Option<u32> {
        let usual = self.shared.page_sizes.get(listing.number)?.load(Ordering::Relaxed);
        narrow.map(|size| size.saturating_mul(2)).filter(|size| *size < usual)
    }

    /// The listings of the children of a page's records, unless the listing contains the children.
    fn children(
        &mut self,
        listing: &Listing<'run>,
        page: &Page,
        wanted: Option<&BooleanArray>,
    ) -> Result<Vec<Listing<'run>>> {
        let unless = listing.request.children.as_ref().and_then(|children| children.unless);
        let shows =
            |tap: usize| page.taps.get(tap).is_some_and(|tap| tap.iter().flatten().count() > 0);
        if listing.depth == 0 && unless.is_some_and(shows) {
            self.holds_children = true;
            self.open.retain(|one| one.depth == 0);
        }
        if self.holds_children {
            return Ok(Vec::new());
        }
        let children = listing.children(page, wanted)?;
        if unless.is_some() && self.open.len() + children.len() > MAX_UNDECIDED {
            let what = format!(
                "none of the first {MAX_UNDECIDED} records in the listing shows whether it contains their children"
            );
            self.shared.refuse(self.route.number);
            return Err(Error::new(Kind::Rejected, what));
        }
        Ok(children)
    }

    async fn end(mut self) -> Result<()> {
        self.shared.stats.done.fetch_add(1, Ordering::Relaxed);
        if self.finished { Ok(()) } else { self.deliver(PageResult::default()).await }
    }

    /// Sends the result of a page, and the unfinished listings, to the loader.
    async fn deliver(&mut self, result: PageResult) -> Result<()> {
        self.finished = self.open.is_empty();
        let PageResult { batch, aside, newest, gap, seen } = result;
        let (slice, rest, whole) = (Arc::clone(&self.slice), self.rest(), self.whole);
        let page = SliceEvent::Page { slice, batch, aside, rest, newest, gap, whole, seen };
        self.shared.send(page).await
    }

    pub(crate) fn rest(&self) -> Vec<OpenListing> {
        self.open.iter().map(Listing::open).collect()
    }
}
