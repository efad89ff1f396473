//! Links to the next page: where a response contains them, and which URL they lead to.

use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::http::exchange::{HeaderMap, Url, header};
use crate::http::pagination::position::Position;
use crate::http::pagination::sign::{DeclaredValue, is_word, shown};
use crate::spec::Follow;

/// The URL in a value of the body; `None` if the page is the last one. An object may contain the URL
/// as `href`.
///
/// # Errors
/// The value has another type.
pub(crate) fn of_body(place: DeclaredValue<'_>) -> Result<Option<String>> {
    let target = match place.value {
        Some(Value::Object(link)) if !link.is_empty() => match link.get("href") {
            Some(href) => Some(href),
            None => return Err(place.wrong("a URL, or an object with a URL as `href`")),
        },
        other => other,
    };
    match target {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() || is_word(text, "false") => Ok(None),
        Some(Value::String(text)) if !is_word(text, "true") => Ok(Some(text.clone())),
        Some(Value::Array(items)) if items.is_empty() => Ok(None),
        Some(Value::Object(fields)) if fields.is_empty() => Ok(None),
        Some(_) => Err(place.wrong("a URL, or an object with a URL as `href`")),
    }
}

/// Whether a `Link` header names a relation without a URL in angle brackets.
pub(crate) fn is_torn(headers: &HeaderMap, rel: &str) -> bool {
    let values = headers.get_all(header::LINK).into_iter().filter_map(|value| value.to_str().ok());
    let named = |value: &str| {
        value.contains(&format!("rel=\"{rel}\"")) || value.contains(&format!("rel={rel}"))
    };
    values.into_iter().any(named)
}

/// Target of the first link of this relation (RFC 8288 §3).
pub(crate) fn of_headers(headers: &HeaderMap, rel: &str) -> Option<String> {
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

/// Position of the page that a link leads to.
///
/// # Errors
/// It is no URL, or leads out of the origin.
pub(crate) fn follow(next: &str, follow: Follow, from: &Url) -> Result<Position> {
    let wrong = |what: &str| {
        let next = shown(&Value::from(next));
        Error::new(Kind::Shape, format!("the next page's address {what}: {next}"))
            .with_hint("weir sends no requests to other origins")
    };
    let next = unescaped(next);
    let url = from.join(&next).map_err(|error| wrong("cannot be read").because(error))?;
    match follow {
        Follow::Query => {
            let query = url.query().ok_or_else(|| wrong("has no query"))?;
            Ok(Position::Query(query.to_owned()))
        }
        Follow::Url | Follow::Exact if url.origin() == from.origin() => Ok(Position::Url(url)),
        Follow::Url | Follow::Exact => Err(wrong("leaves the origin")),
    }
}

/// A URL whose `&` are escaped as in HTML.
fn unescaped(address: &str) -> String {
    ["&amp;", "&#38;", "&#x26;"]
        .into_iter()
        .fold(address.to_owned(), |address, entity| address.replace(entity, "&"))
}

/// Adds those parameters of the first page's URL that a link does not set.
pub(crate) fn with_own_parameters(mut url: Url, first: &Url) -> Url {
    let set: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let missing: Vec<_> =
        first.query_pairs().filter(|(name, _)| !set.iter().any(|one| one == name)).collect();
    if !missing.is_empty() {
        url.query_pairs_mut().extend_pairs(missing);
    }
    url
}

/// Sets a query parameter, replacing one of the same name.
pub(crate) fn set(url: &mut Url, name: &str, value: &str) {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != name)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_headers_are_read_by_relation() {
        let mut headers = HeaderMap::new();
        let value = "</a?cursor=x==&limit=5>; rel=\"next\", <https://acme.test/wiki>; rel=\"base\"";
        headers.insert(header::LINK, value.parse().unwrap());
        assert_eq!(of_headers(&headers, "next").as_deref(), Some("/a?cursor=x==&limit=5"));
        assert_eq!(of_headers(&headers, "base").as_deref(), Some("https://acme.test/wiki"));
        assert_eq!(of_headers(&headers, "prev"), None);
    }
}
