//! Renders requests: URLs, headers and bodies from templates and the variables of a slice.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::http::exchange::{HeaderName, HeaderValue, Request, Url, header};
use crate::template::{Scope, Template, TemplateError};

/// A compiled body.
#[derive(Debug)]
pub enum BodyPlan {
    /// JSON whose strings are templates.
    Json(serde_json::Value),
    /// Form fields.
    Form(Vec<(String, Template)>),
}

/// A URL below the base URL. Parameters with an empty value are omitted.
pub(crate) fn url_of(
    base_url: &str,
    path: &str,
    query: &[(String, Template)],
    scope: &Arc<Scope>,
) -> Result<Url> {
    let separator = if path.starts_with('/') { "" } else { "/" };
    let mut url = Url::parse(&format!("{base_url}{separator}{path}")).map_err(|error| {
        Error::input(format!("`{path}` does not result in a valid URL")).because(error)
    })?;
    for (name, template) in query {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        if !value.is_empty() {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    Ok(url)
}

pub(crate) fn add_headers(
    request: &mut Request,
    headers: &[(HeaderName, Template)],
    scope: &Arc<Scope>,
) -> Result<()> {
    for (name, template) in headers {
        let value = template.render(scope).map_err(|error| unfilled(&error))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| Error::input(format!("the value of the header `{name}` is invalid")))?;
        request.headers.insert(name.clone(), value);
    }
    Ok(())
}

pub(crate) fn add_body(
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

/// Renders the strings of a JSON value. A string that is a single expression becomes its value, with its type.
fn filled(value: &serde_json::Value, scope: &Arc<Scope>) -> Result<serde_json::Value> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::String(text) => {
            let value = Template::parse(text).and_then(|template| template.eval(scope));
            let value = value.map_err(|error| unfilled(&error))?;
            serde_json::to_value(&value)
                .map_err(|error| Error::input("a value is not valid JSON").because(error))?
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

pub(crate) fn unfilled(error: &TemplateError) -> Error {
    Error::input(format!("a template cannot be filled in: {error}"))
}
