//! Listings of a slice: its own, and those that follow from its records.

use std::sync::Arc;

use arrow_array::{Array, BooleanArray};

use crate::decode::Page;
use crate::error::{Error, Kind, Result};
use crate::http::pagination::{LoopGuard, Pager, Position};
use crate::plan::RequestPlan;
use crate::progress::saved::OpenListing;
use crate::template::{Scope, Template, Value};

/// One listing: the slice's own, that of one of its values, or the children of one record.
pub(crate) struct Listing<'plan> {
    /// Index of its request.
    pub(crate) number: usize,
    pub(crate) request: &'plan RequestPlan,
    pub(crate) scope: Arc<Scope>,
    pub(crate) path: &'plan Template,
    pub(crate) query: &'plan [(String, Template)],
    pub(crate) pager: &'plan Pager,
    /// What distinguishes it from the slice's other listings: values of variables, the records that it fetches
    /// (`fetch_by_id.rs`), or the name of the default route if it replaces a list-then-fetch route.
    pub(crate) with: Vec<String>,
    pub(crate) at: Position,
    pub(crate) depth: u32,
    pub(crate) guard: Option<LoopGuard>,
    /// Range of the chunk's values that it is about; `None`: all.
    pub(crate) part: Option<(usize, usize)>,
    /// Size of its next page, if the server could not return a larger one.
    pub(crate) narrow: Option<u32>,
    /// Set if its next page is requested without costly parameters.
    pub(crate) lean: Option<ReducedRequest>,
    /// Total number of records according to its last page.
    pub(crate) total: Option<u64>,
    /// Pages before this position are read again, because records moved.
    pub(crate) repeats_until: Option<Position>,
    /// Whether its current page may contain only known records.
    pub(crate) may_repeat: bool,
}

/// Reason to request a page without costly parameters.
pub(crate) struct ReducedRequest {
    pub(crate) status: Option<u16>,
    /// The server's message, and the parameters that are left out.
    pub(crate) message: String,
}

impl<'plan> Listing<'plan> {
    pub(crate) fn first(number: usize, request: &'plan RequestPlan, scope: &Arc<Scope>) -> Self {
        Self {
            number,
            request,
            scope: Arc::clone(scope),
            path: &request.path,
            query: &request.query,
            pager: &request.pager,
            with: Vec::new(),
            at: Position::First,
            depth: 0,
            guard: None,
            part: None,
            narrow: None,
            lean: None,
            total: None,
            repeats_until: None,
            may_repeat: false,
        }
    }

    /// The kind of its requests, independent of the object.
    pub(crate) fn kind(&self) -> String {
        // A fetching listing may have the same path as the list.
        let suffix = if self.is_fetching() { " (fetched)" } else { "" };
        format!("{:?}{suffix}", self.path)
    }

    /// Whether none of its pages was requested.
    pub(crate) fn is_fresh(&self) -> bool {
        self.at == Position::First
    }

    /// Whether it fetches records by id that the slice's own listing returned.
    pub(crate) fn is_fetching(&self) -> bool {
        self.depth > 0 && self.request.kind.fetch().is_some()
    }

    pub(crate) fn guard(&mut self) -> &mut LoopGuard {
        self.guard.get_or_insert_with(|| LoopGuard::new(self.request.max_pages))
    }

    pub(crate) fn open(&self) -> OpenListing {
        let Self { depth, part, total, .. } = *self;
        OpenListing { depth, with: self.with.clone(), at: self.at.clone(), part, total }
    }

    /// The listings of the children of each selected record on a page, in reverse order.
    pub(crate) fn children(&self, page: &Page, wanted: Option<&BooleanArray>) -> Result<Vec<Self>> {
        let Some(below) = &self.request.children else { return Ok(Vec::new()) };
        if page.rows > 0 && self.depth >= below.max_depth {
            let what = format!("records are nested deeper than {} levels", below.max_depth);
            return Err(
                Error::new(Kind::Shape, what).with_hint("raise `children.max_depth` in the spec")
            );
        }
        let mut children = Vec::with_capacity(page.rows);
        // The last listing is read first.
        let wanted = |row: &usize| wanted.is_none_or(|wanted| wanted.value(*row));
        for row in (0..page.rows).rev().filter(wanted) {
            let mut scope = self.scope.as_ref().clone();
            let mut with = Vec::with_capacity(below.with.len());
            for (variable, tap) in &below.with {
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
            children.push(Self {
                with,
                scope: Arc::new(scope),
                path: &below.path,
                query: &below.query,
                pager: &below.pager,
                depth: self.depth + 1,
                ..Self::first(self.number, self.request, &self.scope)
            });
        }
        Ok(children)
    }
}
