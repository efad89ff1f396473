//! Records that a listing only shows: which of them are as they were, and how the rows of the others come.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;

use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::extract::context::StreamContext;
use crate::extract::messages::SeenRecord;
use crate::extract::pages::fingerprint::{Fingerprint, broken, with_looks, without_looks};
use crate::extract::pages::listing::Listing;
use crate::extract::pages::page;
use crate::extract::pages::route::Route;
use crate::plan::{ChunkSize, FetchPlan, encoded};
use crate::progress::saved::OpenListing;
use crate::progress::versions::KnownFingerprints;
use crate::report::counters::Stats;
use crate::template::Value;

/// Tells records that are as they were from the others.
pub(crate) fn split(
    fingerprints: Vec<Fingerprint>,
    known: Option<&KnownFingerprints>,
) -> (Vec<Fingerprint>, Vec<Fingerprint>) {
    let is_known =
        |look: &Fingerprint| known.is_some_and(|known| known.is_same(&look.clone().item()));
    fingerprints.into_iter().partition(is_known)
}

/// The records of one request: all of them, and those that have not come yet. Kept as two JSON lists in
/// [`Listing::with`].
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

/// The listing that fetches records by their ids.
fn fetching<'plan>(
    route: &Route<'plan>,
    fetch: &'plan FetchPlan,
    batch: &IdBatch,
) -> Listing<'plan> {
    let ids: Vec<Value> = batch.asked.iter().map(|one| Value::from(one.0.as_str())).collect();
    let variable = (Arc::clone(&fetch.variable), ids.into());
    let scope = route.scope.as_ref().clone().with_silent([variable]);
    Listing {
        path: &fetch.path,
        query: &fetch.query,
        with: batch.written(),
        depth: 1,
        ..Listing::first(route.number, route.request, &Arc::new(scope))
    }
}

/// A fetching listing that an earlier process started.
pub(crate) fn resumed<'plan>(
    route: &Route<'plan>,
    fetch: &'plan FetchPlan,
    open: OpenListing,
) -> Listing<'plan> {
    let batch = IdBatch::read(&open.with);
    Listing { at: open.at, ..fetching(route, fetch, &batch) }
}

/// Adds listings that fetch records. Full requests are sent next; the rest waits for more ids below all other
/// listings.
pub(crate) fn open<'plan>(
    route: &Route<'plan>,
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
        open.insert(at, fetching(route, fetch, &batch));
    }
}

/// Two listings that fetch half of a listing's records each, the first half last. `None` if it fetches one record.
pub(crate) fn halves<'plan>(
    route: &Route<'plan>,
    listing: &Listing<'plan>,
) -> Option<[Listing<'plan>; 2]> {
    let fetch = listing.request.kind.fetch()?;
    let IdBatch { mut asked, .. } = IdBatch::read(&listing.with);
    let half = |asked: Vec<Fingerprint>| {
        let batch = IdBatch { left: asked.clone(), asked };
        fetching(route, fetch, &batch)
    };
    let rest = asked.split_off(asked.len() / 2);
    (!asked.is_empty()).then(|| [half(rest), half(asked)])
}

/// What an answer has brought of the records that were asked for.
pub(crate) struct FetchedRows {
    /// The rows, each record's once.
    pub(crate) batch: RecordBatch,
    /// What is to be remembered of them.
    pub(crate) seen: Vec<SeenRecord>,
    /// Records that have not come.
    pub(crate) left: usize,
}

/// Takes note of rows that came; they are then no longer waited for in `listing`. Where there is one that was
/// not asked for, its id.
pub(crate) fn came(
    shared: &StreamContext,
    listing: &mut Listing<'_>,
    page: &Page,
) -> Result<std::result::Result<FetchedRows, String>> {
    let rows = page::rows(shared, listing, page)?;
    let (Some(output), Some(batch)) = (&shared.plan.output, rows) else {
        return Err(Error::new(Kind::Shape, "rows came of which none were wanted"));
    };
    page::check_key(output, &batch, page)?;
    let Some(look) = &listing.request.fingerprint else {
        return Err(Error::new(Kind::Shape, "rows came of which it is not known how they look"));
    };
    let (batch, fingerprints) = without_looks(with_looks(&batch, look, page)?, output)?;
    let mut all = IdBatch::read(&listing.with);
    let asked: HashSet<&str> = all.asked.iter().map(|look| look.0.as_str()).collect();
    if let Some(Fingerprint(other, _)) =
        fingerprints.iter().find(|look| !asked.contains(look.0.as_str()))
    {
        return Ok(Err(other.clone()));
    }
    let mut seen = Vec::new();
    let count = fingerprints.len();
    let fresh = fingerprints.into_iter().map(|look| {
        let at = all.left.iter().position(|left| left.0 == look.0)?;
        // One that has changed meanwhile is asked for again the next time.
        let shown = all.left.swap_remove(at);
        seen.extend((shown == look).then(|| look.seen(false)));
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
