//! The kinds of routes, compiled: what differs between the requests that can read the same records.

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

/// How a request reads the records of a slice.
#[derive(Debug, Default)]
pub enum RouteKind {
    /// The request returns the records, page by page.
    #[default]
    Listing,
    /// The stream sends no request. Values without a derived row have no rows.
    NoRequest,
    /// The records are part of the response about one object. Streams can share the request; the default request
    /// returns the further pages.
    Embedded(EmbeddedPlan),
    /// The request is about a chunk of values. The default request is sent for values that the response does not
    /// cover.
    Covers(CoversPlan),
    /// The request returns a listing. A second request fetches the records that are new or changed.
    ListThenFetch(FetchPlan),
}

impl RouteKind {
    /// The plan of [`Self::Embedded`].
    pub fn embedded(&self) -> Option<&EmbeddedPlan> {
        if let Self::Embedded(embedded) = self { Some(embedded) } else { None }
    }

    /// The plan of [`Self::Covers`].
    pub fn covers(&self) -> Option<&CoversPlan> {
        if let Self::Covers(covers) = self { Some(covers) } else { None }
    }

    /// The plan of [`Self::ListThenFetch`].
    pub fn fetch(&self) -> Option<&FetchPlan> {
        if let Self::ListThenFetch(fetch) = self { Some(fetch) } else { None }
    }

    /// Whether the default request must exist, because it takes over where this one cannot continue.
    pub fn needs_default(&self) -> bool {
        match self {
            Self::Embedded(_) | Self::Covers(_) | Self::ListThenFetch(_) => true,
            Self::Listing | Self::NoRequest => false,
        }
    }
}

/// How to compute the fingerprint of a record.
#[derive(Debug)]
pub struct FingerprintPlan {
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

pub(crate) fn route_kind(request: &RequestSpec) -> Result<RouteKind> {
    if let Some(embedded) = &request.embedded {
        let path = request.get.clone().unwrap_or_default();
        return Ok(RouteKind::Embedded(EmbeddedPlan { path, param: embedded.param.clone() }));
    }
    if let Some(covers) = &request.covers {
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
        return Ok(RouteKind::Covers(CoversPlan { decoder }));
    }
    if let Some(fetch) = &request.fetch {
        return Ok(RouteKind::ListThenFetch(fetch_plan(fetch)?));
    }
    let sends = request.get.is_some() || request.post.is_some();
    Ok(if sends { RouteKind::Listing } else { RouteKind::NoRequest })
}

impl Compiler<'_> {
    pub(crate) fn derive(&self, request: &RequestSpec) -> Result<Option<DerivePlan>> {
        let Some(derive) = &request.derive else { return Ok(None) };
        let items = items_of(request);
        let carried =
            items.and_then(|items| self.queues.iter().find(|queue| queue.name == items.queue));
        let at = |plan: &ColumnPlan| {
            let variable = derive.columns.get(&plan.column.name)?;
            let path = items?.carry.get(variable)?;
            carried?.carried.iter().position(|one| one == path)
        };
        let when = Expression::parse(&derive.when).map_err(|error| invalid(&error))?;
        let columns = self.columns.unwrap_or_default().iter().map(at).collect();
        Ok(Some(DerivePlan { when, columns }))
    }

    /// How to compute the fingerprints of a request's records, given the tap of their version.
    pub(crate) fn fingerprint(
        &self,
        version: usize,
        columns: &[ColumnValue],
    ) -> Option<FingerprintPlan> {
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
        Some(FingerprintPlan { version, columns })
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
