//! One slice: its pages one after the other, and the children of its records.

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
use crate::extract::pages::listing::{Listing, own_listings};
use crate::extract::pages::page::Fetched;
use crate::extract::pages::request::first_url;
use crate::extract::pages::resume::resumed;
use crate::extract::pages::{fetch_by_id, page};
use crate::extract::sharing::fused::{FusedReply, RequestRefusal};
use crate::http::answer::Answer;
use crate::http::pagination::{PageStep, Position};
use crate::plan::RequestPlan;
use crate::progress::row_keys::KeySet;
use crate::progress::saved::OpenListing;
use crate::report::NoticeKind;
use crate::report::counters::Stats;
use crate::template::Scope;

/// Records whose children may wait until it is known whether their listing holds these itself.
const MAX_UNSURE: usize = 20_000;

/// How a slice begins.
pub(crate) enum SliceStart {
    /// With its first page.
    First,
    /// With the first page of the own request, after a refusal in an earlier run.
    Again,
    /// Where an earlier process was.
    Begun(Vec<OpenListing>),
    /// With a request that other streams share.
    Together,
    /// With the row that is known already.
    Derived,
}

/// Runs one slice to its end. Refused slices are recorded and count as run.
pub(crate) async fn run(
    shared: &StreamContext,
    links: &RequestLinks,
    (slice, scope): (Slice, Arc<Scope>),
    start: SliceStart,
) -> Result<()> {
    let Some(request) = shared.requests().get(slice.request) else { return Ok(()) };
    // What the earlier process has left out of it is not known slice by slice.
    let whole =
        !matches!(start, SliceStart::Begun(_)) || !shared.incomplete.load(Ordering::Relaxed);
    let slice = Arc::new(slice);
    let mut slice_run = SliceRun {
        shared,
        links,
        request,
        scope,
        slice,
        open: Vec::new(),
        rows: 0,
        told: false,
        whole,
        known: None,
        holds_children: false,
        doubted: None,
        unread: 0,
    };
    if slice_run.begin(start).await?.is_break() {
        return Ok(());
    }
    while let Some(listing) = slice_run.open.pop() {
        if shared.enough.is_cancelled() {
            return Ok(());
        }
        let tentative = slice_run.is_tentative(&listing);
        match page::fetch(shared, links, &listing, tentative).await? {
            Answer::Read(fetched) => {
                shared.env.answered.note(listing.kind());
                slice_run.unread = 0;
                if listing.is_fetching() {
                    slice_run.read_fetched(listing, fetched).await?;
                } else {
                    slice_run.read(listing, fetched).await?;
                }
            }
            other => {
                if slice_run.unread(listing, other).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    slice_run.end().await
}

/// A slice on its way.
pub(crate) struct SliceRun<'run> {
    pub(crate) shared: &'run StreamContext,
    pub(crate) links: &'run RequestLinks,
    pub(crate) request: &'run RequestPlan,
    pub(crate) scope: Arc<Scope>,
    pub(crate) slice: Arc<Slice>,
    /// Listings that are not at their end.
    pub(crate) open: Vec<Listing<'run>>,
    /// Its rows so far.
    pub(crate) rows: u64,
    /// Whether the loader knows that nothing is left of it.
    pub(crate) told: bool,
    /// Whether nothing of it was left out.
    pub(crate) whole: bool,
    /// Keys of its rows so far, when it has more than one page.
    pub(crate) known: Option<KeySet>,
    /// Whether its listing has shown that it holds the children of its records.
    pub(crate) holds_children: bool,
    /// A refusal that may be about the object or about the route: the own request tells.
    pub(crate) doubted: Option<RequestRefusal>,
    /// Pages in a row that were passed over.
    pub(crate) unread: u32,
}

/// What a page has brought.
#[derive(Default)]
struct PageResult {
    batch: Option<RecordBatch>,
    /// Whether a request beside the slice's own listing brought it.
    aside: bool,
    newest: Option<i64>,
    gap: Option<String>,
    sights: Vec<SeenRecord>,
}

impl<'run> SliceRun<'run> {
    /// The listings from which it starts; breaks when it is done without any.
    async fn begin(&mut self, start: SliceStart) -> Result<ControlFlow<()>> {
        let (shared, request) = (self.shared, self.request);
        let number = self.slice.request;
        match start {
            SliceStart::Derived => {
                self.derive().await?;
                return Ok(ControlFlow::Break(()));
            }
            SliceStart::Begun(begun) => {
                let plan = (shared.plan.as_ref(), number);
                let again = |one| resumed(plan, request, &self.scope, one);
                self.open = begun.into_iter().filter_map(again).collect();
            }
            SliceStart::Together => {
                let fused = self.links.fused.as_ref();
                let told = match fused {
                    Some(fused) => fused.ask(shared, self.slice.from, &self.scope).await?,
                    None => FusedReply::Alone,
                };
                match told {
                    FusedReply::Alone => {
                        self.note_refused().await?;
                        self.open = self.own_listings();
                    }
                    FusedReply::Refused(refusal) if refusal.gone => {
                        let listing = Listing::first((number, request), &self.scope);
                        let RequestRefusal { path, status, message, .. } = refusal;
                        let error = self.slice_error(&listing, &path, (status, message));
                        return self.gone(&listing, error).await;
                    }
                    FusedReply::Refused(refusal) => {
                        self.doubted = Some(refusal);
                        self.open = self.own_listings();
                    }
                    FusedReply::AnswerPart(part) => {
                        let next = part
                            .next
                            .as_deref()
                            .map(|token| self.own_position(token))
                            .transpose()?;
                        let (page, found, narrow) = (part.page, None, None);
                        let listing = Listing::first((number, request), &self.scope);
                        shared.env.answered.note(listing.kind());
                        let step = PageStep { next, stated: true, ..PageStep::default() };
                        let fetched = Fetched { page, step, full: None, found, narrow };
                        self.read(listing, fetched).await?;
                    }
                }
            }
            SliceStart::First if request.routed.silent => {}
            SliceStart::First
                if !shared.is_refused(number)
                    && request.routed.embedded.is_none()
                    && !(request.routed.fetch.is_some() && shared.plan.limit.is_some()) =>
            {
                self.open = vec![Listing::first((number, request), &self.scope)];
            }
            SliceStart::First | SliceStart::Again => self.open = self.own_listings(),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Listings by the stream's own request in the place of the slice's.
    pub(crate) fn own_listings(&self) -> Vec<Listing<'run>> {
        let (plan, number) = (self.shared.plan.as_ref(), self.slice.request);
        own_listings(plan, (number, self.request), &self.slice.items, &self.scope)
    }

    /// Where in the own listing an embedded list goes on.
    fn own_position(&self, token: &str) -> Result<Position> {
        let embedded = self.request.routed.embedded.as_ref();
        let own = self.own_listings().pop();
        let (Some(embedded), Some(own)) = (embedded, own) else { return Ok(Position::First) };
        let mut url = first_url(&self.shared.env.client.access.base_url, &own)?;
        url.query_pairs_mut().append_pair(&embedded.param, token);
        Ok(Position::Query(url.query().unwrap_or_default().to_owned()))
    }

    /// Delivers the row that follows from what was carried along.
    async fn derive(&mut self) -> Result<()> {
        let (shared, request) = (self.shared, self.request);
        let mut batch = None;
        if let (Some(output), Some(rows), Some(derive), Some(item)) =
            (&shared.plan.output, &shared.rows, &request.routed.derive, self.slice.items.first())
            && page::allowance(shared, 1).await? > 0
        {
            let sources = (request.columns.as_slice(), derive.columns.as_slice());
            batch = Some(rows.derived(output, sources, &item.values(), &self.scope)?);
            Stats::add(&shared.stats.rows, 1);
        }
        Stats::add(&shared.stats.derived, 1);
        shared.stats.done.fetch_add(1, Ordering::Relaxed);
        self.tell(PageResult { batch, ..PageResult::default() }).await
    }

    /// Delivers a page, and opens what it leads to.
    async fn read(&mut self, mut listing: Listing<'run>, fetched: Fetched) -> Result<()> {
        let shared = self.shared;
        let Fetched { page, step, full, found, narrow } = fetched;
        listing.narrow = self.wider(&listing, narrow);
        let lean = listing.lean.take();
        if listing.number == self.slice.request {
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
        let next = self.next_of(&mut listing, step, (rows, past), &mut gap);
        self.note_doubts(
            &listing,
            (gap.as_deref(), full.filter(|_| !past)),
            page.errors.as_deref(),
        );
        gap = gap.or_else(|| Some(format!("an answer told of errors: {}", page.errors.as_ref()?)));
        let missing = self.missing(found, listing.part);
        let single = next.is_none()
            && listing.depth == 0
            && self.known.is_none()
            && self.open.is_empty()
            && missing.is_empty();
        // Pages that are read again, since records have moved, bring what came before.
        let aside = listing.depth > 0 || listing.number != self.slice.request || listing.may_repeat;
        if let Some(next) = &next {
            listing.guard().check(next, rows)?;
            if rows == 0 {
                gap = Some("a page without records led on to a next one".to_owned());
            }
        }
        if gap.is_some() {
            self.whole = false;
            shared.incomplete.store(true, Ordering::Relaxed);
        }
        let wanted = page::wanted(&listing, self.links, &page);
        let children = self.children(&listing, &page, wanted.as_ref())?;
        let newest = stamps.iter().flatten().max().copied();
        let request = listing.request;
        let known = (!single).then_some(&mut self.known);
        let delivered = page::deliver(shared, (&listing, wanted), (page, stamps), known).await?;
        let (batch, fingerprints) = (delivered.batch, delivered.fingerprints);
        let whole = lean.is_none();
        if let Some(lean) = lean {
            self.came_lean(&listing, lean, batch.as_ref()).await?;
        }
        self.rows += u64::try_from(delivered.rows).unwrap_or_default();
        self.open.extend(missing);
        if let Some(at) = next {
            let rest = if listing.number == self.slice.request && self.goes_on_by_own() {
                self.own_listings().pop().map(|own| Listing { at, ..own })
            } else {
                Some(Listing { at, ..listing })
            };
            self.open.extend(rest);
        }
        match request.children.as_ref().and_then(|children| children.unless) {
            // Whether they are needed shows as the listing goes on.
            Some(_) => drop(self.open.splice(0..0, children)),
            None => self.open.extend(children),
        }
        let sights = if request.routed.fetch.is_some() {
            let (same, others) = fetch_by_id::split(fingerprints, self.links.fingerprints.as_ref());
            fetch_by_id::open(&mut self.open, (self.slice.request, request), &self.scope, others);
            same.into_iter().map(|look| look.sight(true)).collect()
        } else {
            let sights = fingerprints.into_iter().map(|look| look.sight(false));
            sights.map(|sight| SeenRecord { whole, ..sight }).collect()
        };
        self.tell(PageResult { batch, aside, newest, gap, sights }).await
    }

    /// Tells what says that a listing may have more than came.
    fn note_doubts(
        &self,
        listing: &Listing<'_>,
        (gap, full): (Option<&str>, Option<u64>),
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
                    "`{}` brought exactly {rows} records; if there are more, correct `paginate` in the \
                     spec",
                    place()
                )
            });
        }
        if let Some(errors) = errors {
            stats.notice(NoticeKind::AnswerErrors, 1, || format!("`{}`: {errors}", place()));
        }
    }

    /// Where a listing goes on after a page of so many rows. `past`: what follows is before the bound.
    fn next_of(
        &self,
        listing: &mut Listing<'_>,
        step: PageStep,
        (rows, past): (u64, bool),
        gap: &mut Option<String>,
    ) -> Option<Position> {
        let moved = step.total.is_some() && listing.total.is_some() && step.total != listing.total;
        // Pages that are read again because records moved bring what is known.
        listing.repeats_until.take_if(|until| !listing.at.is_before(until));
        listing.may_repeat = listing.repeats_until.is_some() || moved;
        if step.total.is_some() {
            listing.total = step.total;
        }
        let output = self.shared.plan.output.as_ref();
        if past {
            return None;
        }
        match step.seam {
            Some(_) if output.is_some_and(|output| output.key.is_empty()) => {
                *gap = Some(
                    "records went while the listing was read, and without a key what moved cannot be \
                     read again"
                        .to_owned(),
                );
                step.next
            }
            Some(seam) if rows > 0 || step.next.is_none() => {
                // To the end, if this was the last page.
                listing.repeats_until = Some(step.next.unwrap_or(Position::Number(u64::MAX)));
                listing.guard().moved();
                // Reading again shows what is there.
                *gap = None;
                Some(seam)
            }
            _ => step.next,
        }
    }

    /// Delivers rows whose records the slice's own listing has shown.
    async fn read_fetched(
        &mut self,
        mut listing: Listing<'run>,
        Fetched { page, step: PageStep { next, .. }, narrow, .. }: Fetched,
    ) -> Result<()> {
        let shared = self.shared;
        listing.narrow = self.wider(&listing, narrow);
        let lean = listing.lean.take();
        let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
        let came = match fetch_by_id::came(shared, &mut listing, &page)? {
            Ok(came) => came,
            Err(other) => {
                let path = first_url(&shared.env.client.access.base_url, &listing)?;
                let path = path.path().to_owned();
                let message = format!("it does not go by ids: {other} was not asked for");
                let refusal = RequestRefusal { path, status: None, message, gone: false };
                return self.route_refused(refusal).await;
            }
        };
        let FetchedRows { batch, mut sights, left } = came;
        if let Some(lean) = lean {
            for sight in &mut sights {
                sight.whole = false;
            }
            self.came_lean(&listing, lean, Some(&batch)).await?;
        }
        let mut gap = None;
        if let Some(at) = next.filter(|_| left > 0) {
            listing.guard().check(&at, rows)?;
            self.open.push(Listing { at, ..listing });
        } else if left > 0 {
            gap = Some(format!("{left} of the records that a listing showed did not come"));
            self.whole = false;
            shared.incomplete.store(true, Ordering::Relaxed);
            // The next run makes up for it by the stream's own requests.
            shared.tell(SliceEvent::RouteRefused).await?;
        }
        self.tell(PageResult { batch: Some(batch), gap, sights, ..PageResult::default() }).await
    }

    /// Size of a listing's next page after one that had to be small: it grows back to what is usual.
    fn wider(&self, listing: &Listing<'_>, narrow: Option<u32>) -> Option<u32> {
        let usual = self.shared.page_sizes.get(listing.number)?.load(Ordering::Relaxed);
        narrow.map(|size| size.saturating_mul(2)).filter(|size| *size < usual)
    }

    /// Whether what follows the slice's first page comes by the stream's own request.
    fn goes_on_by_own(&self) -> bool {
        self.request.routed.embedded.is_some()
    }

    /// Listings of the values of the chunk, or a part of it, that an answer is not about.
    fn missing(
        &self,
        found: Option<Vec<String>>,
        part: Option<(usize, usize)>,
    ) -> Vec<Listing<'run>> {
        let Some(found) = found else { return Vec::new() };
        let plan = self.shared.plan.as_ref();
        let (from, to) = part.unwrap_or((0, self.slice.items.len()));
        let items = self.slice.items.get(from..to).unwrap_or_default();
        let items = items.iter().map(|item| item.value.as_ref());
        let missing = items.filter(|value| !found.iter().any(|one| one == value));
        let own = |value| Listing::own(plan, self.slice.request, (value, &self.scope));
        missing.filter_map(own).collect()
    }

    /// The listings of the children of a page's records, unless their listing holds these itself.
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
        if unless.is_some() && self.open.len() + children.len() > MAX_UNSURE {
            let what = format!(
                "more than {MAX_UNSURE} records, and no sign that their listing holds their children"
            );
            self.shared.refuse(self.slice.request);
            return Err(Error::new(Kind::Rejected, what));
        }
        Ok(children)
    }

    async fn end(mut self) -> Result<()> {
        self.shared.stats.done.fetch_add(1, Ordering::Relaxed);
        if self.told { Ok(()) } else { self.tell(PageResult::default()).await }
    }

    /// Tells what a page has brought, and which listings are left.
    async fn tell(&mut self, news: PageResult) -> Result<()> {
        self.told = self.open.is_empty();
        let PageResult { batch, aside, newest, gap, sights } = news;
        let (slice, rest, whole) = (Arc::clone(&self.slice), self.rest(), self.whole);
        let page = SliceEvent::Page { slice, batch, aside, rest, newest, gap, whole, sights };
        self.shared.tell(page).await
    }

    pub(crate) fn rest(&self) -> Vec<OpenListing> {
        self.open.iter().map(Listing::open).collect()
    }
}
