//! Records that a listing only shows: which of them are as they were, and how the rows of the others come.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, cast::AsArray, types::Int64Type,
};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::filter::filter_record_batch;
use serde::{Deserialize, Serialize};

use crate::progress::row_keys::{hash_rows, with_text};
use crate::extract::listing::Listing;
use crate::run::loader::Sight;
use crate::extract::page;
use crate::progress::versions::KnownLooks;
use crate::queue::Item;
use crate::extract::context::Shared;
use crate::progress::saved::OpenListing;
use crate::report::counters::Stats;
use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::plan::{ChunkSize, LookPlan, Output, RequestPlan, encoded};
use crate::template::{Scope, Value};

/// Name of the column that holds the looks of a page's rows while some of them are left out.
const LOOK: &str = "look";

/// A record's id, and a hash of how it looks; `None`: that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Look(String, Option<i64>);

impl Look {
    /// What is to be remembered of the record.
    pub(crate) fn sight(self, stays: bool) -> Sight {
        Sight { item: self.item(), stays, whole: true }
    }

    fn item(self) -> Item {
        Item { value: self.0.into(), stamp: self.1, carried: "".into() }
    }
}

/// Adds to a page's rows a column of how their records look.
pub(crate) fn with_looks(batch: &RecordBatch, plan: &LookPlan, page: &Page) -> Result<RecordBatch> {
    let versions = page.taps.get(plan.version);
    let version = |row| versions.filter(|all| all.is_valid(row)).map(|all| all.value(row));
    let hashes = hash_rows(batch, &plan.columns).into_iter().enumerate();
    let looks: Int64Array = hashes
        .map(|(row, hash)| {
            // Half of the hash is enough beside the id.
            Some((with_text(hash, version(row)?) >> 64) as i64)
        })
        .collect();
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(LOOK, DataType::Int64, true)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(looks));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)
}

/// Takes that column away again; returns the looks with the rows' ids.
pub(crate) fn without_looks(
    mut batch: RecordBatch,
    output: &Output,
) -> Result<(RecordBatch, Vec<Look>)> {
    let looks = batch.remove_column(batch.num_columns().saturating_sub(1));
    let looks = looks.as_primitive::<Int64Type>().iter();
    let looks = ids(&batch, output)?.into_iter().zip(looks).map(|(id, look)| Look(id, look));
    let looks = looks.collect();
    // The schema is the table's own again.
    let batch = RecordBatch::try_new(output.table.schema.arrow(), batch.columns().to_vec());
    Ok((batch.map_err(broken)?, looks))
}

/// The ids of rows, whose key has no nulls.
pub(crate) fn ids(batch: &RecordBatch, output: &Output) -> Result<Vec<String>> {
    let column: Option<&ArrayRef> = output.key.first().map(|position| batch.column(*position));
    match column {
        Some(column) if column.data_type() == &DataType::Utf8 => {
            Ok(column.as_string::<i32>().iter().flatten().map(str::to_owned).collect())
        }
        Some(column) if column.data_type() == &DataType::Int64 => {
            Ok(column.as_primitive::<Int64Type>().values().iter().map(i64::to_string).collect())
        }
        _ => Err(Error::new(Kind::Shape, "rows whose key is neither text nor int are not known")),
    }
}

fn broken(error: arrow_schema::ArrowError) -> Error {
    Error::new(Kind::Shape, "what a listing shows cannot be told apart").because(error)
}

/// Tells records that are as they were from the others.
pub(crate) fn split(looks: Vec<Look>, known: Option<&KnownLooks>) -> (Vec<Look>, Vec<Look>) {
    let is_known = |look: &Look| known.is_some_and(|known| known.is_same(&look.clone().item()));
    looks.into_iter().partition(is_known)
}

/// The records of one request: all of them, and those that have not come yet. Kept as two JSON lists in
/// [`Listing::with`].
struct Batch {
    asked: Vec<Look>,
    left: Vec<Look>,
}

impl Batch {
    fn read(with: &[String]) -> Self {
        let read = |at: usize| {
            let text = with.get(at).map_or("", String::as_str);
            serde_json::from_str(text).unwrap_or_default()
        };
        Self { asked: read(0), left: read(1) }
    }

    fn written(&self) -> Vec<String> {
        let written = |looks: &Vec<Look>| serde_json::to_string(looks).unwrap_or_default();
        vec![written(&self.asked), written(&self.left)]
    }
}

/// The request that fetches records; nothing where `request` fetches none.
fn fetching<'plan>(
    (number, request): (usize, &'plan RequestPlan),
    scope: &Arc<Scope>,
    batch: &Batch,
) -> Option<Listing<'plan>> {
    let fetch = request.routed.fetch.as_ref()?;
    let ids: Vec<Value> = batch.asked.iter().map(|look| Value::from(look.0.as_str())).collect();
    let scope = scope.as_ref().clone().with_silent([(Arc::clone(&fetch.variable), ids.into())]);
    Some(Listing {
        path: &fetch.path,
        query: &fetch.query,
        with: batch.written(),
        depth: 1,
        ..Listing::first((number, request), &Arc::new(scope))
    })
}

/// One that an earlier process had begun.
pub(crate) fn again<'plan>(
    request: (usize, &'plan RequestPlan),
    scope: &Arc<Scope>,
    open: OpenListing,
) -> Option<Listing<'plan>> {
    let batch = Batch::read(&open.with);
    Some(Listing { at: open.at, ..fetching(request, scope, &batch)? })
}

/// Opens the fetching of records: what fills a request comes next, the rest waits for more below all other
/// listings.
pub(crate) fn open<'plan>(
    open: &mut Vec<Listing<'plan>>,
    request: (usize, &'plan RequestPlan),
    scope: &Arc<Scope>,
    mut looks: Vec<Look>,
) {
    let Some(chunk) = request.1.routed.fetch.as_ref().map(|fetch| fetch.chunk) else { return };
    let waiting = open.first().filter(|first| first.depth > 0 && first.is_fresh());
    let waiting =
        waiting.map(|first| Batch::read(&first.with).asked).filter(|few| few.len() < chunk);
    if let Some(few) = waiting {
        open.remove(0);
        looks.splice(0..0, few);
    }
    // What a listing shows twice is asked for once, as it was shown last.
    let mut named = HashSet::new();
    looks.reverse();
    looks.retain(|look| named.insert(look.0.clone()));
    looks.reverse();
    let chunk_of = ChunkSize { count: chunk, bytes: ChunkSize::bytes(true) };
    for asked in chunk_of.split(&looks, |look| encoded(&look.0)) {
        let batch = Batch { asked: asked.to_vec(), left: asked.to_vec() };
        let Some(listing) = fetching(request, scope, &batch) else { return };
        let at = if asked.len() < chunk { 0 } else { open.len() };
        open.insert(at, listing);
    }
}

/// Two listings that fetch half of a listing's records each, the first half last; `None` where it is about one.
pub(crate) fn halves<'plan>(
    scope: &Arc<Scope>,
    listing: &Listing<'plan>,
) -> Option<[Listing<'plan>; 2]> {
    let Batch { mut asked, .. } = Batch::read(&listing.with);
    let half = |asked: Vec<Look>| {
        let batch = Batch { left: asked.clone(), asked };
        fetching((listing.number, listing.request), scope, &batch)
    };
    let rest = asked.split_off(asked.len() / 2);
    if asked.is_empty() {
        return None;
    }
    Some([half(rest)?, half(asked)?])
}

/// What an answer has brought of the records that were asked for.
pub(crate) struct Came {
    /// The rows, each record's once.
    pub(crate) batch: RecordBatch,
    /// What is to be remembered of them.
    pub(crate) sights: Vec<Sight>,
    /// Records that have not come.
    pub(crate) left: usize,
}

/// Takes note of rows that came; they are then no longer waited for in `listing`. Where there is one that was
/// not asked for, its id.
pub(crate) fn came(
    shared: &Shared,
    listing: &mut Listing<'_>,
    page: &Page,
) -> Result<std::result::Result<Came, String>> {
    let rows = page::rows(shared, listing, page)?;
    let (Some(output), Some(batch)) = (&shared.plan.output, rows) else {
        return Err(Error::new(Kind::Shape, "rows came of which none were wanted"));
    };
    page::check_key(output, &batch, page)?;
    let Some(look) = &listing.request.routed.look else {
        return Err(Error::new(Kind::Shape, "rows came of which it is not known how they look"));
    };
    let (batch, looks) = without_looks(with_looks(&batch, look, page)?, output)?;
    let mut all = Batch::read(&listing.with);
    let asked: HashSet<&str> = all.asked.iter().map(|look| look.0.as_str()).collect();
    if let Some(Look(other, _)) = looks.iter().find(|look| !asked.contains(look.0.as_str())) {
        return Ok(Err(other.clone()));
    }
    let mut sights = Vec::new();
    let count = looks.len();
    let fresh = looks.into_iter().map(|look| {
        let at = all.left.iter().position(|left| left.0 == look.0)?;
        // One that has changed meanwhile is asked for again the next time.
        let shown = all.left.swap_remove(at);
        sights.extend((shown == look).then(|| look.sight(false)));
        Some(true)
    });
    let fresh: BooleanArray = fresh.collect();
    let batch = filter_record_batch(&batch, &fresh).map_err(broken)?;
    let stats = &shared.stats;
    Stats::add(&stats.duplicates, count - batch.num_rows());
    page::note_values(shared, output, listing.request, page);
    page::report(shared);
    listing.with = all.written();
    Ok(Ok(Came { batch, sights, left: all.left.len() }))
}
