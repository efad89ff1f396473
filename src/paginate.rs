//! How the page after this one is asked for: a function of the request and the response.

use std::hash::{BuildHasher, RandomState};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::fetch::{HeaderMap, Url, header};
use crate::path::{Path, PathError};
use crate::spec::{Follow, NumberedPages, PageSize, Paginate};

/// Pages in a row without a record, each leading to a next one, after which a listing is given up.
const MAX_EMPTY_PAGES: u32 = 1000;

/// Where in a listing a page is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The first page.
    First,
    /// The page that this token leads to.
    Token(String),
    /// The page with this query, on the path of the first one.
    Query(String),
    /// The page with this URL.
    Url(Url),
    /// The page with this number, or that begins at this record.
    Number(u64),
}

/// What a page tells about the next one.
#[derive(Debug)]
pub struct Seen<'page> {
    /// The URL it came from.
    pub url: &'page Url,
    /// Its headers.
    pub headers: &'page HeaderMap,
    /// Values at [`Pager::captures`].
    pub captures: &'page [Option<Value>],
    /// Records on it.
    pub rows: u64,
}

/// A declared pagination made ready.
#[derive(Clone, Debug)]
pub struct Pager {
    kind: Paginate,
    size: Option<PageSize>,
    captures: Vec<Path>,
}

impl Pager {
    /// Makes a pagination ready.
    pub fn new(kind: Paginate, size: Option<PageSize>) -> Result<Self, PathError> {
        let texts: Vec<&String> = match &kind {
            Paginate::None | Paginate::LinkHeader(_) => Vec::new(),
            Paginate::NextUrl(pages) => vec![&pages.at],
            Paginate::Cursor(pages) => [Some(&pages.at), pages.last.as_ref(), pages.more.as_ref()]
                .into_iter()
                .flatten()
                .collect(),
            Paginate::Page(pages) | Paginate::Offset(pages) => {
                let signs = [&pages.last, &pages.more, &pages.total, &pages.pages];
                signs.into_iter().flatten().collect()
            }
        };
        let captures = texts.into_iter().map(|text| Path::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { kind, size, captures })
    }

    /// Paths of the values in a response that it needs, outside the records.
    pub fn captures(&self) -> &[Path] {
        &self.captures
    }

    /// The page size asked for at first, when the API takes one.
    pub fn largest_page(&self) -> Option<u32> {
        self.size.as_ref().map(|size| size.max)
    }

    /// Whether each page may have a size of its own: the API itself says where the next one begins.
    pub fn takes_any_size(&self) -> bool {
        match self.kind {
            Paginate::Cursor(_) | Paginate::NextUrl(_) | Paginate::LinkHeader(_) => true,
            Paginate::None | Paginate::Page(_) | Paginate::Offset(_) => false,
        }
    }

    /// Query parameters that make an answer costly, left out for a record that the server cannot give otherwise.
    pub fn costly(&self) -> &[String] {
        self.size.as_ref().map_or(&[], |size| size.costly.0.as_slice())
    }

    /// Half of a page size, when the spec allows pages that small. Where pages are counted there is none: the
    /// number of the next page would lead elsewhere.
    pub fn smaller_page(&self, size: u32) -> Option<u32> {
        if matches!(self.kind, Paginate::Page(_)) {
            return None;
        }
        let least = self.size.as_ref()?.min.max(1);
        (size > least).then(|| (size / 2).max(least))
    }

    /// The smallest page that is asked for, where a smaller one may help.
    pub fn smallest_page(&self) -> Option<u32> {
        let size = self.size.as_ref().filter(|_| !matches!(self.kind, Paginate::Page(_)))?;
        Some(size.min.max(1))
    }

    /// The body field that carries the token of a `POST`, with the token.
    pub fn body_field<'token>(&self, at: &'token Position) -> Option<(&str, &'token str)> {
        match (&self.kind, at) {
            (Paginate::Cursor(pages), Position::Token(token)) => Some((&pages.param, token)),
            _ => None,
        }
    }

    /// The URL of the page at a position, given that of the first page without paging parameters.
    pub fn url(&self, first: &Url, at: &Position, size: Option<u32>) -> Url {
        let mut url = match at {
            Position::Url(url) => url.clone(),
            Position::Query(query) => {
                let mut url = first.clone();
                url.set_query(Some(query));
                url
            }
            Position::First | Position::Token(_) | Position::Number(_) => first.clone(),
        };
        match (&self.kind, at) {
            (Paginate::Cursor(pages), Position::Token(token)) => set(&mut url, &pages.param, token),
            (Paginate::Page(pages) | Paginate::Offset(pages), Position::Number(number)) => {
                set(&mut url, &pages.param, &number.to_string());
            }
            (Paginate::Page(pages), _) => {
                let first = pages.start.unwrap_or(1);
                set(&mut url, &pages.param, &first.to_string());
            }
            (Paginate::Offset(pages), _) => {
                let first = pages.start.unwrap_or(0);
                set(&mut url, &pages.param, &first.to_string());
            }
            _ => {}
        }
        if let (Some(page_size), Some(size)) = (&self.size, size) {
            set(&mut url, &page_size.param, &size.to_string());
        }
        url
    }

    /// Position of the page after one that could not be read, where it does not depend on that one.
    pub fn position_after_unread(&self, at: &Position, size: Option<u32>) -> Option<Position> {
        let (pages, first, step) = match &self.kind {
            Paginate::Page(pages) => (pages, 1, 1),
            Paginate::Offset(pages) => (pages, 0, u64::from(size?)),
            _ => return None,
        };
        let number = current(at, pages.start.unwrap_or(first));
        Some(Position::Number(number.saturating_add(step)))
    }

    /// Position of the page after this one; `None` after the last.
    ///
    /// # Errors
    /// A next page that leaves the origin, or that cannot be understood.
    pub fn next(&self, at: &Position, seen: &Seen<'_>) -> Result<Option<Position>> {
        match &self.kind {
            Paginate::None => Ok(None),
            Paginate::Cursor(pages) => {
                let token = seen.captures.first().and_then(Option::as_ref).and_then(text);
                let mut signs = seen.captures.iter().skip(1).map(Option::as_ref);
                let over = pages.last.is_some() && signs.next().is_some_and(truthy)
                    || pages.more.is_some() && !signs.next().is_some_and(truthy);
                Ok(token.filter(|_| !over).map(Position::Token))
            }
            Paginate::NextUrl(pages) => {
                let next = seen.captures.first().and_then(Option::as_ref).and_then(text);
                next.map(|next| follow(&next, pages.follow, seen.url)).transpose()
            }
            Paginate::LinkHeader(pages) => {
                let next = link(seen.headers, &pages.rel);
                next.map(|next| follow(&next, pages.follow, seen.url)).transpose()
            }
            Paginate::Page(pages) => {
                let number = current(at, pages.start.unwrap_or(1));
                let after = number.saturating_add(1);
                let first = pages.start.unwrap_or(1);
                let page_count = after.saturating_sub(first);
                Ok((!numbered_ends(pages, seen, None, page_count))
                    .then_some(Position::Number(after)))
            }
            Paginate::Offset(pages) => {
                let offset = current(at, pages.start.unwrap_or(0));
                let after = offset.saturating_add(seen.rows);
                let records = after.saturating_sub(pages.start.unwrap_or(0));
                let ends = seen.rows == 0 || numbered_ends(pages, seen, Some(records), 0);
                Ok((!ends).then_some(Position::Number(after)))
            }
        }
    }
}

/// Notices when a listing does not end.
#[derive(Debug)]
pub struct LoopGuard {
    hasher: RandomState,
    seen: std::collections::HashSet<u64>,
    max_pages: u32,
    empty: u32,
}

impl LoopGuard {
    /// A guard for one slice of at most `max_pages` pages.
    pub fn new(max_pages: u32) -> Self {
        Self {
            hasher: RandomState::new(),
            seen: std::collections::HashSet::new(),
            max_pages,
            empty: 0,
        }
    }

    /// Takes note of a page with `rows` records that leads to `next`.
    ///
    /// # Errors
    /// The position was there before, there are too many pages, or too many empty ones in a row.
    pub fn check(&mut self, next: &Position, rows: u64) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::new(Kind::Shape, what)
                .with_hint("the API or the spec's `paginate` is at fault; rows would be lost"))
        };
        if !self.seen.insert(self.hasher.hash_one(next)) {
            return wrong("paging loop: the API leads to a page that was read before".to_owned());
        }
        if self.seen.len() >= usize::try_from(self.max_pages).unwrap_or(usize::MAX) {
            return wrong(format!(
                "the listing has more than {} pages (`max_pages`)",
                self.max_pages
            ));
        }
        self.empty = if rows == 0 { self.empty + 1 } else { 0 };
        if self.empty >= MAX_EMPTY_PAGES {
            return wrong(format!(
                "{MAX_EMPTY_PAGES} pages in a row were empty, each with a next one"
            ));
        }
        Ok(())
    }
}

fn current(at: &Position, first: u64) -> u64 {
    match at {
        Position::Number(number) => *number,
        _ => first,
    }
}

/// Whether the declared signs say that there is no page after this one.
fn numbered_ends(
    pages: &NumberedPages,
    seen: &Seen<'_>,
    records: Option<u64>,
    page_count: u64,
) -> bool {
    let mut captured = seen.captures.iter().map(Option::as_ref);
    let signs = [&pages.last, &pages.more, &pages.total, &pages.pages];
    let [last, more, total, count] = signs.map(|sign| sign.as_ref().and_then(|_| captured.next()));
    if last.is_none() && more.is_none() && total.is_none() && count.is_none() {
        return seen.rows == 0;
    }
    let number = |value: Option<Option<&Value>>| value.flatten().and_then(Value::as_u64);
    last.flatten().is_some_and(|value| truthy(Some(value)))
        || more.is_some_and(|value| !truthy(value))
        || number(total).zip(records).is_some_and(|(total, records)| records >= total)
        || number(count).is_some_and(|count| page_count >= count)
}

fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn follow(next: &str, follow: Follow, from: &Url) -> Result<Position> {
    let wrong = |what: &str| {
        Error::new(Kind::Shape, format!("the next page's address {what}"))
            .with_hint("nothing is requested outside the connection's origin")
    };
    let url = from.join(next).map_err(|error| wrong("cannot be read").because(error))?;
    match follow {
        Follow::Query => {
            let query = url.query().ok_or_else(|| wrong("has no query"))?;
            Ok(Position::Query(query.to_owned()))
        }
        Follow::Url if url.origin() == from.origin() => Ok(Position::Url(url)),
        Follow::Url => Err(wrong("leaves the origin")),
    }
}

/// Target of the first link of this relation (RFC 8288 §3).
fn link(headers: &HeaderMap, rel: &str) -> Option<String> {
    let values = headers.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
    for value in values {
        let mut rest = value;
        while let Some((target, after)) =
            rest.split_once('<').and_then(|(_, inner)| inner.split_once('>'))
        {
            let parameters = after.split_once('<').map_or(after, |(own, _)| own);
            let wanted = parameters.split([';', ',']).any(|parameter| {
                parameter.trim().split_once('=').is_some_and(|(name, value)| {
                    let relations = value.trim().trim_matches('"');
                    name.trim().eq_ignore_ascii_case("rel")
                        && relations.split_whitespace().any(|one| one.eq_ignore_ascii_case(rel))
                })
            });
            if wanted {
                return Some(target.to_owned());
            }
            rest = after;
        }
    }
    None
}

/// Sets a query parameter, replacing one of the same name.
fn set(url: &mut Url, name: &str, value: &str) {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != name)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIRST: &str = "https://acme.test/wiki/api/v2/pages?status=current";

    fn pager(yaml: &str) -> Pager {
        let size = PageSize {
            param: "limit".to_owned(),
            max: 250,
            min: 1,
            costly: crate::spec::OneOrMany::default(),
        };
        Pager::new(serde_saphyr::from_str(yaml).unwrap(), Some(size)).unwrap()
    }

    fn next(pager: &Pager, at: &Position, body: &Value, rows: u64) -> Option<Position> {
        let captures: Vec<Option<Value>> =
            pager.captures().iter().map(|path| path.find(body).cloned()).collect();
        let (url, headers) = (Url::parse(FIRST).unwrap(), HeaderMap::new());
        let seen = Seen { url: &url, headers: &headers, captures: &captures, rows };
        pager.next(at, &seen).unwrap()
    }

    #[track_caller]
    fn check(pager: &Pager, at: &Position, body: &Value, rows: u64, url: Option<&str>) {
        let first = Url::parse(FIRST).unwrap();
        let found = next(pager, at, body, rows).map(|at| pager.url(&first, &at, Some(250)));
        assert_eq!(found.as_ref().map(Url::as_str), url, "{body}");
    }

    #[test]
    fn a_next_url_gives_its_query_alone() {
        let pager = pager("next_url: { at: _links.next, follow: query }");
        let first = Position::First;
        for path in ["/wiki/api/v2/pages", "/rest/api/pages", "https://elsewhere.test/x"] {
            let body = json!({ "_links": { "next": format!("{path}?cursor=a%3D%3D&status=current&limit=9") } });
            let url = "https://acme.test/wiki/api/v2/pages?cursor=a%3D%3D&status=current&limit=250";
            check(&pager, &first, &body, 3, Some(url));
        }
        let raw = json!({ "_links": { "next": "/wiki/api/v2/pages?cursor=eyJ9fQ==&limit=250" } });
        let url = "https://acme.test/wiki/api/v2/pages?cursor=eyJ9fQ%3D%3D&limit=250";
        check(&pager, &first, &raw, 0, Some(url));
        check(&pager, &first, &json!({ "_links": {} }), 250, None);
    }

    #[test]
    fn a_next_url_never_leaves_the_origin() {
        let pager = pager("next_url: { at: next }");
        let (url, headers) = (Url::parse(FIRST).unwrap(), HeaderMap::new());
        let captures = [Some(json!("https://evil.test/pages?x=1"))];
        let seen = Seen { url: &url, headers: &headers, captures: &captures, rows: 1 };
        assert!(pager.next(&Position::First, &seen).is_err());
        check(
            &pager,
            &Position::First,
            &json!({ "next": "/b?x=1" }),
            1,
            Some("https://acme.test/b?x=1&limit=250"),
        );
    }

    #[test]
    fn a_cursor_is_sent_back_as_a_parameter() {
        let pager = pager("cursor: { at: nextPageToken, param: nextPageToken, last: isLast }");
        let first = Position::First;
        let url = "https://acme.test/wiki/api/v2/pages?status=current&nextPageToken=t%2B&limit=250";
        check(&pager, &first, &json!({ "nextPageToken": "t+", "isLast": false }), 1, Some(url));
        check(&pager, &first, &json!({ "nextPageToken": "t", "isLast": true }), 1, None);
        check(&pager, &first, &json!({ "isLast": false }), 1, None);
    }

    #[test]
    fn offsets_advance_by_what_came() {
        let by_more = pager("offset: { param: start, more: _links.next }");
        let next_url = |start| {
            format!("https://acme.test/wiki/api/v2/pages?status=current&start={start}&limit=250")
        };
        let more = json!({ "_links": { "next": "/x" } });
        check(&by_more, &Position::First, &more, 7, Some(&next_url(7)));
        check(&by_more, &Position::Number(7), &more, 5, Some(&next_url(12)));
        check(&by_more, &Position::Number(7), &json!({}), 250, None);
        let by_total = pager("offset: { param: start, total: total }");
        check(&by_total, &Position::Number(7), &json!({ "total": 12 }), 5, None);
        check(&by_total, &Position::Number(7), &json!({ "total": 13 }), 5, Some(&next_url(12)));
        let plain = pager("offset: { param: start }");
        check(&plain, &Position::First, &json!([]), 0, None);
        check(&plain, &Position::First, &json!([]), 1, Some(&next_url(1)));
    }

    #[test]
    fn page_numbers_count_up() {
        let pager = pager("page: { param: page, pages: pages }");
        let url = "https://acme.test/wiki/api/v2/pages?status=current&page=2&limit=250";
        check(&pager, &Position::First, &json!({ "pages": 2 }), 1, Some(url));
        check(&pager, &Position::Number(2), &json!({ "pages": 2 }), 1, None);
    }

    #[test]
    fn link_headers_are_read_by_relation() {
        let mut headers = HeaderMap::new();
        let value = "</a?cursor=x==&limit=5>; rel=\"next\", <https://acme.test/wiki>; rel=\"base\"";
        headers.insert(header::LINK, value.parse().unwrap());
        assert_eq!(link(&headers, "next").as_deref(), Some("/a?cursor=x==&limit=5"));
        assert_eq!(link(&headers, "base").as_deref(), Some("https://acme.test/wiki"));
        assert_eq!(link(&headers, "prev"), None);
    }

    #[test]
    fn loops_are_detected() {
        let mut guard = LoopGuard::new(10);
        guard.check(&Position::Token("a".into()), 1).unwrap();
        guard.check(&Position::Token("b".into()), 1).unwrap();
        assert!(guard.check(&Position::Token("a".into()), 1).is_err());
        let mut guard = LoopGuard::new(2);
        guard.check(&Position::Number(1), 1).unwrap();
        assert!(guard.check(&Position::Number(2), 1).is_err());
    }

    #[test]
    fn pages_shrink_down_to_the_least() {
        let pager = pager("none");
        assert_eq!(pager.smaller_page(250), Some(125));
        assert_eq!(pager.smaller_page(1), None);
    }
}
