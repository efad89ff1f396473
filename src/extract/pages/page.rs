//! One page of a listing: requests, decodes and delivers it.

use std::sync::{
    PoisonError,
    atomic::{AtomicU32, Ordering},
};

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use crate::decode::{DecodeError, Page};
use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::links::RequestLinks;
use crate::extract::pages::fingerprint::{Fingerprint, add_fingerprints, take_fingerprints};
use crate::extract::pages::listing::Listing;
use crate::extract::pages::request::{assemble, first_url};
use crate::http::answer::Answer;
use crate::http::call::{Call, Need};
use crate::http::client::interrupted;
use crate::http::exchange::{HeaderMap, Response, Url};
use crate::http::pagination::{PageStep, Position, Seen};
use crate::plan::{ColumnValue, FeedPlan, Iterate, Output, RequestPlan};
use crate::progress::row_keys::{KeySet, count_new};
use crate::report::counters::Stats;
use crate::report::{ColumnReport, Event};

/// A decoded page, and the position of the next one.
pub(crate) struct Fetched {
    pub(crate) page: Page,
    pub(crate) step: PageStep,
    /// Number of records, if the page is full and the response does not state whether another page follows.
    pub(crate) full: Option<u64>,
    /// Values of a chunk that the response covers; `None`: all.
    pub(crate) found: Option<Vec<String>>,
    /// The page size of the request, if the server could not return a larger page.
    pub(crate) narrow: Option<u32>,
}

/// The cursor's value of each record.
pub(crate) fn stamps(
    shared: &StreamContext,
    request: &RequestPlan,
    page: &Page,
) -> Vec<Option<i64>> {
    let tap = request.cursor.and_then(|tap| page.taps.get(tap));
    let (Some(cursor), Some(tap)) = (&shared.plan.cursor, tap) else { return Vec::new() };
    tap.iter().map(|text| cursor.number(text?)).collect()
}

/// Whether a newest-first listing has reached records before the bound. A page that is not sorted says nothing about
/// the pages after it.
pub(crate) fn is_past(shared: &StreamContext, unbounded: bool, stamps: &[Option<i64>]) -> bool {
    let newest_first = shared.plan.cursor.as_ref().is_some_and(|cursor| cursor.newest_first);
    let bound = match &shared.plan.cursor {
        Some(cursor) if unbounded => cursor.anchor,
        _ => shared.bound(),
    };
    let Some(bound) = bound.filter(|_| newest_first) else { return false };
    let known = stamps.iter().flatten();
    known.clone().is_sorted_by(|one, next| one >= next)
        && known.last().is_some_and(|oldest| *oldest < bound)
}

/// Fetches and decodes one page.
pub(crate) async fn fetch(
    shared: &StreamContext,
    links: &RequestLinks,
    listing: &Listing<'_>,
    tentative: bool,
) -> Result<Answer<Fetched>> {
    let (number, request) = (listing.number, listing.request);
    let first = first_url(&shared.env.client.access.base_url, listing)?;
    let size = shared.page_sizes.get(number);
    let later = || size.map(|size| size.load(Ordering::Relaxed)).filter(|size| *size > 0);
    let begins = number == links.number && listing.depth == 0 && listing.at == Position::First;
    let opening = links.opening.filter(|_| begins);
    let narrow = AtomicU32::new(listing.narrow.unwrap_or(u32::MAX));
    let current = || {
        let size = later()?.min(narrow.load(Ordering::Relaxed));
        Some(opening.map_or(size, |opening| size.min(opening)))
    };
    let build = || {
        let mut url = listing.pager.url(&first, &listing.at, current());
        if listing.lean.is_some() {
            url = without(&url, listing.pager.costly());
        }
        assemble(listing, url, current())
    };
    let read = |page: Page, headers: &HeaderMap, found| {
        let url = listing.pager.url(&first, &listing.at, current());
        let rows = u64::try_from(page.rows).unwrap_or(u64::MAX);
        let (size, total) = (current(), listing.total);
        let seen = Seen { url: &url, headers, captures: &page.captures, rows, size, total };
        let mut step = listing.pager.next(&listing.at, &seen)?;
        if listing.lean.is_some() {
            step.next = step.next.map(|next| with(next, &url, listing.pager.costly()));
        }
        let silent = step.next.is_none() && !step.stated && step.gap.is_none();
        let full = silent && listing.is_fresh() && listing.pager.is_full(&seen);
        let narrow = size.filter(|_| narrow.load(Ordering::Relaxed) < u32::MAX);
        Ok(Answer::Read(Fetched { page, step, full: full.then_some(rows), found, narrow }))
    };
    let alone = listing.depth > 0 || listing.narrow.is_some() || listing.lean.is_some();
    if let Some(shared_listing) = links.shared_listing.as_ref().filter(|_| !alone) {
        let url = listing.pager.url(&first, &listing.at, current());
        if let Some((page, headers)) = shared_listing
            .ask(shared, shared.price(number, current()), &build, url.as_str())
            .await?
        {
            return read(page, &headers, None);
        }
    }
    let narrower = || {
        let smaller = current().and_then(|size| listing.pager.smaller_page(size));
        if let Some(smaller) = smaller {
            narrow.store(smaller, Ordering::Relaxed);
        }
        smaller.is_some()
    };
    let shrink = || {
        if narrow.load(Ordering::Relaxed) < u32::MAX {
            return narrower();
        }
        let smaller = later().and_then(|size| listing.pager.smaller_page(size));
        if let (Some(slot), Some(smaller)) = (size, smaller) {
            slot.store(smaller, Ordering::Relaxed);
        }
        smaller.is_some()
    };
    let call = Call {
        stream: &shared.plan.name,
        stats: &shared.stats,
        rules: &shared.plan.rules,
        child: is_child(listing),
        need: if tentative { Need::Tentative } else { Need::Firm },
        leaves: true,
        shared: false,
        price: shared.price(number, current()),
        build: &build,
        shrink: &shrink,
        narrow: &narrower,
    };
    let answer = shared.env.client.ask(&call, |response| decoded(request, response));
    answer.await?.and_then(|(page, headers, found)| read(page, &headers, found))
}

/// A page, the headers of its response, and the values of a chunk that it covers.
type Decoded = (Page, HeaderMap, Option<Vec<String>>);

/// Decodes a response, and counts its objects.
fn decoded(request: &RequestPlan, response: &Response) -> Result<(Decoded, u64), DecodeError> {
    let page = request.decoder.decode(response.json())?;
    let found = request.kind.covers();
    let found = found.map(|found| found.decoder.decode(response.json())).transpose()?;
    // The objects that contain the records count as well.
    let carriers = found.as_ref().map_or(0, |found| found.rows);
    let rows = u64::try_from(page.rows + carriers).unwrap_or(u64::MAX);
    Ok(((page, response.headers.clone(), found.as_ref().map(whole)), rows))
}

/// Whether a listing belongs to one object or a few.
pub(crate) fn is_child(listing: &Listing<'_>) -> bool {
    listing.depth > 0 || !matches!(listing.request.iterate, Iterate::Once)
}

/// A position whose link has the query parameters `names` of `url`, so that the next page is requested like this one.
fn with(at: Position, url: &Url, names: &[String]) -> Position {
    let mut link = match &at {
        Position::Query(query) => {
            let mut link = url.clone();
            link.set_query(Some(query));
            link
        }
        Position::Url(link) => link.clone(),
        _ => return at,
    };
    let there: Vec<String> = link.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let own = url.query_pairs().into_owned();
    let lacking = own.filter(|(name, _)| names.contains(name) && !there.contains(name));
    link.query_pairs_mut().extend_pairs(lacking);
    match at {
        Position::Query(_) => Position::Query(link.query().unwrap_or_default().to_owned()),
        _ => Position::Url(link),
    }
}

/// A URL without the query parameters `names`.
fn without(url: &Url, names: &[String]) -> Url {
    let pairs = url.query_pairs().into_owned();
    let pairs: Vec<_> = pairs.filter(|(name, _)| !names.contains(name)).collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url
}

/// The values of a chunk that a response covers completely.
fn whole(found: &Page) -> Vec<String> {
    let (values, signs) = (found.taps.first(), found.taps.get(1));
    let cut = |row: &usize| signs.is_some_and(|signs| signs.is_valid(*row));
    let rows = (0..found.rows).filter(|row| !cut(row));
    let value = |row| values.filter(|values| values.is_valid(row)).map(|values| values.value(row));
    rows.filter_map(value).map(str::to_owned).collect()
}

/// The delivered rows of a page.
#[derive(Default)]
pub(crate) struct Delivered {
    pub(crate) batch: Option<RecordBatch>,
    /// Number of rows.
    pub(crate) rows: usize,
    /// Fingerprints of their records, if the run saves them.
    pub(crate) fingerprints: Vec<Fingerprint>,
}

/// Makes a batch of a page's rows.
pub(crate) fn rows(
    shared: &StreamContext,
    listing: &Listing<'_>,
    page: &Page,
) -> Result<Option<RecordBatch>> {
    let (Some(output), Some(rows)) = (&shared.plan.output, &shared.rows) else { return Ok(None) };
    if let Some(path) = page.first_misfit.as_ref().filter(|_| output.strict) {
        let what = format!("a value at `{path}` does not fit its column, and `strict` is set");
        return Err(Error::new(Kind::Shape, what).with_hint(
            "correct the column's type in the spec, or under `columns` in the replication",
        ));
    }
    let batch = rows.build(output, &listing.request.columns, page, &listing.scope)?;
    Ok(Some(batch))
}

/// The records of a page.
pub(crate) struct PageRecords {
    pub(crate) page: Page,
    /// Per record the value of the cursor.
    pub(crate) stamps: Vec<Option<i64>>,
    /// Per record whether the stream takes it; `None`: it takes all.
    pub(crate) selected: Option<BooleanArray>,
}

/// Makes a batch of a page's rows, and feeds the queues. `known`: keys of the slice's rows so far; `None` if the page
/// is the whole slice.
pub(crate) async fn deliver(
    shared: &StreamContext,
    listing: &Listing<'_>,
    records: &PageRecords,
    known: Option<&mut Option<KeySet>>,
) -> Result<Delivered> {
    let stats = &shared.stats;
    let request = listing.request;
    let PageRecords { page, selected, .. } = records;
    let shows = request.kind.fetch().is_some();
    let present = selected.as_ref().map_or(page.rows, BooleanArray::true_count);
    let allowed = allowance(shared, present).await?;
    let mut delivered = Delivered::default();
    if let (Some(output), Some(mut batch)) = (&shared.plan.output, rows(shared, listing, page)?) {
        // Type mismatches are reported where the row is fetched.
        if !shows {
            note_values(shared, output, request, page);
        }
        let fingerprint = request.fingerprint.as_ref().filter(|_| shows || shared.fingerprints);
        if let Some(fingerprint) = fingerprint {
            batch = add_fingerprints(&batch, fingerprint, page)?;
        }
        if let Some(selected) = selected {
            let broken = |error| Error::new(Kind::Shape, "rows cannot be left out").because(error);
            batch = filter_record_batch(&batch, selected).map_err(broken)?;
        }
        batch = batch.slice(0, allowed);
        check_key(output, &batch, page)?;
        if let Some(known) = known.filter(|_| !output.key.is_empty()) {
            let known = known.get_or_insert_with(KeySet::default);
            let fresh = count_new(&batch, &output.key, known);
            // The default request of a truncated value may return records that the slice's own request has returned.
            let repeats = listing.may_repeat
                || request.may_repeat
                || listing.is_fresh()
                || listing.part.is_some();
            if batch.num_rows() > 0 && fresh == 0 && !repeats {
                return Err(nothing_new(listing));
            }
        }
        delivered.rows = batch.num_rows();
        if fingerprint.is_some() {
            (batch, delivered.fingerprints) = take_fingerprints(batch, output)?;
        }
        delivered.batch = Some(batch).filter(|batch| batch.num_rows() > 0 && !shows);
    } else {
        delivered.rows = allowed;
    }
    Stats::add(&stats.rows, delivered.rows);
    if let Some(asked) = &request.asked {
        let values = page.taps.get(asked.tap).into_iter().flatten().flatten();
        stats.note_found(&asked.values, values);
    }
    report(shared);
    feed(shared, request, records, allowed).await?;
    Ok(delivered)
}

/// The error of a page that contains only records of earlier pages.
fn nothing_new(listing: &Listing<'_>) -> Error {
    let place = listing.scope.describe();
    let place = if place.is_empty() { place } else { format!(" of {place}") };
    let what = format!("a page{place} contains only records of earlier pages");
    Error::new(Kind::Shape, what).with_hint(
        "the server seems to ignore the parameters of `paginate`: correct them in the spec; if this API may \
         repeat a page and then continue, set `may_repeat: true`",
    )
}

/// Counts the values of a page's columns, and the type mismatches.
pub(crate) fn note_values(
    shared: &StreamContext,
    output: &Output,
    request: &RequestPlan,
    page: &Page,
) {
    shared.stats.misfits.fetch_add(page.misfits, Ordering::Relaxed);
    let kept =
        page.extra.is_some() && request.columns.iter().any(|one| matches!(one, ColumnValue::Extra));
    let sources = output.columns.iter().zip(&request.columns);
    let decoded = sources.filter(|(_, source)| matches!(source, ColumnValue::Decoded(_)));
    let values = page.columns.iter().zip(&page.column_misfits);
    shared.stats.note_columns(|columns| {
        for ((plan, _), (array, misfits)) in decoded.zip(values) {
            let fit = u64::try_from(array.len() - array.null_count()).unwrap_or(u64::MAX);
            if !columns.contains_key(&plan.column.name) {
                let kind = plan.column.kind.to_string();
                let column = ColumnReport { kind, kept, ..ColumnReport::default() };
                columns.insert(plan.column.name.clone(), column);
            }
            if let Some(column) = columns.get_mut(&plan.column.name) {
                column.values += fit + misfits;
                column.misfits += misfits;
            }
        }
    });
}

/// Reports the progress of the stream.
pub(crate) fn report(shared: &StreamContext) {
    let (stream, figures) = (shared.plan.name.clone(), shared.stats.figures());
    shared.env.client.reporter.report(&Event::Progress { stream, figures });
}

/// Feeds the queues with values of the first `allowed` selected records.
async fn feed(
    shared: &StreamContext,
    request: &RequestPlan,
    records: &PageRecords,
    allowed: usize,
) -> Result<()> {
    let PageRecords { page, stamps, selected } = records;
    for feed in &request.feeds {
        let FeedPlan { queue, tap, filter, carried } = feed;
        let fit = passing(filter, page);
        let (Some(Some(feeder)), Some(values)) = (shared.feeders.get(*queue), page.taps.get(*tap))
        else {
            continue;
        };
        let kept = |row: &usize| selected.as_ref().is_none_or(|selected| selected.value(*row));
        let fits = |row: &usize| fit.as_ref().is_none_or(|fit| fit.get(*row) == Some(&true));
        let rows = (0..values.len()).filter(kept).take(allowed).filter(fits);
        let values = rows.filter(|row| values.is_valid(*row)).map(|row| {
            let along = along(page, carried, row);
            (values.value(row), stamps.get(row).copied().flatten(), along)
        });
        tokio::select! {
            biased;
            () = shared.env.client.cancel.cancelled() => return Err(interrupted()),
            () = feeder.push(values) => {}
        }
    }
    Ok(())
}

/// The carried values of a record as a JSON list; empty if the queue carries none.
fn along(page: &Page, carried: &[usize], row: usize) -> String {
    if carried.is_empty() {
        return String::new();
    }
    let value = |tap: &usize| {
        let tap = page.taps.get(*tap).filter(|tap| tap.is_valid(row))?;
        Some(tap.value(row))
    };
    let values: Vec<Option<&str>> = carried.iter().map(value).collect();
    serde_json::to_string(&values).unwrap_or_default()
}

/// Per record whether it passes a filter; `None`: all do.
fn passing(filter: &[(usize, Option<String>)], page: &Page) -> Option<Vec<bool>> {
    let mut wanted: Option<Vec<bool>> = None;
    for (tap, text) in filter {
        let Some(tap) = page.taps.get(*tap) else { continue };
        let fits = |value: Option<&str>| match text {
            Some(text) => value == Some(text),
            None => value.is_some(),
        };
        let all = wanted.get_or_insert_with(|| vec![true; page.rows]);
        for (wanted, value) in all.iter_mut().zip(tap) {
            *wanted = *wanted && fits(value);
        }
    }
    wanted
}

/// The records of a page that the stream takes, by its filter and by queues of parents; `None`: all of them.
pub(crate) fn selected(
    listing: &Listing<'_>,
    links: &RequestLinks,
    page: &Page,
) -> Option<BooleanArray> {
    let request = listing.request;
    if listing.depth > 0 {
        // Children of a selected record are selected for every queue.
        let filter = request.children.as_ref().map(|children| children.filter.as_slice());
        return passing(filter.unwrap_or_default(), page).map(BooleanArray::from);
    }
    let mut wanted = passing(&request.filter, page);
    for (queue, tap) in &request.parent_in {
        let watch = links.watches.iter().find(|(watched, _)| watched == queue);
        let (Some((_, watch)), Some(tap)) = (watch, page.taps.get(*tap)) else { continue };
        let all = wanted.get_or_insert_with(|| vec![true; page.rows]);
        for (wanted, value) in all.iter_mut().zip(tap) {
            *wanted = *wanted && value.is_some_and(|value| watch.has(value));
        }
    }
    wanted.map(BooleanArray::from)
}

/// Checks that all key columns have values.
pub(crate) fn check_key(output: &Output, batch: &RecordBatch, page: &Page) -> Result<()> {
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

/// Number of a page's rows that the stream may take. Ends the stream when it reaches the row limit.
pub(crate) async fn allowance(shared: &StreamContext, rows: usize) -> Result<usize> {
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
