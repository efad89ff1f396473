//! Compilation of templates in queries, headers and bodies.

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::http::access;
use crate::http::exchange::HeaderName;
use crate::http::request::BodyPlan;
use crate::spec::{Body, QueryValue};
use crate::template::{Template, TemplateError};

pub(crate) fn query(parameters: &IndexMap<String, QueryValue>) -> Result<Vec<(String, Template)>> {
    let repeated = parameters
        .iter()
        .flat_map(|(name, values)| values.0.iter().map(move |value| (name, value)));
    repeated.map(|(name, value)| Ok((name.clone(), template(value)?))).collect()
}

pub(crate) fn headers(headers: &IndexMap<String, String>) -> Result<Vec<(HeaderName, Template)>> {
    let compile = |(name, value): (&String, &String)| {
        let (name, _) = access::header(name, "")?;
        Ok((name, template(value)?))
    };
    headers.iter().map(compile).collect()
}

pub(crate) fn body(body: &Body) -> Result<BodyPlan> {
    match body {
        Body::Json(value) => Ok(BodyPlan::Json(value.clone())),
        Body::Form(fields) => {
            let fields = fields.iter().map(|(name, value)| Ok((name.clone(), template(value)?)));
            fields.collect::<Result<_>>().map(BodyPlan::Form)
        }
    }
}

pub(crate) fn template(text: &str) -> Result<Template> {
    Template::parse(text).map_err(|error| invalid(&error))
}

pub(crate) fn invalid(error: &TemplateError) -> Error {
    Error::input(format!("a template is not valid: {error}"))
}
