//! Requests filled in: URLs, headers and bodies from templates and the variables of a slice.

use std::sync::Arc;

use bytes::Bytes;

use super::listing::Listing;
use crate::error::{Error, Kind, Result};
use crate::fetch::{HeaderName, HeaderValue, Request, Url, header};
use crate::plan::{BodyPlan, RequestPlan};
use crate::template::{Scope, Template, TemplateError};

pub(super) fn first_url(base_url: &str, listing: &Listing<'_>) -> Result<Url> {
    let path = listing.path.render_path(&listing.scope).map_err(|error| {
        let what = format!("the path for `{}` cannot be filled in: {error}", listing.scope.describe());
        Error::new(Kind::Shape, what).with_hint(
            "what `for_each` carries is not in every record that feeds it: correct the path under `carry`, \
             or leave such records out by `filter` of `feeds`",
        )
    })?;
    url_of(base_url, &path, listing.query, &listing.scope)
}

/// A URL below the base URL; parameters whose value is empty are left out.
pub(super) fn url_of(
    base_url: &str,
    path: &str,
    query: &[(String, Template)],
    scope: &Arc<Scope>,
) -> Result<Url> {
    let separator = if path.starts_with('/') { "" } else { "/" };
    let mut url = Url::parse(&format!("{base_url}{separator}{path}"))
        .map_err(|error| Error::input(format!("`{path}` makes no URL")).because(error))?;
    for (name, template) in query {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        if !value.is_empty() {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(url)
}

/// The request for the page at which a listing is, of the present size.
pub(super) fn assemble(
    request: &RequestPlan,
    listing: &Listing<'_>,
    (url, size): (Url, Option<u32>),
) -> Result<Request> {
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

pub(super) fn add_headers(
    request: &mut Request,
    headers: &[(HeaderName, Template)],
    scope: &Arc<Scope>,
) -> Result<()> {
    for (name, template) in headers {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| Error::input(format!("the value of the header `{name}` is not one")))?;
        request.headers.insert(name.clone(), value);
    }
    Ok(())
}

pub(super) fn add_body(
    request: &mut Request,
    body: Option<&BodyPlan>,
    scope: &Arc<Scope>,
) -> Result<()> {
    let (kind, text) = match body {
        None => return Ok(()),
        Some(BodyPlan::Json(value)) => ("application/json", filled(value, scope)?.to_string()),
        Some(BodyPlan::Form(fields)) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, template) in fields {
                let value = template.render(scope).map_err(|error| unfilled(&error))?;
                form.append_pair(name, &value);
            }
            ("application/x-www-form-urlencoded", form.finish())
        }
    };
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    request.body = Some(Bytes::from(text));
    Ok(())
}

/// A JSON value whose texts are filled in; a text that is one expression becomes its value.
fn filled(value: &serde_json::Value, scope: &Arc<Scope>) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(text) => {
            let value = Template::parse(text).and_then(|template| template.eval(scope));
            let value = value.map_err(|error| unfilled(&error))?;
            serde_json::to_value(&value)
                .map_err(|error| Error::input("a value makes no JSON").because(error))?
        }
        Json::Array(items) => {
            items.iter().map(|item| filled(item, scope)).collect::<Result<Vec<_>>>()?.into()
        }
        Json::Object(fields) => {
            let fields =
                fields.iter().map(|(name, field)| Ok((name.clone(), filled(field, scope)?)));
            Json::Object(fields.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
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

pub(super) fn unfilled(error: &TemplateError) -> Error {
    Error::input(format!("a template cannot be filled in: {error}"))
}
