//! Listings that an earlier process had begun, taken up where it stopped.

use std::sync::Arc;

use crate::extract::fetch_by_id;
use crate::extract::listing::Listing;
use crate::plan::{RequestPlan, StreamPlan};
use crate::progress::slices::OpenListing;
use crate::template::{Scope, Value};

/// A listing that an earlier process had begun.
pub(crate) fn resumed<'plan>(
    (plan, number): (&'plan StreamPlan, usize),
    request: &'plan RequestPlan,
    scope: &Arc<Scope>,
    open: OpenListing,
) -> Option<Listing<'plan>> {
    if open.depth == 0 {
        let own = open.with.first().and_then(|value| {
            let unprobed = Listing::unprobed((plan, number), request, scope);
            unprobed.or_else(|| Listing::own(plan, number, (value, scope)))
        });
        let first = own.unwrap_or_else(|| Listing::first((number, request), scope));
        let first = match open.part {
            Some(part) => first.of_part(part),
            None => first,
        };
        return Some(Listing { at: open.at, total: open.total, ..first });
    }
    if request.routed.fetch.is_some() {
        return fetch_by_id::again((number, request), scope, open);
    }
    let children = request.children.as_ref()?;
    let mut inner = scope.as_ref().clone();
    for ((variable, _), value) in children.with.iter().zip(&open.with) {
        inner = inner.with(Arc::clone(variable), Value::from(value.as_str()));
    }
    Some(Listing {
        scope: Arc::new(inner),
        path: &children.path,
        query: &children.query,
        pager: &children.pager,
        with: open.with,
        at: open.at,
        total: open.total,
        depth: open.depth,
        ..Listing::first((number, request), scope)
    })
}
