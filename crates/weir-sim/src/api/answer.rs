//! Responds to one request: route, access, parameters, and error responses.

use std::borrow::Cow;

use bytes::Bytes;

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use crate::api::listing::{List, Listed, PageRequest};
use crate::api::out::Out;
use crate::api::parameters::ParameterForm;
use crate::api::query::{Query, QueryProblem};
use crate::api::routes::{Handler, Route, find};
use crate::tenant::Tenant;
use crate::tenant::ids::{ObjectKind, from_id};

/// Path of the OAuth token endpoint, as on Atlassian's own host.
const TOKENS: &str = "/oauth/token";

/// A request, in process or from the socket.
#[derive(Clone, Copy, Debug)]
pub struct IncomingRequest<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path, without the query.
    pub path: &'a str,
    /// Query, without the question mark; empty if there is none.
    pub query: &'a str,
    /// Value of the `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Number of objects returned.
    pub rows: usize,
    /// Cost of the request in points, by the API's model.
    pub points: u64,
}

impl Reply {
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::of(status, "application/json", body)
    }

    pub(crate) fn of(status: StatusCode, typed: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(typed));
        Self { status, headers, body: body.into(), rows: 0, points: 1 }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn rows(self, rows: usize, cost: u64) -> Self {
        self.counted(rows, 1 + rows as u64 * cost)
    }

    /// Sets the number of objects and the total points.
    pub(crate) fn counted(mut self, rows: usize, points: u64) -> Self {
        (self.rows, self.points) = (rows, points);
        self
    }

    /// An error in the format of v2.
    pub(crate) fn error(status: StatusCode, code: &str, problems: &[QueryProblem]) -> Self {
        let mut out = Out::default();
        out.raw("{\"errors\":[");
        for (at, problem) in problems.iter().enumerate() {
            out.raw(if at > 0 { ",{" } else { "{" }).raw("\"status\":");
            out.num(status.as_u16().into()).raw(",\"code\":\"").raw(code).raw("\",\"title\":");
            out.string(&problem.title).raw(",\"detail\":");
            match problem.detail {
                Some(detail) => out.string(detail),
                None => out.raw("null"),
            };
            out.raw("}");
        }
        Self::json(status, out.raw("]}").take())
    }

    /// A 404 of v2. A bare `Not Found` means that the caller has no access at all.
    pub(crate) fn not_found(title: impl Into<String>) -> Self {
        let problem = QueryProblem { title: title.into(), detail: None };
        Self::error(StatusCode::NOT_FOUND, "NOT_FOUND", &[problem])
    }

    pub(crate) fn bad_request(problems: &[QueryProblem], path: &str) -> Self {
        if path.starts_with("/wiki/rest/") {
            let message = problems.first().map_or("", |problem| problem.title.as_str());
            return Self::old_error(StatusCode::BAD_REQUEST, message);
        }
        Self::error(StatusCode::BAD_REQUEST, "INVALID_REQUEST_PARAMETER", problems)
    }

    /// An error in the format of v1.
    pub(crate) fn old_error(status: StatusCode, message: &str) -> Self {
        let mut out = Out::default();
        out.raw("{\"statusCode\":").num(status.as_u16().into());
        out.raw(",\"data\":{\"authorized\":true,\"valid\":false,\"errors\":[{\"message\":");
        out.raw("{\"translation\":").string(message).raw(",\"args\":[]}}],\"successful\":false},");
        out.raw("\"message\":").string(message).raw("}");
        Self::json(status, out.take())
    }
}

/// A request with its route.
pub(crate) struct Asked<'a> {
    pub(crate) route: &'static Route,
    /// Path without the gateway's prefix.
    pub(crate) path: &'a str,
    pub(crate) query: Query<'a>,
    /// The ID in the path, as sent.
    pub(crate) id: &'a str,
    /// Whether `next` repeats this page's cursor.
    pub(crate) repeat: bool,
    /// The current time, in epoch milliseconds.
    pub(crate) now: u64,
}

/// The path below the site, and the site ID if the request came through the gateway.
pub(crate) fn split_gateway(path: &str) -> (&str, Option<&str>) {
    let Some(rest) = path.strip_prefix("/ex/confluence/") else { return (path, None) };
    let cloud = rest.split('/').next().unwrap_or(rest);
    (rest.strip_prefix(cloud).unwrap_or(""), Some(cloud))
}

impl Tenant {
    /// Responds as the API would without faults. `revoked`: the credentials are rejected. `repeat`: `next`
    /// repeats the page's cursor. `now` is in epoch milliseconds.
    pub(crate) fn answer(
        &self,
        call: &IncomingRequest,
        revoked: bool,
        repeat: bool,
        now: u64,
    ) -> Reply {
        let (path, cloud) = split_gateway(call.path);
        if cloud.is_some_and(|cloud| cloud != self.options.cloud_id) {
            return Reply::json(
                StatusCode::NOT_FOUND,
                &br#"{"code":404,"message":"Not Found"}"#[..],
            );
        }
        if *call.method == Method::POST && path == TOKENS && self.options.credentials.is_none() {
            return token();
        }
        if *call.method != Method::GET {
            return Reply::old_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
                .with(header::ALLOW, "GET");
        }
        let Some((route, id)) = find(path) else { return unknown_path(path) };
        if let Some(refusal) = self.refusal(call, route, cloud.is_some(), revoked) {
            return refusal;
        }
        match Query::parse(call.query, route) {
            Ok(query) => {
                let asked = Asked { route, path, query, id, repeat, now };
                self.refused(&asked).unwrap_or_else(|| self.dispatch(&asked))
            }
            Err(problems) => Reply::bad_request(&problems, path),
        }
    }

    fn dispatch(&self, asked: &Asked) -> Reply {
        let answered = match asked.route.handler {
            Handler::Single(kind) => self.resolve(asked, kind).map(|index| match kind {
                ObjectKind::Space => self.single_space(asked, index),
                _ => self.single_content(asked, kind, index),
            }),
            Handler::Groups => Ok(self.groups(&asked.query)),
            Handler::Search => self.search(asked),
            Handler::SearchAll => self.search_all(asked),
            Handler::CurrentUser => {
                let mut out = Out::default();
                self.write_current_user(&mut out);
                Ok(Reply::json(StatusCode::OK, out.into_bytes()).rows(1, 2))
            }
            Handler::TenantInfo => {
                let body = format!("{{\"cloudId\":\"{}\"}}", self.options.cloud_id);
                Ok(Reply::json(StatusCode::OK, body))
            }
            _ => self.list(asked),
        };
        answered.unwrap_or_else(|refusal| *refusal)
    }

    /// Index of the object in the path.
    pub(crate) fn resolve(&self, asked: &Asked, kind: ObjectKind) -> Result<usize, Box<Reply>> {
        let digits = match kind {
            ObjectKind::Attachment => asked.id.strip_prefix("att").unwrap_or(asked.id),
            _ => asked.id,
        };
        let Ok(id) = digits.parse::<u64>() else {
            let id = asked.id;
            let title = format!(
                "Provided value {{{id}}} for 'id' is not the correct type. Expected type is long."
            );
            let problem = QueryProblem { title, detail: None };
            return Err(Box::new(Reply::bad_request(&[problem], asked.path)));
        };
        let found = from_id(id).filter(|(found, index)| {
            *found == kind && *index < self.count(kind) && self.exists(kind, *index)
        });
        let missing = || Box::new(Reply::not_found(not_there(kind, asked.id)));
        found.map(|(_, index)| index).ok_or_else(missing)
    }

    /// Writes the requested page of a list.
    pub(crate) fn page(
        &self,
        asked: &Asked,
        list: &List,
        keep: impl Fn(usize) -> bool,
        write: impl FnMut(&mut Out, usize),
    ) -> Result<Reply, Box<Reply>> {
        let default = asked.route.parameters.iter().find_map(|parameter| match parameter.form {
            ParameterForm::Limit(_, _, default) => Some(default),
            _ => None,
        });
        let page = PageRequest {
            list,
            path: asked.path,
            query: &asked.query,
            default: default.unwrap_or(25),
            repeat: asked.repeat,
        };
        let mut out = Out::with_capacity(4096);
        match self.write_list(&mut out, &page, keep, write) {
            Ok(Listed { rows, next }) => {
                let reply = Reply::json(StatusCode::OK, out.into_bytes()).rows(rows, list.cost());
                if asked.route.handler == Handler::SpacePermissions {
                    return Ok(reply);
                }
                Ok(reply.with(header::LINK, &self.link_header(next.as_deref())))
            }
            Err(problem) => Err(Box::new(Reply::bad_request(&[problem], asked.path))),
        }
    }

    /// Groups, by offset. The server silently limits a page to 200.
    fn groups(&self, query: &Query) -> Reply {
        let number = |name, default| {
            usize::try_from(query.number(name).unwrap_or(default)).unwrap_or(usize::MAX)
        };
        let (start, limit) = (number("start", 0), number("limit", 200).min(200));
        let kept: Vec<usize> = (0..self.count(ObjectKind::Group))
            .filter(|group| self.exists(ObjectKind::Group, *group))
            .filter(|group| match query.text("accessType") {
                Some("site-admin") => *group == 0,
                Some("admin") => *group < 2,
                _ => true,
            })
            .collect();
        let rows = kept.get(start..).unwrap_or_default();
        let shown = rows.get(..limit).unwrap_or(rows);
        let mut out = Out::default();
        out.raw("{\"results\":[");
        for (at, group) in shown.iter().enumerate() {
            self.write_group(out.raw(if at > 0 { "," } else { "" }), *group);
        }
        out.raw("],\"start\":").int(start).raw(",\"limit\":").int(limit).raw(",\"size\":");
        out.int(shown.len()).raw(",\"_links\":{\"base\":\"").raw(&self.options.site);
        out.raw("/wiki\",\"context\":\"/wiki\",");
        if limit > 0 && shown.len() < rows.len() {
            let next = start + limit;
            out.raw("\"next\":\"/rest/api/group?limit=").int(limit).raw("&start=").int(next);
            if let Some(access) = query.text("accessType") {
                out.raw("&accessType=").raw(access);
            }
            out.raw("\",");
        }
        out.raw("\"self\":\"").raw(&self.options.site).raw("/wiki/rest/api/group\"}}");
        Reply::json(StatusCode::OK, out.into_bytes()).rows(shown.len(), 2)
    }
}

/// Accepts all tokens.
fn token() -> Reply {
    let body = r#"{"access_token":"simulated","token_type":"Bearer","expires_in":3600}"#;
    Reply::json(StatusCode::OK, body).counted(0, 0)
}

pub(crate) fn not_there(kind: ObjectKind, id: &str) -> Cow<'static, str> {
    let noun = match kind {
        ObjectKind::Space => "space",
        ObjectKind::Page => "page",
        ObjectKind::BlogPost => "blogpost",
        ObjectKind::Attachment => "attachment",
        ObjectKind::Label => "label",
        _ => "comment",
    };
    format!("Cannot find a {noun} with id [{id}]").into()
}

pub(crate) fn unknown_path(path: &str) -> Reply {
    let mut out = Out::default();
    out.raw("{\"timestamp\":0,\"status\":404,\"error\":\"Not Found\",");
    out.raw("\"message\":\"No message available\",\"path\":").string(path).raw("}");
    Reply::json(StatusCode::NOT_FOUND, out.into_bytes())
}
