//! A request about many values, as two about half of them each: where it is too long, or where one of the values
//! spoils it for the others.

use std::sync::Arc;

use crate::extract::fetch_by_id;
use crate::extract::listing::Listing;
use crate::plan::Iterate;
use crate::template::{Scope, Value, ValueKind};

/// Two listings with half of a listing's values each, the first half last. `None` where there is one value, or
/// the listing has been read in part; `scope` is that of the slice.
pub(crate) fn halves<'plan>(
    scope: &Arc<Scope>,
    listing: &Listing<'plan>,
) -> Option<[Listing<'plan>; 2]> {
    if !listing.is_fresh() {
        return None;
    }
    if listing.is_fetching() {
        return fetch_by_id::halves(scope, listing);
    }
    let all = values(listing, scope).filter(|_| listing.depth == 0)?;
    let (from, to) = listing.part.unwrap_or((0, all.len()));
    let middle = from.midpoint(to);
    let half = |part| {
        let Listing { number, request, path, query, pager, ref with, .. } = *listing;
        let first = Listing::first((number, request), scope);
        Listing { path, query, pager, with: with.clone(), ..first }.of_part(part)
    };
    (middle > from).then(|| [half((middle, to)), half((from, middle))])
}

/// The values that a listing is about, by its scope; `None` where it is about one.
fn values(listing: &Listing<'_>, scope: &Scope) -> Option<Vec<Value>> {
    let all = scope.get(variable(listing)?)?;
    if all.kind() != ValueKind::Seq {
        return None;
    }
    Some(all.try_iter().ok()?.collect())
}

fn variable<'plan>(listing: &Listing<'plan>) -> Option<&'plan Arc<str>> {
    match &listing.request.iterate {
        Iterate::Queue { variable, .. } | Iterate::Values { variable, .. } => Some(variable),
        Iterate::Once | Iterate::Range { .. } => None,
    }
}

impl Listing<'_> {
    /// The same about a part of its values; its scope is that of the slice.
    pub(crate) fn of_part(self, (from, to): (usize, usize)) -> Self {
        let some = values(&self, &self.scope);
        let (Some(variable), Some(some)) = (variable(&self), some) else { return self };
        let some = some.get(from..to.min(some.len())).unwrap_or_default().to_vec();
        let scope = self.scope.as_ref().clone().with_only(Arc::clone(variable), some.into());
        Self { scope: Arc::new(scope), part: Some((from, to)), ..self }
    }
}
