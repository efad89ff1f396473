//! Listings inside a slice: its own, and what it leads to.

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
    /// Number of its request.
    pub(crate) number: usize,
    pub(crate) request: &'plan RequestPlan,
    pub(crate) scope: Arc<Scope>,
    pub(crate) path: &'plan Template,
    pub(crate) query: &'plan [(String, Template)],
    pub(crate) pager: &'plan Pager,
    /// What leads to it from the slice: values of variables; the records that it fetches (`fetch_by_id.rs`); or the
    /// name of the own route, where it is taken for one that only shows records.
    pub(crate) with: Vec<String>,
    pub(crate) at: Position,
    pub(crate) depth: u32,
    pub(crate) guard: Option<LoopGuard>,
    /// Of a chunk of values, which it is about: from the first number up to the second. `None`: all.
    pub(crate) part: Option<(usize, usize)>,
    /// Size of its next page, where a larger one could not be read.
    pub(crate) narrow: Option<u32>,
    /// Whether its next page is asked for without what makes it costly.
    pub(crate) lean: Option<ReducedRequest>,
    /// Records in all, as its last page has told.
    pub(crate) total: Option<u64>,
    /// Pages before this position are read again, since records have moved.
    pub(crate) repeats_until: Option<Position>,
    /// Whether the present page may hold nothing but what is known.
    pub(crate) may_repeat: bool,
}

/// Why a page is asked for without what makes it costly.
pub(crate) struct ReducedRequest {
    pub(crate) status: Option<u16>,
    /// What the server said, and what is left out.
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

    /// What tells its requests from others, whatever they are about.
    pub(crate) fn kind(&self) -> String {
        // One that fetches may ask for its records at the path of the list.
        let suffix = if self.is_fetching() { " (fetched)" } else { "" };
        format!("{:?}{suffix}", self.path)
    }

    /// Whether nothing of it was asked for.
    pub(crate) fn is_fresh(&self) -> bool {
        self.at == Position::First
    }

    /// Whether it brings the rows of records that the slice's own listing has shown.
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

    /// The listings of the children of each record on a page that is wanted, the first one last.
    pub(crate) fn children(&self, page: &Page, wanted: Option<&BooleanArray>) -> Result<Vec<Self>> {
        let Some(below) = &self.request.children else { return Ok(Vec::new()) };
        if page.rows > 0 && self.depth >= below.max_depth {
            let what = format!("records are nested deeper than {} levels", below.max_depth);
            return Err(
                Error::new(Kind::Shape, what).with_hint("raise `children.max_depth` in the spec")
            );
        }
        let mut children = Vec::with_capacity(page.rows);
        // The last one pushed is the first one asked for.
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
