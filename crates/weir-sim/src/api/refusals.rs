//! Routes and parameters that the site always rejects.

use crate::api::answer::{Asked, Reply, not_there, unknown_path};
use crate::api::query::QueryProblem;
use crate::api::routes::{Handler, ROUTES};
use crate::error::{Error, Result};
use crate::tenant::Tenant;
use crate::tenant::ids::ObjectKind;
use hyper::StatusCode;

/// The possible statuses of a rejection.
const STATUSES: [u16; 4] = [400, 403, 404, 410];

/// Parses `PATH=STATUS`: the path of one of [`ROUTES`], optionally with `?` and one of its parameters, and
/// 400, 403, 404 or 410.
///
/// # Errors
/// The text is invalid.
pub fn refusal(text: &str) -> Result<(String, u16)> {
    let wrong = |what: &str| Error::Invalid(format!("the refusal `{text}` {what}"));
    let (path, status) = text.rsplit_once('=').ok_or_else(|| wrong("is not PATH=STATUS"))?;
    let status = status.parse().ok().filter(|status| STATUSES.contains(status));
    let status = status.ok_or_else(|| wrong("has a status other than 400, 403, 404 and 410"))?;
    let (template, parameter) = split(path);
    let route = ROUTES.iter().find(|route| route.path == template);
    let route = route.ok_or_else(|| wrong("names a path that is not served"))?;
    let knows = |name| route.parameters.iter().any(|parameter| parameter.name == name);
    if parameter.is_some_and(|name| !knows(name)) {
        return Err(wrong("names a parameter that the path does not know"));
    }
    Ok((path.to_owned(), status))
}

/// Template of a route, and the parameter that is rejected.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('?') {
        Some((template, parameter)) => (template, Some(parameter)),
        None => (path, None),
    }
}

impl Tenant {
    /// The rejection of a request according to the options.
    pub(crate) fn refused(&self, asked: &Asked) -> Option<Reply> {
        let is_meant = |path: &str| {
            let (template, parameter) = split(path);
            let given = |name| asked.query.text(name).is_some_and(|value| value != "false");
            template == asked.route.path && parameter.is_none_or(given)
        };
        let (_, status) = self.options.refuses.iter().find(|(path, _)| is_meant(path))?;
        Some(worded(*status, asked))
    }
}

fn worded(status: u16, asked: &Asked) -> Reply {
    let old = asked.path.starts_with("/wiki/rest/");
    let (status, code, title) = match status {
        400 => (StatusCode::BAD_REQUEST, "INVALID_REQUEST_PARAMETER", "Bad Request"),
        403 if old => {
            (StatusCode::FORBIDDEN, "FORBIDDEN", "Current user not permitted to use Confluence")
        }
        // The text above would mean that the caller has no access at all.
        403 => (StatusCode::FORBIDDEN, "FORBIDDEN", "User does not have permission for this"),
        410 => (StatusCode::GONE, "GONE", "This deprecated endpoint has been removed."),
        _ if old => (StatusCode::NOT_FOUND, "NOT_FOUND", "Not Found"),
        // A bare text would mean that the caller has no access at all.
        _ if asked.id.is_empty() => return unknown_path(asked.path),
        _ => {
            let kind = match asked.route.handler {
                Handler::Single(kind) => kind,
                _ => ObjectKind::Page,
            };
            return Reply::not_found(not_there(kind, asked.id));
        }
    };
    if old {
        return Reply::old_error(status, title);
    }
    let problem = QueryProblem { title: title.to_owned(), detail: None };
    Reply::error(status, code, &[problem])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read() {
        for (text, path, status) in [
            ("/wiki/rest/api/content/search=410", "/wiki/rest/api/content/search", 410),
            (
                "/wiki/api/v2/pages/{id}?include-labels=400",
                "/wiki/api/v2/pages/{id}?include-labels",
                400,
            ),
        ] {
            assert_eq!(refusal(text).unwrap(), (path.to_owned(), status));
        }
        for wrong in [
            "/wiki/api/v2/pages",
            "/wiki/api/v2/pages=500",
            "/wiki/api/v2/nothing=404",
            "/wiki/api/v2/pages?colour=400",
        ] {
            let error = refusal(wrong).unwrap_err();
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
