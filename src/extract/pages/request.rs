//! The request for one page of a listing.

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::extract::pages::listing::Listing;
use crate::http::exchange::{Request, Url};
use crate::http::request::{add_body, add_headers, url_of};

pub(crate) fn first_url(base_url: &str, listing: &Listing<'_>) -> Result<Url> {
    let path = listing.path.render_path(&listing.scope).map_err(|error| {
        let what = format!("the path for `{}` cannot be filled in: {error}", listing.scope.describe());
        Error::new(Kind::Shape, what).with_hint(
            "what `for_each` carries is not in every record that feeds it: correct the path under `carry`, \
             or leave such records out by `filter` of `feeds`",
        )
    })?;
    url_of(base_url, &path, listing.query, &listing.scope)
}

/// The request for a listing's next page. `size`: the page size; `None` if the API has none.
pub(crate) fn assemble(listing: &Listing<'_>, url: Url, size: Option<u32>) -> Result<Request> {
    let request = listing.request;
    let mut assembled = Request::get(url);
    // A record's children are listed by `GET`, whatever the slice's own request is.
    if listing.depth == 0 {
        assembled.method = request.method.clone();
        add_body(&mut assembled, request.body.as_ref(), &listing.scope)?;
        set_body_fields(&mut assembled, listing.pager.body_fields(&listing.at, size));
    }
    add_headers(&mut assembled, &request.headers, &listing.scope)?;
    Ok(assembled)
}

fn set_body_fields(request: &mut Request, more: Vec<(&str, serde_json::Value)>) {
    if more.is_empty() {
        return;
    }
    let body = request.body.as_deref().and_then(|body| serde_json::from_slice(body).ok());
    let mut body: serde_json::Value = body.unwrap_or_else(|| serde_json::json!({}));
    if let Some(fields) = body.as_object_mut() {
        fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    request.body = Some(Bytes::from(body.to_string()));
}
