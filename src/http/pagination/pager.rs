//! A declared pagination, compiled: computes the next page from the request and the response.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::http::exchange::Url;
use crate::http::pagination::link::{follow, set, with_own_parameters};
use crate::http::pagination::position::{PageStep, Position, Seen};
use crate::http::pagination::sign::DeclaredValue;
use crate::http::pagination::{link, undeclared};
use crate::path::{Path, PathError};
use crate::spec::{CursorPages, Follow, NumberedPages, PageSize, Paginate};

/// A declared pagination, compiled.
#[derive(Clone, Debug)]
pub struct Pager {
    /// `None` if the spec declares none.
    kind: Option<Paginate>,
    size: Option<PageSize>,
    captures: Vec<Path>,
    /// Number of declared captures. The others are paths where APIs usually state that there are
    /// more pages.
    declared: usize,
    /// Whether the parameters are fields of a JSON body.
    in_body: bool,
}

impl Pager {
    /// Compiles a pagination. `in_body`: its parameters are fields of a JSON body.
    pub fn new(
        kind: Option<Paginate>,
        size: Option<PageSize>,
        in_body: bool,
    ) -> Result<Self, PathError> {
        let mut texts: Vec<&str> = match &kind {
            None | Some(Paginate::None | Paginate::LinkHeader(_)) => Vec::new(),
            Some(Paginate::NextUrl(pages)) => vec![&pages.at],
            Some(Paginate::Cursor(pages)) => {
                let signs = [Some(&pages.at), pages.last.as_ref(), pages.more.as_ref()];
                signs.into_iter().flatten().map(String::as_str).collect()
            }
            Some(Paginate::Page(pages) | Paginate::Offset(pages)) => {
                let signs = [&pages.last, &pages.more, &pages.total, &pages.pages];
                signs.into_iter().flatten().map(String::as_str).collect()
            }
        };
        let declared = texts.len();
        if kind != Some(Paginate::None) {
            let others = undeclared::PLACES.iter().filter(|place| !texts.contains(place));
            texts.extend(others.copied().collect::<Vec<_>>());
        }
        let captures = texts.into_iter().map(Path::parse).collect::<Result<_, _>>()?;
        Ok(Self { kind, size, captures, declared, in_body })
    }

    /// Paths of the values that it needs from a response, outside the records.
    pub fn captures(&self) -> &[Path] {
        &self.captures
    }

    /// The initial page size, if the API supports one.
    pub fn largest_page(&self) -> Option<u32> {
        self.size.as_ref().map(|size| size.max)
    }

    /// Whether there may be more than one page, so that the records must be a list.
    pub fn is_paged(&self) -> bool {
        !matches!(self.kind, None | Some(Paginate::None))
    }

    /// Whether a page has as many records as requested. Without a declared page size: whether it
    /// has a usual maximum number of records.
    pub fn is_full(&self, seen: &Seen<'_>) -> bool {
        if let Some(size) = seen.size {
            return seen.rows >= u64::from(size);
        }
        let asked = |(_, value): (_, std::borrow::Cow<'_, str>)| value.parse() == Ok(seen.rows);
        let asked = seen.rows > 1 && seen.url.query_pairs().any(asked);
        asked || self.kind.is_none() && undeclared::USUAL_SIZES.contains(&seen.rows)
    }

    /// Whether each page may have a different size, because the API itself returns the position of
    /// the next one.
    pub fn takes_any_size(&self) -> bool {
        match self.kind {
            Some(Paginate::Cursor(_) | Paginate::NextUrl(_) | Paginate::LinkHeader(_)) => true,
            None | Some(Paginate::None | Paginate::Page(_) | Paginate::Offset(_)) => false,
        }
    }

    /// Query parameters that make a response expensive. weir omits them for a record that the
    /// server cannot return otherwise.
    pub fn costly(&self) -> &[String] {
        self.size.as_ref().map_or(&[], |size| size.costly.0.as_slice())
    }

    /// Half of a page size, if the spec allows pages that small. `None` for page numbers: the
    /// number of the next page would then refer to other records.
    pub fn smaller_page(&self, size: u32) -> Option<u32> {
        if matches!(self.kind, Some(Paginate::Page(_))) {
            return None;
        }
        let least = self.size.as_ref()?.min.max(1);
        (size > least).then(|| (size / 2).max(least))
    }

    /// The smallest page size, if smaller pages are possible.
    pub fn smallest_page(&self) -> Option<u32> {
        let size = self.size.as_ref().filter(|_| !matches!(self.kind, Some(Paginate::Page(_))))?;
        Some(size.min.max(1))
    }

    /// The page parameters for a position.
    fn parameters(&self, at: &Position, size: Option<u32>) -> Vec<(&str, Value)> {
        let place = match (&self.kind, at) {
            (Some(Paginate::Cursor(pages)), Position::Token(token)) => {
                Some((pages.param.as_str(), Value::from(token.as_str())))
            }
            (Some(Paginate::Page(pages)), at) => {
                Some((pages.param.as_str(), current(at, pages.start.unwrap_or(1)).into()))
            }
            (Some(Paginate::Offset(pages)), at) => {
                Some((pages.param.as_str(), current(at, pages.start.unwrap_or(0)).into()))
            }
            _ => None,
        };
        let exact = matches!(at, Position::Url(_)) && self.follows() == Some(Follow::Exact);
        let size = self.size.as_ref().zip(size).filter(|_| !exact);
        let size = size.map(|(one, size)| (one.param.as_str(), Value::from(size)));
        place.into_iter().chain(size).collect()
    }

    /// Which part of a link is used.
    fn follows(&self) -> Option<Follow> {
        match &self.kind {
            Some(Paginate::NextUrl(pages)) => Some(pages.follow),
            Some(Paginate::LinkHeader(pages)) => Some(pages.follow),
            _ => None,
        }
    }

    /// The page parameters as fields of a JSON body; empty if they are part of the query.
    pub fn body_fields(&self, at: &Position, size: Option<u32>) -> Vec<(&str, Value)> {
        if self.in_body { self.parameters(at, size) } else { Vec::new() }
    }

    /// The URL of the page at a position, given the URL of the first page without page parameters.
    /// The parameters of a link take precedence over the request's own ones.
    pub fn url(&self, first: &Url, at: &Position, size: Option<u32>) -> Url {
        let mut url = match at {
            Position::Url(url) if self.follows() == Some(Follow::Exact) => url.clone(),
            Position::Url(url) => with_own_parameters(url.clone(), first),
            Position::Query(query) => {
                let mut url = first.clone();
                url.set_query(Some(query));
                with_own_parameters(url, first)
            }
            Position::First | Position::Token(_) | Position::Number(_) => first.clone(),
        };
        if !self.in_body {
            for (name, value) in self.parameters(at, size) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                set(&mut url, name, &text);
            }
        }
        url
    }

    /// Position of the page after one that could not be read, if it does not depend on that page.
    pub fn position_after_unread(&self, at: &Position, size: Option<u32>) -> Option<Position> {
        let (pages, first, step) = match &self.kind {
            Some(Paginate::Page(pages)) => (pages, 1, 1),
            Some(Paginate::Offset(pages)) => (pages, 0, u64::from(size?)),
            _ => return None,
        };
        let number = current(at, pages.start.unwrap_or(first));
        Some(Position::Number(number.saturating_add(step)))
    }

    /// The step after a page.
    ///
    /// # Errors
    /// A declared value has another type; a sign states that there are more pages but nothing leads
    /// there; or the next page leaves the origin.
    pub fn next(&self, at: &Position, seen: &Seen<'_>) -> Result<PageStep> {
        let mut step = self.declared_step(at, seen)?;
        if *at == Position::First && step.next.is_none() && step.gap.is_none() {
            let others = self.places(seen).skip(self.declared);
            step.gap = undeclared::unread(others, seen, self.kind.is_some());
        }
        Ok(step)
    }

    fn places<'page>(
        &'page self,
        seen: &Seen<'page>,
    ) -> impl Iterator<Item = DeclaredValue<'page>> {
        let places = self.captures.iter().zip(seen.captures);
        places.map(|(path, value)| DeclaredValue { path, value: value.as_ref() })
    }

    /// The step according to the declared values.
    fn declared_step(&self, at: &Position, seen: &Seen<'_>) -> Result<PageStep> {
        let mut places = self.places(seen).take(self.declared);
        match &self.kind {
            None => Ok(PageStep::default()),
            Some(Paginate::None) => Ok(PageStep::to(None, true)),
            Some(Paginate::Cursor(pages)) => by_cursor(pages, places),
            Some(Paginate::NextUrl(pages)) => {
                let next = places.next().map(link::of_body).transpose()?.flatten();
                let next = next.map(|next| follow(&next, pages.follow, seen.url)).transpose()?;
                Ok(PageStep::to(next, false))
            }
            Some(Paginate::LinkHeader(pages)) => {
                let next = link::of_headers(seen.headers, &pages.rel);
                if next.is_none() && link::is_torn(seen.headers, &pages.rel) {
                    let what = "the `Link` header announces a next page in a form that weir does not support";
                    return Err(Error::new(Kind::Shape, what).with_hint(
                        "the supported form is `<https://…>; rel=\"next\"`; without it rows would be lost",
                    ));
                }
                let next = next.map(|next| follow(&next, pages.follow, seen.url)).transpose()?;
                Ok(PageStep::to(next, false))
            }
            Some(Paginate::Page(pages)) => {
                let first = pages.start.unwrap_or(1);
                let number = current(at, first);
                let size = u64::from(seen.size.unwrap_or(1)).max(seen.rows).max(1);
                let after = number.saturating_add(1);
                let (read, records) = (after.saturating_sub(first), None);
                numbered(
                    pages,
                    places,
                    seen,
                    &NumberedPage { first, number, size, after, read, records },
                )
            }
            Some(Paginate::Offset(pages)) => {
                let first = pages.start.unwrap_or(0);
                let offset = current(at, first);
                let after = offset.saturating_add(seen.rows);
                let (number, size, read) = (offset, 1, 0);
                let records = Some(after.saturating_sub(first));
                numbered(
                    pages,
                    places,
                    seen,
                    &NumberedPage { first, number, size, after, read, records },
                )
            }
        }
    }
}

fn by_cursor<'page>(
    pages: &CursorPages,
    mut places: impl Iterator<Item = DeclaredValue<'page>>,
) -> Result<PageStep> {
    let Some(at) = places.next() else {
        unreachable!("a cursor declares its path, and the decoder returns a value per path")
    };
    let last = if pages.last.is_some() { places.next() } else { None };
    let more = if pages.more.is_some() { places.next() } else { None };
    let last_says = last.as_ref().map(DeclaredValue::flag).transpose()?.flatten().map(|last| !last);
    let more_says = match &more {
        Some(more) if more.value.is_some_and(|value| !value.is_null()) => more.more()?,
        _ => None,
    };
    // If two signs differ, there are more pages: one extra request loses nothing.
    let has_more = [last_says, more_says].into_iter().flatten().reduce(|one, other| one || other);
    if has_more == Some(false) {
        return Ok(PageStep::to(None, true));
    }
    match at.token()? {
        Some(token) => Ok(PageStep::to(Some(Position::Token(token)), true)),
        None if has_more == Some(true) => {
            let sign = [more, last].into_iter().flatten().find(|sign| sign.value.is_some());
            let sign = sign.map_or("the response".to_owned(), |sign| format!("`{}`", sign.path));
            Err(at.missing(&format!("{sign} states that there are more pages")))
        }
        None => Ok(PageStep::to(None, false)),
    }
}

fn current(at: &Position, first: u64) -> u64 {
    match at {
        Position::Number(number) => *number,
        _ => first,
    }
}

/// A page of a listing by page numbers or offsets.
struct NumberedPage {
    /// Number of the listing's first page or record.
    first: u64,
    /// Number of the page, or of its first record.
    number: u64,
    /// Records per number: the page size, or 1 for offsets.
    size: u64,
    /// Number of the next page.
    after: u64,
    /// Pages up to its end; 0 for offsets.
    read: u64,
    /// Records up to its end; `None` for page numbers.
    records: Option<u64>,
}

impl NumberedPage {
    /// Where to read again after the total has fallen.
    fn back(&self, fall: u64) -> u64 {
        self.number.saturating_sub(fall.div_ceil(self.size)).max(self.first)
    }
}

/// The step after a numbered page.
fn numbered<'page>(
    pages: &NumberedPages,
    mut places: impl Iterator<Item = DeclaredValue<'page>>,
    seen: &Seen<'_>,
    page: &NumberedPage,
) -> Result<PageStep> {
    let mut place = |sign: &Option<String>| if sign.is_some() { places.next() } else { None };
    let [last, more, total, count] =
        [&pages.last, &pages.more, &pages.total, &pages.pages].map(&mut place);
    let last = last.as_ref().map(DeclaredValue::flag).transpose()?.flatten().map(|last| !last);
    let declared = more.is_some();
    // An absent `more` means that there are no more pages, but it could also be a mistake in the
    // spec.
    let sure = more.as_ref().is_some_and(|more| more.value.is_some());
    let more =
        more.as_ref().map(DeclaredValue::more).transpose()?.flatten().or(declared.then_some(false));
    let total = total.as_ref().map(DeclaredValue::count).transpose()?.flatten();
    let count = count.as_ref().map(DeclaredValue::count).transpose()?.flatten();
    let by_total = total.zip(page.records).map(|(total, records)| total > records);
    let by_count = count.map(|count| count > page.read);
    let signs = [last, more, by_total, by_count];
    let has_more = signs.into_iter().flatten().reduce(|one, other| one || other);
    let stated = has_more.is_some() && (sure || !declared || signs.iter().flatten().count() > 1);
    let fall = seen.total.zip(total).map_or(0, |(before, now)| before.saturating_sub(now));
    let seam = (fall > 0).then(|| Position::Number(page.back(fall)));
    let ended = seen.rows == 0 && page.records.is_some();
    let gap = (ended && has_more == Some(true)).then(|| {
        let records = page.records.unwrap_or_default();
        match total.filter(|_| by_total == Some(true)) {
            Some(total) => format!("the API counts {total} records, but returned {records}"),
            None => {
                "the API states that there are more records, but returned an empty page".to_owned()
            }
        }
    });
    let next = has_more.unwrap_or(seen.rows > 0) && !ended;
    let next = next.then_some(Position::Number(page.after));
    Ok(PageStep { next, stated: stated || seen.rows == 0, total, seam, gap })
}

impl Pager {
    /// Whether pages are numbered without a total that would show that records have moved between
    /// pages.
    pub fn may_shift(&self) -> bool {
        match &self.kind {
            Some(Paginate::Page(pages) | Paginate::Offset(pages)) => pages.total.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::exchange::HeaderMap;

    const FIRST: &str = "https://acme.test/wiki/api/v2/pages?status=current";

    fn limit() -> PageSize {
        let costly = crate::spec::OneOrMany::default();
        PageSize { param: "limit".to_owned(), max: 250, min: 1, costly }
    }

    fn pager(yaml: &str) -> Pager {
        let size = limit();
        Pager::new(serde_saphyr::from_str(yaml).unwrap(), Some(size), false).unwrap()
    }

    fn step(pager: &Pager, at: &Position, body: &Value, rows: u64) -> Result<PageStep> {
        let captures: Vec<Option<Value>> =
            pager.captures().iter().map(|path| path.find(body).cloned()).collect();
        let (url, headers) = (Url::parse(FIRST).unwrap(), HeaderMap::new());
        let (size, total) = (None, None);
        let seen = Seen { url: &url, headers: &headers, captures: &captures, rows, size, total };
        pager.next(at, &seen)
    }

    fn next(pager: &Pager, at: &Position, body: &Value, rows: u64) -> Option<Position> {
        step(pager, at, body, rows).unwrap().next
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
        let url =
            "https://acme.test/wiki/api/v2/pages?cursor=eyJ9fQ%3D%3D&status=current&limit=250";
        check(&pager, &first, &raw, 0, Some(url));
        check(&pager, &first, &json!({ "_links": {} }), 250, None);
    }

    #[test]
    fn a_next_url_never_leaves_the_origin() {
        let pager = pager("next_url: { at: next }");
        let (url, headers) = (Url::parse(FIRST).unwrap(), HeaderMap::new());
        let captures = [Some(json!("https://evil.test/pages?x=1"))];
        let (rows, size, total) = (1, None, None);
        let seen = Seen { url: &url, headers: &headers, captures: &captures, rows, size, total };
        assert!(pager.next(&Position::First, &seen).is_err());
        check(
            &pager,
            &Position::First,
            &json!({ "next": "/b?x=1" }),
            1,
            Some("https://acme.test/b?x=1&status=current&limit=250"),
        );
    }

    #[test]
    fn a_cursor_is_sent_back_as_a_parameter() {
        let pager = pager("cursor: { at: nextPageToken, param: nextPageToken, last: isLast }");
        let first = Position::First;
        let url = "https://acme.test/wiki/api/v2/pages?status=current&nextPageToken=t%2B&limit=250";
        check(&pager, &first, &json!({ "nextPageToken": "t+", "isLast": false }), 1, Some(url));
        check(&pager, &first, &json!({ "nextPageToken": "t", "isLast": true }), 1, None);
        check(&pager, &first, &json!({}), 1, None);
        let error = step(&pager, &first, &json!({ "isLast": false }), 1).unwrap_err();
        assert!(error.to_string().contains("`isLast` states that there are more pages"), "{error}");
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
    fn pages_shrink_down_to_the_least() {
        let pager = pager("none");
        assert_eq!(pager.smaller_page(250), Some(125));
        assert_eq!(pager.smaller_page(1), None);
    }

    #[test]
    fn a_next_page_of_another_shape_is_never_the_end() {
        let links = pager("next_url: { at: next }");
        let first = Position::First;
        let url = Some("https://acme.test/b?x=1&status=current&limit=250");
        check(&links, &first, &json!({ "next": { "href": "/b?x=1" } }), 1, url);
        check(&links, &first, &json!({ "next": "/b?x=1&amp;status=current" }), 1, url);
        for none in [json!(null), json!(""), json!(false), json!("false"), json!({}), json!([])] {
            check(&links, &first, &json!({ "next": none }), 1, None);
        }
        check(&links, &first, &json!({ "next": { "href": null } }), 1, None);
        for other in [json!(true), json!(["/b"]), json!({ "url": "/b" }), json!(7), json!("true")] {
            let error = step(&links, &first, &json!({ "next": other }), 1).unwrap_err();
            assert!(error.to_string().contains(&other.to_string()), "{error}");
        }
        let cursor = pager("cursor: { at: next, param: after }");
        for other in [json!(true), json!(["a"]), json!({ "token": "a" })] {
            assert!(step(&cursor, &first, &json!({ "next": other }), 1).is_err(), "{other}");
        }
        let pages = pager("page: { param: page, last: last }");
        for (last, ends) in [(json!("true"), true), (json!("false"), false), (json!(0), false)] {
            let found = next(&pages, &first, &json!({ "last": last }), 9);
            assert_eq!(found.is_none(), ends, "{last}");
        }
        assert!(step(&pages, &first, &json!({ "last": {} }), 9).is_err());
    }

    #[test]
    fn a_link_keeps_the_parameters_that_it_does_not_set() {
        let url = Url::parse("https://acme.test/p?kind=a&kind=b&format=full").unwrap();
        let at = |follow: &str, at: Position| pager(follow).url(&url, &at, Some(9)).to_string();
        let by_query =
            at("next_url: { at: n, follow: query }", Position::Query("c=1&kind=z".into()));
        assert_eq!(by_query, "https://acme.test/p?c=1&kind=z&format=full&limit=9");
        let link = Position::Url(Url::parse("https://acme.test/p?page_info=x").unwrap());
        let by_url = at("next_url: { at: n }", link.clone());
        assert_eq!(by_url, "https://acme.test/p?page_info=x&kind=a&kind=b&format=full&limit=9");
        let exact = at("next_url: { at: n, follow: exact }", link);
        assert_eq!(exact, "https://acme.test/p?page_info=x");
    }

    #[test]
    fn parameters_go_into_a_json_body_where_there_is_one() {
        let yaml = "offset: { param: from }";
        let size = limit();
        let pager = Pager::new(serde_saphyr::from_str(yaml).unwrap(), Some(size), true).unwrap();
        let (first, at) = (Url::parse(FIRST).unwrap(), Position::Number(7));
        assert_eq!(pager.url(&first, &at, Some(5)).as_str(), FIRST);
        let fields = pager.body_fields(&at, Some(5));
        assert_eq!(fields, [("from", json!(7)), ("limit", json!(5))]);
    }

    #[test]
    fn a_total_that_falls_leads_back_to_the_seam() {
        let pager = pager("offset: { param: start, total: total }");
        let captures = [Some(json!(117))];
        let (url, headers) = (Url::parse(FIRST).unwrap(), HeaderMap::new());
        let (rows, size, total) = (17, Some(50), Some(120));
        let seen = Seen { url: &url, headers: &headers, captures: &captures, rows, size, total };
        let step = pager.next(&Position::Number(100), &seen).unwrap();
        assert_eq!((step.next, step.seam), (None, Some(Position::Number(97))));
        let seen = Seen { rows: 0, total: Some(117), ..seen };
        let step = pager.next(&Position::Number(100), &seen).unwrap();
        assert_eq!(step.gap.as_deref(), Some("the API counts 117 records, but returned 100"));
    }
}
