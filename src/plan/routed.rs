//! What a request does as part of a route, compiled.

use std::sync::Arc;

use super::columns::{ColumnPlan, ColumnValue};
use super::compiler::Compiler;
use super::merged::items_of;
use super::templates::{invalid, query, template};
use crate::decode::{Decoder, Layout, Others};
use crate::error::{Error, Result};
use crate::paginate::Pager;
use crate::path::Path;
use crate::schema::ColumnType;
use crate::spec::{Fetch, RequestSpec};
use crate::template::{Expression, Template};

/// What a request does as part of a route; nothing of it for a stream's own requests.
#[derive(Debug, Default)]
pub struct Routed {
    /// The own request for the same value: it goes on where this one cannot.
    pub own: Option<usize>,
    /// Its records stand inside the answer about one object.
    pub embedded: Option<EmbeddedPlan>,
    /// Rows that follow from the record which fed the value.
    pub derive: Option<DerivePlan>,
    /// Which values of a chunk the answer is about.
    pub found: Option<FoundPlan>,
    /// Whether it sends nothing: what it does not derive has no rows.
    pub silent: bool,
    /// How a record shows whether it is as it was, where one of the stream's routes asks.
    pub look: Option<LookPlan>,
    /// Its listing only shows which records there are.
    pub fetch: Option<FetchPlan>,
}

/// How a record shows whether it is as it was.
#[derive(Debug)]
pub struct LookPlan {
    /// Tap of its version.
    pub version: usize,
    /// Positions of the columns that tell too: all that the listing of the route has.
    pub columns: Vec<usize>,
}

/// How the rows come whose records a listing has only shown.
#[derive(Debug)]
pub struct FetchPlan {
    /// Variable that holds the ids.
    pub variable: Arc<str>,
    /// Ids to a request.
    pub chunk: usize,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
}

/// Records inside the answer about one object. The decoder's captures are whether there are more, and the
/// token that leads on.
#[derive(Debug)]
pub struct EmbeddedPlan {
    /// Template of the path, by which requests are recognised as the same.
    pub path: String,
    /// Query parameter of the own request that takes the token.
    pub param: String,
}

/// A row that costs no request.
#[derive(Debug)]
pub struct DerivePlan {
    /// Where it holds, the value's only row follows from what was carried.
    pub when: Expression,
    /// Per column of the table the position of its value in what a queue carries.
    pub columns: Vec<Option<usize>>,
}

/// Which values of a chunk an answer is about.
#[derive(Debug)]
pub struct FoundPlan {
    /// Decodes the objects; its first tap is the value, its second, if any, a sign that not all is there.
    pub decoder: Decoder,
}

/// Paths outside the records that a request needs of its answers.
pub(super) fn captures(request: &RequestSpec, pager: &Pager) -> Result<Vec<Path>> {
    let parse = |text: &String| Path::parse(text).map_err(Error::from_path);
    match &request.embedded {
        Some(embedded) => [&embedded.more, &embedded.cursor].into_iter().map(parse).collect(),
        None => Ok(pager.captures().to_vec()),
    }
}

impl Compiler<'_> {
    pub(super) fn routed(&self, request: &RequestSpec, look: Option<LookPlan>) -> Result<Routed> {
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
        let found = match &request.covers {
            None => None,
            Some(found) => {
                let parse = |text: &str| Path::parse(text).map_err(Error::from_path);
                let taps = [Some(&found.at), found.more.as_ref()].into_iter().flatten();
                let layout = Layout {
                    records: parse(&found.records)?,
                    taps: taps.map(|text| parse(text)).collect::<Result<_>>()?,
                    others: Others::Drop,
                    ..Layout::default()
                };
                let decoder = Decoder::new(layout)
                    .map_err(|error| Error::input("`found` cannot be read").because(error))?;
                Some(FoundPlan { decoder })
            }
        };
        let silent = request.get.is_none() && request.post.is_none();
        let fetch = request.fetch.as_ref().map(fetch_plan).transpose()?;
        Ok(Routed { own: None, embedded, derive, found, silent, look, fetch })
    }

    /// How the records of a request show whether they are as they were, given the tap of their version.
    pub(super) fn look(&self, version: usize, columns: &[ColumnValue]) -> Option<LookPlan> {
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
