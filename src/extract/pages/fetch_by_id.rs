//! Routes that list first and then fetch: finds records whose fingerprints changed, and fetches them by id.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::messages::SeenRecord;
use crate::extract::pages::fingerprint::{
    Fingerprint, add_fingerprints, broken, take_fingerprints,
};
use crate::extract::pages::listing::Listing;
use crate::extract::pages::page;
use crate::plan::{ChunkSize, FetchPlan, encoded};
use crate::progress::saved::OpenListing;
use crate::progress::versions::KnownFingerprints;
use crate::report::counters::Stats;
use crate::template::Value;

/// Separates unchanged records from new and changed ones.
pub(crate) fn split(
    fingerprints: Vec<Fingerprint>,
    known: Option<&KnownFingerprints>,
) -> (Vec<Fingerprint>, Vec<Fingerprint>) {
    let is_unchanged = |fingerprint: &Fingerprint| {
        known.is_some_and(|known| known.is_same(&fingerprint.clone().item()))
    };
    fingerprints.into_iter().partition(is_unchanged)
}

/// The records of one request: all, and those that responses have not contained yet. [`Listing::with`] holds them as
/// two JSON lists.
struct IdBatch {
    asked: Vec<Fingerprint>,
    left: Vec<Fingerprint>,
}

impl IdBatch {
    fn read(with: &[String]) -> Self {
        let read = |at: usize| {
            let text = with.get(at).map_or("", String::as_str);
            serde_json::from_str(text).unwrap_or_default()
        };
        Self { asked: read(0), left: read(1) }
    }

    fn written(&self) -> Vec<String> {
        let written = |fingerprints: &Vec<Fingerprint>| {
            serde_json::to_string(fingerprints).unwrap_or_default()
        };
        vec![written(&self.asked), written(&self.left)]
    }
}

/// The listing that fetches records by their ids. `first`: the slice's own listing.
fn fetching<'plan>(
    first: &Listing<'plan>,
    fetch: &'plan FetchPlan,
    batch: &IdBatch,
) -> Listing<'plan> {
    let ids: Vec<Value> = batch.asked.iter().map(|one| Value::from(one.0.as_str())).collect();
    let variable = (Arc::clone(&fetch.variable), ids.into());
    let scope = first.scope.as_ref().clone().with_silent([variable]);
    Listing {
        path: &fetch.path,
        query: &fetch.query,
        with: batch.written(),
        depth: 1,
        ..Listing::first(first.number, first.request, &Arc::new(scope))
    }
}

/// A fetching listing that an earlier process started.
pub(crate) fn resumed<'plan>(
    first: &Listing<'plan>,
    fetch: &'plan FetchPlan,
    open: OpenListing,
) -> Listing<'plan> {
    let batch = IdBatch::read(&open.with);
    Listing { at: open.at, ..fetching(first, fetch, &batch) }
}

/// Adds listings that fetch records. Full requests are sent next; the rest waits for more ids below all other
/// listings.
pub(crate) fn open<'plan>(
    first: &Listing<'plan>,
    fetch: &'plan FetchPlan,
    mut fingerprints: Vec<Fingerprint>,
    open: &mut Vec<Listing<'plan>>,
) {
    let waiting = open.first().filter(|first| first.depth > 0 && first.is_fresh());
    let waiting =
        waiting.map(|first| IdBatch::read(&first.with).asked).filter(|few| few.len() < fetch.chunk);
    if let Some(few) = waiting {
        open.remove(0);
        fingerprints.splice(0..0, few);
    }
    // A record that the listing shows twice is fetched once, with its last fingerprint.
    let mut named = HashSet::new();
    fingerprints.reverse();
    fingerprints.retain(|one| named.insert(one.0.clone()));
    fingerprints.reverse();
    let chunk_of = ChunkSize { count: fetch.chunk, bytes: ChunkSize::bytes(true) };
    for asked in chunk_of.split(&fingerprints, |one| encoded(&one.0)) {
        let batch = IdBatch { asked: asked.to_vec(), left: asked.to_vec() };
        let at = if asked.len() < fetch.chunk { 0 } else { open.len() };
        open.insert(at, fetching(first, fetch, &batch));
    }
}

/// Two listings that fetch half of a listing's records each, the first half last. `None` if it fetches one record.
pub(crate) fn halves<'plan>(
    first: &Listing<'plan>,
    listing: &Listing<'plan>,
) -> Option<[Listing<'plan>; 2]> {
    let fetch = listing.request.kind.fetch()?;
    let IdBatch { mut asked, .. } = IdBatch::read(&listing.with);
    let half = |asked: Vec<Fingerprint>| {
        let batch = IdBatch { left: asked.clone(), asked };
        fetching(first, fetch, &batch)
    };
    let rest = asked.split_off(asked.len() / 2);
    (!asked.is_empty()).then(|| [half(rest), half(asked)])
}

/// The requested records that a response contains.
pub(crate) struct FetchedRows {
    /// One row per record.
    pub(crate) batch: RecordBatch,
    /// The records to save the fingerprints of.
    pub(crate) seen: Vec<SeenRecord>,
    /// Number of requested records that no response has contained.
    pub(crate) left: usize,
}

/// The requested records on a page. Removes them from those that `listing` waits for. The inner error is the id of a
/// record that was not requested.
pub(crate) fn requested_rows(
    shared: &StreamContext,
    listing: &mut Listing<'_>,
    page: &Page,
) -> Result<std::result::Result<FetchedRows, String>> {
    let rows = page::rows(shared, listing, page)?;
    let (Some(output), Some(batch)) = (&shared.plan.output, rows) else {
        return Err(Error::new(Kind::Shape, "a stream without a table fetched rows"));
    };
    page::check_key(output, &batch, page)?;
    let Some(fingerprint) = &listing.request.fingerprint else {
        return Err(Error::new(
            Kind::Shape,
            "the request that fetched the rows has no fingerprint",
        ));
    };
    let (batch, fingerprints) =
        take_fingerprints(add_fingerprints(&batch, fingerprint, page)?, output)?;
    let mut all = IdBatch::read(&listing.with);
    let asked: HashSet<&str> = all.asked.iter().map(|fingerprint| fingerprint.0.as_str()).collect();
    if let Some(Fingerprint(other, _)) =
        fingerprints.iter().find(|fingerprint| !asked.contains(fingerprint.0.as_str()))
    {
        return Ok(Err(other.clone()));
    }
    let mut seen = Vec::new();
    let count = fingerprints.len();
    let fresh = fingerprints.into_iter().map(|fingerprint| {
        let at = all.left.iter().position(|left| left.0 == fingerprint.0)?;
        // The next run fetches a record again that changed between the two requests.
        let shown = all.left.swap_remove(at);
        seen.extend((shown == fingerprint).then(|| fingerprint.seen(false)));
        Some(true)
    });
    let fresh: BooleanArray = fresh.collect();
    let batch = filter_record_batch(&batch, &fresh).map_err(broken)?;
    let stats = &shared.stats;
    Stats::add(&stats.duplicates, count - batch.num_rows());
    page::note_values(shared, output, listing.request, page);
    page::report(shared);
    listing.with = all.written();
    Ok(Ok(FetchedRows { batch, seen, left: all.left.len() }))
}
