//! The result of a request: a parsed response, or the reason why there is none.

use crate::error::{Error, Kind, Result};
use crate::http::exchange::{Response, StatusCode, TransportError, Url, header};
use crate::http::response_rules;
use crate::secret::shown;
use crate::spec::{Meaning, Then};

/// The result of a request.
pub(crate) enum Answer<T> {
    /// A parsed response.
    Read(T),
    /// The request was given up, and the rules state how the stream continues.
    Given {
        then: Then,
        /// Meaning of the response for the connection.
        means: Option<Meaning>,
        /// URL without secrets.
        url: Url,
        status: Option<u16>,
        /// The server's message.
        message: String,
    },
    /// The request was given up, and the stream fails unless it can continue without the response.
    Failed(Box<FailedRequest>),
}

impl<T> Answer<T> {
    /// Maps a parsed response to another answer.
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

/// A failure that concerns this request, not the connection.
#[derive(Debug)]
pub(crate) struct FailedRequest {
    /// The stream's error, if it cannot continue.
    pub(crate) error: Error,
    /// URL without secrets.
    pub(crate) url: Url,
    pub(crate) status: Option<u16>,
    /// The server's message.
    pub(crate) message: String,
    pub(crate) cause: Cause,
}

/// Why a request fails although the API answers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server rejects the request.
    Refused,
    /// The request is too long.
    TooLong,
    /// The server fails to produce the response, or the response is too large.
    Heavy,
}

/// A response, or why there is none.
pub(crate) type Answered = std::result::Result<Response, TransportError>;

/// A 400 for a query of more bytes may be caused by its length. All servers accept shorter queries.
const LONG_QUERY: usize = 2000;

/// Why this request failed; `None` if the cause is the connection or the rate limit.
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

/// Whether a 400 may be caused by the length of the query.
pub(crate) fn is_too_long(status: Option<u16>, url: &Url) -> bool {
    status == Some(400) && url.query().is_some_and(|query| query.len() > LONG_QUERY)
}

/// Whether a smaller page may help: the body exceeds the limit, or the server fails to produce it.
pub(crate) fn is_heavy(answered: &Answered) -> bool {
    match answered {
        Ok(response) => response.status.is_server_error(),
        Err(error) => matches!(error, TransportError::TooLarge(_) | TransportError::Timeout),
    }
}

/// Whether to request smaller pages from now on. Only every second failure counts, so that a short outage does
/// not shrink all later pages.
pub(crate) fn is_too_heavy(answered: &Answered, number: u32) -> bool {
    let again = number >= 3 && number % 2 == 1;
    matches!(answered, Err(TransportError::TooLarge(_))) || is_heavy(answered) && again
}

pub(crate) fn is_too_many(answered: &Answered) -> bool {
    answered.as_ref().is_ok_and(|response| response.status == StatusCode::TOO_MANY_REQUESTS)
}

/// Whether the server states that it does not support such a request.
pub(crate) fn is_refused(answered: &Answered) -> bool {
    let refusals = [400, 403, 404, 410];
    answered.as_ref().is_ok_and(|response| refusals.contains(&response.status.as_u16()))
}

/// Why a successful response cannot be used: it was truncated, so a retry may help, or it is not JSON.
pub(crate) fn unreadable(response: &Response, why: &str) -> TransportError {
    let body = response.json();
    let status = response.status.as_u16();
    let unread = |what: &str| TransportError::Unreadable(what.to_owned());
    if body.trim_ascii_start().starts_with(b"<") {
        return unread(&format!("the response ({status}) is an HTML page, not JSON"));
    }
    if std::str::from_utf8(body).is_err() {
        return unread(&format!("the response ({status}) is not valid UTF-8"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        // HTTP received the whole body, so it was truncated before it was sent.
        Err(error) if error.is_eof() && is_framed(response) => {
            unread(&format!("the response ({status}) ends before its JSON is complete ({why})"))
        }
        Err(error) if error.is_eof() => {
            TransportError::Broken(format!("the body ended before its JSON was complete ({why})"))
        }
        _ => unread(&format!("the response ({status}) is not JSON ({why})")),
    }
}

/// Whether the response states the length of its body.
fn is_framed(response: &Response) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
        .iter()
        .any(|name| response.headers.contains_key(name))
}

/// Status and message of a failed attempt.
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
            let what = format!("the response of `{host}` to `{place}` cannot be read: {message}");
            return Error::new(Kind::Unreachable, what).with_hint(
                "check the URL: a login page, a proxy or another API version may respond there, or the spec may expect JSON by mistake",
            );
        }
        (None, _) if let Err(TransportError::TooLarge(limit)) = answered => {
            let what =
                format!("the response of `{host}` to `{place}` is larger than {} MiB", limit >> 20);
            Error::new(Kind::Unreachable, what).with_hint(
                "set a smaller `page_size` in the spec, or raise its `limits.max_body_mib`",
            )
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
