//! Signs of more pages in the answer to a request whose spec says nothing about pages.

use serde_json::Value;

use super::sign::{Place, shown};
use super::{Seen, Step, link};

/// Where APIs usually say that there is more.
pub(super) const PLACES: [&str; 24] = [
    "next",
    "next_page",
    "nextPage",
    "next_url",
    "nextPageToken",
    "next_page_token",
    "next_cursor",
    "nextCursor",
    "_links.next",
    "links.next",
    "paging.next",
    "pagination.next",
    "meta.next",
    "meta.next_cursor",
    "response_metadata.next_cursor",
    "has_more",
    "hasMore",
    "more",
    "isLast",
    "is_last",
    "total",
    "total_count",
    "totalCount",
    "meta.total",
];

/// How many records pages usually have at most.
pub(super) const USUAL_SIZES: [u64; 9] = [20, 25, 30, 50, 100, 200, 250, 500, 1000];

/// The end of a listing of one page, with a gap where the answer shows that there is more.
pub(super) fn step<'page>(places: impl Iterator<Item = Place<'page>>, seen: &Seen<'_>) -> Step {
    let sign = places.filter(|place| says_more(place, seen.rows)).map(|place| {
        format!("has {} at `{}`", place.value.map_or_else(String::new, shown), place.path)
    });
    let header = link::of_headers(seen.headers, "next");
    let header = header.map(|_| "has a `Link` header that leads to a next page".to_owned());
    let gap = sign.chain(header).next().map(|sign| {
        format!("only the first page was read: the answer {sign}, and the spec has no `paginate`")
    });
    Step { gap, ..Step::default() }
}

fn says_more(place: &Place<'_>, rows: u64) -> bool {
    let name = place.path.to_string();
    if name.to_lowercase().contains("total") {
        return place.count().ok().flatten().is_some_and(|total| total > rows);
    }
    if name == "isLast" || name == "is_last" {
        return place.flag().ok().flatten() == Some(false);
    }
    match place.value {
        // A record may have a field of such a name for another purpose: only what leads on counts.
        Some(Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            place.more().ok().flatten() == Some(true)
        }
        _ => false,
    }
}
