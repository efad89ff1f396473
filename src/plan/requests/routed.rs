//! The part of a request that only routes have, compiled.

use std::sync::Arc;

use crate::decode::{Decoder, Layout, Others};
use crate::error::{Error, Result};
use crate::http::pagination::Pager;
use crate::path::Path;
use crate::plan::requests::compiler::Compiler;
use crate::plan::requests::merged::items_of;
use crate::plan::requests::templates::{invalid, query, template};
use crate::plan::streams::columns::{ColumnPlan, ColumnValue};
use crate::schema::ColumnType;
use crate::spec::{Fetch, RequestSpec};
use crate::template::{Expression, Template};

/// The part of a request that only routes have; empty for a stream's own requests.
#[derive(Debug, Default)]
pub struct Routed {
    /// Index of the default request for the same value, which weir sends where this request cannot
    /// continue.
    pub own: Option<usize>,
    /// Its records are part of a response about one object.
    pub embedded: Option<EmbeddedPlan>,
    /// Rows derived from the parent record.
    pub derive: Option<DerivePlan>,
    /// The values of a chunk that the response covers.
    pub covers: Option<CoversPlan>,
    /// Whether the request is never sent: values without a derived row have no rows.
    pub silent: bool,
    /// How to compute the fingerprint of a record, if one of the stream's routes fetches by id.
    pub look: Option<LookPlan>,
    /// How to fetch records by id after a listing.
    pub fetch: Option<FetchPlan>,
}

/// How to compute the fingerprint of a record.
#[derive(Debug)]
pub struct LookPlan {
    /// Tap of the record's version.
    pub version: usize,
    /// Positions of the columns that are part of the fingerprint: all columns that the route's
    /// listing returns.
    pub columns: Vec<usize>,
}

/// How to fetch records by id after a listing.
#[derive(Debug)]
pub struct FetchPlan {
    /// Variable that holds the ids.
    pub variable: Arc<str>,
    /// Number of ids per request.
    pub chunk: usize,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
}

/// Records that are part of a response about one object. The decoder captures whether the list is
/// truncated, and the token for the rest.
#[derive(Debug)]
pub struct EmbeddedPlan {
    /// Template of the path. Requests with the same path can be sent as one.
    pub path: String,
    /// Query parameter of the default request that takes the token.
    pub param: String,
}

/// A row that needs no request.
#[derive(Debug)]
pub struct DerivePlan {
    /// Where it holds, the value's only row is derived from the carried values.
    pub when: Expression,
    /// Per column of the table: position of its value among the values that the queue carries.
    pub columns: Vec<Option<usize>>,
}

/// The values of a chunk that a response covers.
#[derive(Debug)]
pub struct CoversPlan {
    /// Decoder of the covered objects. Its first tap is the value; an optional second tap is a sign
    /// that the object is incomplete.
    pub decoder: Decoder,
}

/// Paths outside the records whose values a request needs from its responses.
pub(crate) fn captures(request: &RequestSpec, pager: &Pager) -> Result<Vec<Path>> {
    let parse = |text: &String| Path::parse(text).map_err(Error::from_path);
    match &request.embedded {
        Some(embedded) => [&embedded.more, &embedded.cursor].into_iter().map(parse).collect(),
        None => Ok(pager.captures().to_vec()),
    }
}

impl Compiler<'_> {
    pub(crate) fn routed(&self, request: &RequestSpec, look: Option<LookPlan>) -> Result<Routed> {
        let items = items_of(request);
        let embedded = request.embedded.as_ref().map(|embedded| EmbeddedPlan {
            path: request.get.clone().unwrap_or_default(),
            param: embedded.param.clone(),
        });
        let derive = match &request.derive {
            None => None,
            Some(derive) => {
                let carried = items
                    .and_then(|items| self.queues.iter().find(|queue| queue.name == items.queue));
                let at = |plan: &ColumnPlan| {
                    let variable = derive.columns.get(&plan.column.name)?;
                    let path = items?.carry.get(variable)?;
                    carried?.carried.iter().position(|one| one == path)
                };
                let when = Expression::parse(&derive.when).map_err(|error| invalid(&error))?;
                let columns = self.columns.unwrap_or_default().iter().map(at).collect();
                Some(DerivePlan { when, columns })
            }
        };
        let covers = match &request.covers {
            None => None,
            Some(covers) => {
                let parse = |text: &str| Path::parse(text).map_err(Error::from_path);
                let taps = [Some(&covers.at), covers.more.as_ref()].into_iter().flatten();
                let layout = Layout {
                    records: parse(&covers.records)?,
                    taps: taps.map(|text| parse(text)).collect::<Result<_>>()?,
                    others: Others::Drop,
                    ..Layout::default()
                };
                let decoder = Decoder::new(layout)
                    .map_err(|error| Error::input("`covers` cannot be compiled").because(error))?;
                Some(CoversPlan { decoder })
            }
        };
        let silent = request.get.is_none() && request.post.is_none();
        let fetch = request.fetch.as_ref().map(fetch_plan).transpose()?;
        Ok(Routed { own: None, embedded, derive, covers, silent, look, fetch })
    }

    /// How to compute the fingerprints of a request's records, given the tap of their version.
    pub(crate) fn look(&self, version: usize, columns: &[ColumnValue]) -> Option<LookPlan> {
        let brings = &self.fetch?.brings;
        let key = self.columns?.iter().find(|plan| self.stream.key.contains(&plan.column.name))?;
        if !matches!(key.column.kind, ColumnType::Text | ColumnType::Int) {
            return None;
        }
        let tells = |(plan, value): (&ColumnPlan, &ColumnValue)| {
            let comes = matches!(
                value,
                ColumnValue::Decoded(_) | ColumnValue::Extra | ColumnValue::Slice(_)
            );
            comes && !brings.contains(&plan.column.name)
        };
        let all = self.columns?.iter().zip(columns).enumerate();
        let columns = all.filter(|(_, one)| tells(*one)).map(|(position, _)| position).collect();
        Some(LookPlan { version, columns })
    }
}

fn fetch_plan(fetch: &Fetch) -> Result<FetchPlan> {
    Ok(FetchPlan {
        variable: fetch.variable.as_str().into(),
        chunk: usize::try_from(fetch.chunk.max(1)).unwrap_or(1),
        path: template(&fetch.get)?,
        query: query(&fetch.query)?,
    })
}
