//! Signs of more pages that a spec does not declare.

use serde_json::Value;

use crate::http::pagination::link;
use crate::http::pagination::position::Seen;
use crate::http::pagination::sign::{DeclaredValue, shown};

/// Paths where APIs usually state that there are more pages.
pub(crate) const PLACES: [&str; 35] = [
    "next",
    "next_page",
    "nextPage",
    "next_url",
    "nextPageToken",
    "next_page_token",
    "next_cursor",
    "nextCursor",
    "links",
    "_links.next",
    "links.next",
    "paging.next",
    "pagination.next",
    "pagination.next_page",
    "pagination.next_url",
    "meta.next",
    "meta.next_page",
    "meta.next_cursor",
    "response_metadata.next_cursor",
    "has_more",
    "hasMore",
    "more",
    "pageInfo.hasNextPage",
    "page_info.has_next_page",
    "isLast",
    "is_last",
    "total",
    "total_count",
    "totalCount",
    "meta.total",
    "pagination.total",
    "pagination.total_count",
    "totalPages",
    "total_pages",
    "pagination.total_pages",
];

/// Headers with the number of records, the number of pages, or the next page.
const HEADERS: [&str; 3] = ["x-total-count", "x-total-pages", "x-next-page"];

/// Usual maximum page sizes.
pub(crate) const USUAL_SIZES: [u64; 9] = [20, 25, 30, 50, 100, 200, 250, 500, 1000];

/// Why a listing that ended after its first page is incomplete, if the response shows that there
/// are more pages.
pub(crate) fn unread<'page>(
    places: impl Iterator<Item = DeclaredValue<'page>>,
    seen: &Seen<'_>,
    declared: bool,
) -> Option<String> {
    let sign = places.filter(|place| says_more(place, seen.rows)).map(|place| {
        format!("has {} at `{}`", place.value.map_or_else(String::new, shown), place.path)
    });
    let link = link::of_headers(seen.headers, "next");
    let link = link.map(|_| "has a `Link` header with a next page".to_owned());
    let headers = HEADERS.into_iter().filter_map(|name| {
        let value = seen.headers.get(name)?.to_str().ok()?.trim();
        let number: Option<u64> = value.parse().ok();
        let more = match name {
            "x-total-count" => number.is_some_and(|total| total > seen.rows),
            "x-total-pages" => number.is_some_and(|pages| pages > 1),
            _ => !value.is_empty(),
        };
        more.then(|| format!("has the header `{name}: {value}`"))
    });
    let spec = if declared {
        "the spec's `paginate` does not use it"
    } else {
        "the spec has no `paginate`"
    };
    let sign = sign.chain(link).chain(headers).next()?;
    Some(format!("only the first page was read: the response {sign}, and {spec}"))
}

fn says_more(place: &DeclaredValue<'_>, rows: u64) -> bool {
    let name = place.path.to_string();
    let lower = name.to_lowercase();
    if lower.contains("total") {
        let rows = if lower.contains("page") { 1 } else { rows };
        return place.count().ok().flatten().is_some_and(|total| total > rows);
    }
    if name == "isLast" || name == "is_last" {
        return place.flag().ok().flatten() == Some(false);
    }
    if name == "links" {
        let leads = |link: &Value| link.get("rel").and_then(Value::as_str) == Some("next");
        return place.value.and_then(Value::as_array).is_some_and(|all| all.iter().any(leads));
    }
    match place.value {
        // A record may use such a field name for another purpose, so only a link to a next page
        // counts.
        Some(Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            place.more().ok().flatten() == Some(true)
        }
        _ => false,
    }
}
