//! What comes of a request: an answer that was read, or what the server said instead.

use crate::error::{Error, Kind, Result};
use crate::http::exchange::{Response, StatusCode, TransportError, Url, header};
use crate::http::response_rules;
use crate::secret::shown;
use crate::spec::{Meaning, Then};

/// What came of a request.
pub(crate) enum Answer<T> {
    /// A response, read.
    Read(T),
    /// None, but the rules say how to go on.
    Given {
        then: Then,
        /// What it tells about the connection.
        means: Option<Meaning>,
        /// URL without secrets.
        url: Url,
        status: Option<u16>,
        /// What the server said.
        message: String,
    },
    /// None, and the stream fails, unless it can go on without what was asked for.
    Failed(Box<FailedRequest>),
}

impl<T> Answer<T> {
    /// Makes something else of what was read.
    pub(crate) fn and_then<U>(
        self,
        make: impl FnOnce(T) -> Result<Answer<U>>,
    ) -> Result<Answer<U>> {
        match self {
            Self::Read(read) => make(read),
            Self::Given { then, means, url, status, message } => {
                Ok(Answer::Given { then, means, url, status, message })
            }
            Self::Failed(failed) => Ok(Answer::Failed(failed)),
        }
    }
}

/// A failure that concerns what was asked for, not the connection.
#[derive(Debug)]
pub(crate) struct FailedRequest {
    /// The failure of the stream, if it cannot go on.
    pub(crate) error: Error,
    /// URL without secrets.
    pub(crate) url: Url,
    pub(crate) status: Option<u16>,
    /// What the server said.
    pub(crate) message: String,
    pub(crate) cause: Cause,
}

/// Why a request fails although the API answers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server refuses the request as it is.
    Refused,
    /// The request is too long.
    TooLong,
    /// The server cannot make the answer, or it is too large.
    Heavy,
}

/// A response, or why there is none.
pub(crate) type Answered = std::result::Result<Response, TransportError>;

/// Bytes of a query beyond which a 400 may be about its length: no server takes less.
const LONG_QUERY: usize = 2000;

/// Why the answer to this one request is a failure; `None` where it is about the connection or the rate.
pub(crate) fn cause_of(answered: &Answered, url: &Url) -> Option<Cause> {
    let status = match answered {
        Ok(response) => response.status,
        Err(TransportError::TooLarge(_) | TransportError::Timeout) => return Some(Cause::Heavy),
        Err(TransportError::Unreadable(_)) => return Some(Cause::Refused),
        Err(_) => return None,
    };
    match status.as_u16() {
        401 | 407 | 408 | 429 => None,
        413 | 414 | 431 => Some(Cause::TooLong),
        400 if is_too_long(Some(400), url) => Some(Cause::TooLong),
        400..=499 => Some(Cause::Refused),
        500.. => Some(Cause::Heavy),
        _ => None,
    }
}

/// Whether a refusal may be about the length of the query.
pub(crate) fn is_too_long(status: Option<u16>, url: &Url) -> bool {
    status == Some(400) && url.query().is_some_and(|query| query.len() > LONG_QUERY)
}

/// Whether a smaller page may help: the body is beyond our limit, or the server fails on this one.
pub(crate) fn is_heavy(answered: &Answered) -> bool {
    match answered {
        Ok(response) => response.status.is_server_error(),
        Err(error) => matches!(error, TransportError::TooLarge(_) | TransportError::Timeout),
    }
}

/// Whether a smaller page is asked for already. Every second failure counts, so that a short outage does not
/// make all later pages small.
pub(crate) fn is_too_heavy(answered: &Answered, number: u32) -> bool {
    let again = number >= 3 && number % 2 == 1;
    matches!(answered, Err(TransportError::TooLarge(_))) || is_heavy(answered) && again
}

pub(crate) fn is_too_many(answered: &Answered) -> bool {
    answered.as_ref().is_ok_and(|response| response.status == StatusCode::TOO_MANY_REQUESTS)
}

/// Whether the server says that it does not serve such a request.
pub(crate) fn is_refused(answered: &Answered) -> bool {
    let refusals = [400, 403, 404, 410];
    answered.as_ref().is_ok_and(|response| refusals.contains(&response.status.as_u16()))
}

/// Why an answer that came well is none: it was cut short, which another try mends, or it cannot be read.
pub(crate) fn unreadable(response: &Response, why: &str) -> TransportError {
    let body = response.json();
    let status = response.status.as_u16();
    let unread = |what: &str| TransportError::Unreadable(what.to_owned());
    if body.trim_ascii_start().starts_with(b"<") {
        return unread(&format!("the answer ({status}) is a page of HTML, not JSON"));
    }
    if std::str::from_utf8(body).is_err() {
        return unread(&format!("the answer ({status}) is not valid UTF-8"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        // What came whole by HTTP's own measure was cut short before it was sent.
        Err(error) if error.is_eof() && is_framed(response) => {
            unread(&format!("the answer ({status}) ends before its JSON does ({why})"))
        }
        Err(error) if error.is_eof() => {
            TransportError::Broken(format!("the body ended before its JSON did ({why})"))
        }
        _ => unread(&format!("the answer ({status}) is not JSON ({why})")),
    }
}

/// Whether the answer told where its body ends.
fn is_framed(response: &Response) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| response.headers.contains_key(name))
}

/// Status and words of an answer that is no success.
pub(crate) fn said(answered: &Answered) -> (Option<u16>, String) {
    match answered {
        Ok(response) => (Some(response.status.as_u16()), response_rules::message(response)),
        Err(error) => (None, shown(&error.to_string())),
    }
}

/// The error of a request that is given up.
pub(crate) fn failure(
    url: &Url,
    answered: &Answered,
    means: Option<Meaning>,
    hint: Option<String>,
) -> Error {
    let (status, message) = said(answered);
    let place = url.path();
    let refused =
        |kind, status: u16| Error::new(kind, format!("`{place}` was refused: {status} {message}"));
    let host = url.host_str().unwrap_or_default();
    let error = match (status, means) {
        (Some(status), Some(Meaning::Permission)) => refused(Kind::Permission, status),
        (Some(status), Some(Meaning::Credentials)) => refused(Kind::Credentials, status),
        (Some(401), None) => refused(Kind::Credentials, 401),
        (Some(status), _) => refused(Kind::Rejected, status),
        (None, _) if matches!(answered, Err(TransportError::Unreadable(_))) => {
            let what = format!("what `{host}` answers to `{place}` cannot be read: {message}");
            return Error::new(Kind::Unreachable, what).with_hint(
                "look at what answers there: a login page, a proxy, another API version, or a spec that expects JSON where there is none",
            );
        }
        (None, _) if let Err(TransportError::TooLarge(limit)) = answered => {
            let what =
                format!("what `{host}` answers to `{place}` is larger than {} MiB", limit >> 20);
            Error::new(Kind::Unreachable, what)
                .with_hint("ask for smaller pages by `page_size` in the spec, or raise its `limits.max_body_mib`")
        }
        (None, _) => {
            let what = format!("`{host}` did not answer `{place}`: {message}");
            Error::new(Kind::Unreachable, what)
        }
    };
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
