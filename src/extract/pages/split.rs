//! Splits a request about many values in two, if it is too long or one of its values makes it fail.

use std::sync::Arc;

use crate::extract::pages::fetch_by_id;
use crate::extract::pages::listing::Listing;
use crate::extract::pages::route::Route;
use crate::plan::Iterate;
use crate::template::{Scope, Value, ValueKind};

/// Two listings with half of a listing's values each, the first half last. `None` if there is one value, or pages of
/// the listing were read.
pub(crate) fn halves<'plan>(
    route: &Route<'plan>,
    listing: &Listing<'plan>,
) -> Option<[Listing<'plan>; 2]> {
    if !listing.is_fresh() {
        return None;
    }
    if listing.is_fetching() {
        return fetch_by_id::halves(&route.listing(), listing);
    }
    let all = values(listing, &route.scope).filter(|_| listing.depth == 0)?;
    let (from, to) = listing.part.unwrap_or((0, all.len()));
    let middle = from.midpoint(to);
    let half = |part| {
        let Listing { number, request, path, query, pager, ref with, .. } = *listing;
        let first = Listing::first(number, request, &route.scope);
        Listing { path, query, pager, with: with.clone(), ..first }.of_part(part)
    };
    (middle > from).then(|| [half((middle, to)), half((from, middle))])
}

/// The values of a listing, from its scope; `None` if it has one.
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
    /// The listing for a part of its values. Its scope is that of the slice.
    pub(crate) fn of_part(self, part: (usize, usize)) -> Self {
        let (from, to) = part;
        let some = values(&self, &self.scope);
        let (Some(variable), Some(some)) = (variable(&self), some) else { return self };
        let some = some.get(from..to.min(some.len())).unwrap_or_default().to_vec();
        let scope = self.scope.as_ref().clone().with_only(Arc::clone(variable), some.into());
        Self { scope: Arc::new(scope), part: Some(part), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pagination::Position;
    use crate::plan::testing::{planned, stream};
    use crate::progress::slices::OpenListing;

    const STREAMS: &str = "
  p: { get: /p, key: [id], feeds: { ids: id }, columns: { id: text } }
  single: { for_each: ids, get: '/p/{{ id }}', key: [id], columns: { id: text } }
  chunks: { for_each: { queue: ids, chunk: 10 }, get: /c, query: { id: \"{{ ids | join(',') }}\" }, key: [id],
    columns: { id: text } }
  nested: { get: /n, key: [id], columns: { id: text }, children: { with: { id: id }, get: '/n/{{ id }}' } }
";

    fn open(depth: u32, with: &[&str], part: Option<(usize, usize)>) -> OpenListing {
        let with = with.iter().map(|with| (*with).to_owned()).collect();
        OpenListing { depth, with, at: Position::First, part, total: Some(9) }
    }

    /// The listing of a saved one, with the number of its values and its halves, as parts.
    #[track_caller]
    fn check(name: &str, values: usize, saved: &OpenListing, expected: &str) {
        let plan = planned(STREAMS, "mode: incremental");
        let stream = stream(&plan, name);
        let request = &stream.requests[0];
        let mut scope = Scope::new(plan.variables.clone());
        if let Iterate::Queue { variable, chunk, .. } = &request.iterate {
            let value = match chunk {
                Some(_) => (0..values).map(Value::from).collect(),
                None => Value::from(0),
            };
            scope = scope.with(Arc::clone(variable), value);
        }
        let route = Route { plan: stream, number: 0, request, scope: Arc::new(scope) };
        let depth = saved.depth;
        let listing = route.resumed(saved.clone()).unwrap();
        assert_eq!((listing.depth, &listing.with, listing.total), (depth, &saved.with, Some(9)));
        assert_eq!(listing.part, saved.part);
        let shown = |listing: &Listing<'_>| {
            let path = listing.path.render(&listing.scope).unwrap();
            let query =
                listing.query.iter().map(|(_, value)| value.render(&listing.scope).unwrap());
            let (from, to) = listing.part.unwrap_or_default();
            format!("{path}?{} {from}..{to}", query.collect::<Vec<_>>().join("&"))
        };
        let mut all = vec![shown(&listing)];
        all.extend(halves(&route, &listing).iter().flatten().map(shown));
        assert_eq!(all.join(" | "), expected);
    }

    #[test]
    fn a_listing_of_many_values_is_resumed_and_split_in_two() {
        let whole = || open(0, &[], None);
        check("chunks", 4, &whole(), "/c?0,1,2,3 0..0 | /c?2,3 2..4 | /c?0,1 0..2");
        check("chunks", 3, &whole(), "/c?0,1,2 0..0 | /c?1,2 1..3 | /c?0 0..1");
        check("chunks", 1, &whole(), "/c?0 0..0");
        let part = |from, to| open(0, &[], Some((from, to)));
        check("chunks", 4, &part(2, 4), "/c?2,3 2..4 | /c?3 3..4 | /c?2 2..3");
        check("chunks", 4, &part(1, 4), "/c?1,2,3 1..4 | /c?2,3 2..4 | /c?1 1..2");
        check("chunks", 4, &part(3, 4), "/c?3 3..4");
        // The values may be fewer than they were.
        check("chunks", 2, &part(1, 4), "/c?1 1..4 | /c? 2..4 | /c?1 1..2");
        check("single", 1, &whole(), "/p/0? 0..0");
        check("nested", 0, &whole(), "/n? 0..0");
        check("nested", 0, &open(2, &["7"], None), "/n/7? 0..0");
        let begun = OpenListing { at: Position::Token("t".to_owned()), ..whole() };
        check("chunks", 4, &begun, "/c?0,1,2,3 0..0");
    }
}
