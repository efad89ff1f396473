//! One slice: its pages one after the other, and the children of its records.

use std::{
    ops::ControlFlow,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use arrow_array::{Array, BooleanArray, RecordBatch, StringArray};
use arrow_select::filter::filter_record_batch;

use super::{
    assemble::{assemble, first_url},
    client::{Answer, Call, interrupted},
    estimate::Estimate,
    keys::KeySet,
    load::{Note, Slice},
    reach,
    rows::without_known,
    shared::Shared,
    state::{FailedSlice, OpenListing},
    stats::Stats,
};
use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::paginate::{LoopGuard, Position, Seen};
use crate::plan::{Iterate, Output, RequestPlan};
use crate::report::{Event, SliceError};
use crate::spec::Then;
use crate::template::{Scope, Template, Value};

/// Times that a slice begins anew because its position was no longer good.
const MAX_RESTARTS: u32 = 3;

/// One listing inside a slice: the slice's own, or the children of one record.
pub(super) struct Listing<'plan> {
    pub(super) scope: Arc<Scope>,
    pub(super) path: &'plan Template,
    pub(super) query: &'plan [(String, Template)],
    /// Values of the variables that lead to it from the slice.
    with: Vec<String>,
    pub(super) at: Position,
    pub(super) depth: u32,
    guard: Option<LoopGuard>,
}

impl<'plan> Listing<'plan> {
    fn first(request: &'plan RequestPlan, scope: &Arc<Scope>) -> Self {
        Self {
            scope: Arc::clone(scope),
            path: &request.path,
            query: &request.query,
            with: Vec::new(),
            at: Position::First,
            depth: 0,
            guard: None,
        }
    }

    /// A listing that an earlier process had begun.
    fn again(request: &'plan RequestPlan, scope: &Arc<Scope>, open: OpenListing) -> Option<Self> {
        let first = Self { at: open.at, ..Self::first(request, scope) };
        if open.depth == 0 {
            return Some(first);
        }
        let descend = request.descend.as_ref()?;
        let mut inner = scope.as_ref().clone();
        for ((variable, _), value) in descend.with.iter().zip(&open.with) {
            inner = inner.with(Arc::clone(variable), Value::from(value.as_str()));
        }
        Some(Self {
            scope: Arc::new(inner),
            path: &descend.path,
            query: &descend.query,
            with: open.with,
            depth: open.depth,
            ..first
        })
    }

    fn guard(&mut self, request: &RequestPlan) -> &mut LoopGuard {
        self.guard.get_or_insert_with(|| LoopGuard::new(request.max_pages))
    }

    fn open(&self) -> OpenListing {
        OpenListing { depth: self.depth, with: self.with.clone(), at: self.at.clone() }
    }
}

/// A page, decoded, and where the next one is.
struct Fetched {
    page: Page,
    next: Option<Position>,
}

/// Runs one slice to its end; `begun` is what an earlier process left of it. Refused slices are
/// recorded and count as run.
pub(super) async fn run(
    shared: &Shared,
    slice: Slice,
    scope: Scope,
    begun: Option<Vec<OpenListing>>,
) -> Result<()> {
    let Some(request) = shared.requests().get(slice.request) else { return Ok(()) };
    let scope = Arc::new(scope);
    // What the earlier process has left out of it is not known slice by slice.
    let whole = begun.is_none() || !shared.incomplete.load(Ordering::Relaxed);
    let open = match begun {
        Some(begun) => {
            begun.into_iter().filter_map(|one| Listing::again(request, &scope, one)).collect()
        }
        None => vec![Listing::first(request, &scope)],
    };
    let slice = Arc::new(slice);
    let mut walk = Walk { shared, request, scope, slice, open, known: None, told: false, whole };
    while let Some(listing) = walk.open.pop() {
        if shared.enough.is_cancelled() {
            return Ok(());
        }
        match fetch(shared, walk.slice.request, request, &listing).await? {
            Answer::Read(fetched) => walk.read(listing, fetched).await?,
            Answer::Given { then: Then::Empty, .. } => {}
            Answer::Given { then: Then::RestartSlice, url, status, message } => {
                if listing.at == Position::First || walk.slice.attempt >= MAX_RESTARTS {
                    let status = status.map_or(String::new(), |status| format!("{status} "));
                    let what = format!("`{}` was refused: {status}{message}", url.path());
                    return Err(Error::new(Kind::Rejected, what));
                }
                walk.restart().await?;
            }
            Answer::Given { then, url, status, message } => {
                let error = SliceError {
                    stream: shared.plan.name.clone(),
                    slice: walk.scope.describe(),
                    url: url.to_string(),
                    status,
                    message,
                };
                if walk.refused(listing, then, error).await?.is_break() {
                    return Ok(());
                }
            }
        }
    }
    walk.end().await
}

/// A slice on its way.
struct Walk<'run> {
    shared: &'run Shared,
    request: &'run RequestPlan,
    scope: Arc<Scope>,
    slice: Arc<Slice>,
    /// Listings that are not at their end.
    open: Vec<Listing<'run>>,
    /// Keys of its rows so far, when it has more than one page.
    known: Option<KeySet>,
    /// Whether the loader knows that nothing is left of it.
    told: bool,
    /// Whether nothing of it was left out.
    whole: bool,
}

impl<'run> Walk<'run> {
    /// Delivers a page, and opens what it leads to.
    async fn read(&mut self, mut listing: Listing<'run>, fetched: Fetched) -> Result<()> {
        let (shared, request) = (self.shared, self.request);
        let Fetched { page, next } = fetched;
        let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
        let stamps = stamps(shared, request, &page);
        let past = is_past(shared, &stamps);
        let next = next.filter(|_| !past);
        let single = next.is_none() && listing.depth == 0 && self.known.is_none();
        let mut gap = None;
        if let Some(next) = &next {
            listing.guard(request).check(next, rows)?;
            if rows == 0 {
                gap = Some("a page without records led on to a next one".to_owned());
                self.whole = false;
                shared.incomplete.store(true, Ordering::Relaxed);
            }
        }
        let children = children(request, &listing, &page)?;
        let newest = stamps.iter().flatten().max().copied();
        let known = (!single).then_some(&mut self.known);
        let batch = deliver(shared, (request, &listing.scope), (page, stamps), known).await?;
        if let Some(at) = next {
            self.open.push(Listing { at, ..listing });
        }
        self.open.extend(children);
        self.told = self.open.is_empty();
        let (slice, rest, whole) = (Arc::clone(&self.slice), self.rest(), self.whole);
        shared.tell(Note::Page { slice, batch, rest, newest, gap, whole }).await
    }

    /// Begins anew, since a position in it is no longer good.
    async fn restart(&mut self) -> Result<()> {
        let attempt = self.slice.attempt + 1;
        let anew = Arc::new(Slice { attempt, ..self.slice.as_ref().clone() });
        self.known = None;
        self.open = vec![Listing::first(self.request, &self.scope)];
        let rest = self.rest();
        let slice = std::mem::replace(&mut self.slice, Arc::clone(&anew));
        self.shared.tell(Note::Restart { slice, anew, rest }).await
    }

    /// Records a refusal; the slice goes on where only a page is left out.
    async fn refused(
        &mut self,
        mut listing: Listing<'run>,
        then: Then,
        error: SliceError,
    ) -> Result<ControlFlow<()>> {
        let (shared, request) = (self.shared, self.request);
        record(shared, &error);
        let failed = failed(shared, &self.slice, error);
        if then == Then::StopStream {
            let gap = format!("the stream was stopped: {}", failed.error.message);
            shared.leave(failed, gap).await?;
            shared.enough.cancel();
            return Ok(ControlFlow::Break(()));
        }
        let size = shared.page_sizes.get(self.slice.request);
        let size = size.map(|size| size.load(Ordering::Relaxed));
        let after = request.pager.position_after_unread(&listing.at, size);
        let Some(at) = after.filter(|_| then == Then::SkipPage) else {
            shared.stats.skipped.fetch_add(1, Ordering::Relaxed);
            shared.tell(Note::Refused(Arc::clone(&self.slice), failed)).await?;
            return Ok(ControlFlow::Break(()));
        };
        let gap = format!("a page was left out: {}", failed.error.message);
        shared.leave(failed, gap).await?;
        self.whole = false;
        listing.guard(request).check(&at, 0)?;
        self.open.push(Listing { at, ..listing });
        Ok(ControlFlow::Continue(()))
    }

    async fn end(self) -> Result<()> {
        self.shared.stats.done.fetch_add(1, Ordering::Relaxed);
        if self.told {
            return Ok(());
        }
        let Self { shared, slice, whole, .. } = self;
        let (batch, rest, newest, gap) = (None, Vec::new(), None, None);
        shared.tell(Note::Page { slice, batch, rest, newest, gap, whole }).await
    }

    fn rest(&self) -> Vec<OpenListing> {
        self.open.iter().map(Listing::open).collect()
    }
}

/// A refused slice as it is remembered.
fn failed(shared: &Shared, slice: &Slice, error: SliceError) -> FailedSlice {
    let values = slice.items.iter().map(|item| item.value.to_string()).collect();
    let recurs = !reach::has_own_requests(&shared.plan, shared.reach);
    FailedSlice { request: slice.request, number: slice.number, values, error, recurs }
}

fn record(shared: &Shared, error: &SliceError) {
    let mut first = shared.refusal.lock().unwrap_or_else(PoisonError::into_inner);
    first.get_or_insert_with(|| error.message.clone());
    drop(first);
    shared.env.client.reporter.report(&Event::SliceSkipped { error: error.clone() });
}

/// Each record's value of the cursor.
fn stamps(shared: &Shared, request: &RequestPlan, page: &Page) -> Vec<Option<i64>> {
    let tap = request.cursor.and_then(|tap| page.taps.get(tap));
    let (Some(cursor), Some(tap)) = (&shared.plan.cursor, tap) else { return Vec::new() };
    tap.iter().map(|text| cursor.number(text?)).collect()
}

/// Whether a newest-first listing has come to records before the bound. A page that is not in order
/// tells nothing of what follows it.
fn is_past(shared: &Shared, stamps: &[Option<i64>]) -> bool {
    let newest_first = shared.plan.cursor.as_ref().is_some_and(|cursor| cursor.newest_first);
    let Some(bound) = shared.bound().filter(|_| newest_first) else { return false };
    let known = stamps.iter().flatten();
    known.clone().is_sorted_by(|one, next| one >= next)
        && known.last().is_some_and(|oldest| *oldest < bound)
}

/// Fetches and decodes one page.
async fn fetch(
    shared: &Shared,
    number: usize,
    request: &RequestPlan,
    listing: &Listing<'_>,
) -> Result<Answer<Fetched>> {
    let first = first_url(&shared.env.client.access.base_url, listing)?;
    let size = shared.page_sizes.get(number);
    let current = || size.map(|size| size.load(Ordering::Relaxed)).filter(|size| *size > 0);
    let build = || {
        let url = request.pager.url(&first, &listing.at, current());
        assemble(request, listing, url)
    };
    let shrink = || {
        let smaller = current().and_then(|size| request.pager.smaller_page(size));
        if let (Some(slot), Some(smaller)) = (size, smaller) {
            slot.store(smaller, Ordering::Relaxed);
        }
        smaller.is_some()
    };
    let fallback = Estimate::new(1);
    let call = Call {
        stream: &shared.plan.name,
        stats: &shared.stats,
        rules: &shared.plan.rules,
        child: !matches!(request.iterate, Iterate::Once),
        cost: (shared.plan.cost, shared.estimates.get(number).unwrap_or(&fallback)),
        build: &build,
        shrink: &shrink,
    };
    let answer = shared
        .env
        .client
        .ask(&call, |response| {
            let page = request.decoder.decode(&response.body)?;
            let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
            Ok(((page, response.headers.clone()), rows))
        })
        .await?;
    let (page, headers) = match answer {
        Answer::Read(read) => read,
        Answer::Given { then, url, status, message } => {
            return Ok(Answer::Given { then, url, status, message });
        }
    };
    let url = request.pager.url(&first, &listing.at, current());
    let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
    let seen = Seen { url: &url, headers: &headers, captures: &page.captures, rows };
    let next = request.pager.next(&listing.at, &seen)?;
    Ok(Answer::Read(Fetched { page, next }))
}

/// The listings of the children of each record on a page.
fn children<'plan>(
    request: &'plan RequestPlan,
    listing: &Listing<'_>,
    page: &Page,
) -> Result<Vec<Listing<'plan>>> {
    let Some(descend) = &request.descend else { return Ok(Vec::new()) };
    if page.rows > 0 && listing.depth >= descend.max_depth {
        let what = format!("records are nested deeper than {} levels", descend.max_depth);
        return Err(
            Error::new(Kind::Shape, what).with_hint("raise `descend.max_depth` in the spec")
        );
    }
    let mut children = Vec::with_capacity(page.rows);
    // The last one pushed is the first one asked for.
    for row in (0..page.rows).rev() {
        let mut scope = listing.scope.as_ref().clone();
        let mut with = Vec::with_capacity(descend.with.len());
        for (variable, tap) in &descend.with {
            let values = page.taps.get(*tap).filter(|values| values.is_valid(row));
            let value = values.map(|values| values.value(row)).ok_or_else(|| {
                Error::new(
                    Kind::Shape,
                    format!("a record lacks `{variable}`, which its children need"),
                )
            })?;
            scope = scope.with(Arc::clone(variable), Value::from(value));
            with.push(value.to_owned());
        }
        children.push(Listing {
            with,
            scope: Arc::new(scope),
            path: &descend.path,
            query: &descend.query,
            at: Position::First,
            depth: listing.depth + 1,
            guard: None,
        });
    }
    Ok(children)
}

/// Makes a batch of a page's rows, and hands its values to the queues, with their times. `known` holds
/// the keys of the slice so far; it is absent when the page is the whole slice.
async fn deliver(
    shared: &Shared,
    (request, scope): (&RequestPlan, &Arc<Scope>),
    (page, stamps): (Page, Vec<Option<i64>>),
    known: Option<&mut Option<KeySet>>,
) -> Result<Option<RecordBatch>> {
    let stats = &shared.stats;
    let wanted = having(request, &page);
    let present = wanted.as_ref().map_or(page.rows, BooleanArray::true_count);
    let allowed = allowance(shared, present).await?;
    let mut delivered = None;
    if let (Some(output), Some(rows)) = (&shared.plan.output, &shared.rows) {
        if let Some(path) = page.first_misfit.as_ref().filter(|_| output.strict) {
            let what = format!("a value at `{path}` does not fit its column, and `strict` is set");
            return Err(Error::new(Kind::Shape, what).with_hint(
                "correct the column's type in the spec, or under `columns` in the replication",
            ));
        }
        stats.misfits.fetch_add(page.misfits, Ordering::Relaxed);
        let mut batch = rows.build(output, &request.columns, &page, scope)?;
        if let Some(wanted) = &wanted {
            let broken = |error| Error::new(Kind::Shape, "rows cannot be left out").because(error);
            batch = filter_record_batch(&batch, wanted).map_err(broken)?;
        }
        batch = batch.slice(0, allowed);
        check_key(output, &batch, &page)?;
        if let Some(known) = known.filter(|_| !output.key.is_empty()) {
            let known = known.get_or_insert_with(KeySet::default);
            let (fresh, dropped) = without_known(batch, &output.key, known);
            Stats::add(&stats.duplicates, dropped);
            batch = fresh;
        }
        Stats::add(&stats.rows, batch.num_rows());
        delivered = Some(batch).filter(|batch| batch.num_rows() > 0);
    } else {
        Stats::add(&stats.rows, allowed);
    }
    let bytes = stats.bytes.load(Ordering::Relaxed);
    shared.env.client.reporter.report(&Event::Page {
        stream: shared.plan.name.clone(),
        rows: u64::try_from(allowed).unwrap_or(u64::MAX),
        bytes,
    });
    for (tap, queue) in &request.feeds {
        let (Some(Some(feeder)), Some(values)) = (shared.feeders.get(*queue), page.taps.get(*tap))
        else {
            continue;
        };
        let kept = |row: &usize| wanted.as_ref().is_none_or(|wanted| wanted.value(*row));
        let rows = (0..values.len()).filter(kept).take(allowed);
        let values = rows
            .filter(|row| values.is_valid(*row))
            .map(|row| (values.value(row), stamps.get(row).copied().flatten()));
        tokio::select! {
            biased;
            () = shared.env.client.cancel.cancelled() => return Err(interrupted()),
            () = feeder.push(values) => {}
        }
    }
    Ok(delivered)
}

/// Which records have the value that they must have.
fn having(request: &RequestPlan, page: &Page) -> Option<BooleanArray> {
    let tap: &StringArray = page.taps.get(request.having?)?;
    Some(tap.iter().map(|value| Some(value.is_some())).collect())
}

/// A row without its key could be told from no other.
fn check_key(output: &Output, batch: &RecordBatch, page: &Page) -> Result<()> {
    let gap = output.key.iter().find(|position| batch.column(**position).null_count() > 0);
    let Some(column) = gap.and_then(|position| output.columns.get(*position)) else {
        return Ok(());
    };
    let name = &column.column.name;
    let what = format!("a row has no value in `{name}`, a column of the key");
    let hint = match &page.first_misfit {
        Some(path) => format!(
            "the value at `{path}` is no {}; give the column another type",
            column.column.kind
        ),
        None => format!("the API left `{name}` out, or the spec's path for it is wrong"),
    };
    Err(Error::new(Kind::Shape, what).with_hint(hint))
}

/// How many of a page's rows may be taken; ends the stream when the limit is reached.
async fn allowance(shared: &Shared, rows: usize) -> Result<usize> {
    let (taken, reached) = {
        let mut left = shared.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = left.as_mut() else { return Ok(rows) };
        let taken = rows.min(usize::try_from(*rest).unwrap_or(usize::MAX));
        *rest -= u64::try_from(taken).unwrap_or(*rest);
        (taken, *rest == 0)
    };
    if reached {
        shared.gap("the row limit was reached").await?;
        shared.enough.cancel();
    }
    Ok(taken)
}
