//! Failures that concern the requests of all streams. Found once, and reported with the same message by all.

use std::sync::OnceLock;

use crate::error::{Error, Kind};
use crate::http::answer::Answered;
use crate::http::exchange::{Response, TransportError, Url};

/// The failure that concerns all requests of a run.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    /// Kind, message and hint of the failure, once it is known.
    pub(crate) known: OnceLock<(Kind, String, Option<String>)>,
    /// Held during the connection test, so that simultaneous failures send it once.
    pub(crate) testing: tokio::sync::Mutex<()>,
}

/// A request that was given up, as evidence of a failure of all requests.
#[derive(Clone, Copy)]
pub(crate) struct FailureContext<'given> {
    pub(crate) url: &'given Url,
    pub(crate) answered: &'given Answered,
    /// Number of requests answered when it was first sent.
    pub(crate) before: u64,
    /// The error of its stream.
    pub(crate) error: &'given Error,
}

/// Why a failure may concern all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// The credentials were rejected. The connection test decides.
    Credentials,
    /// Something other than the API answered. It concerns all requests if it answers the connection test too.
    Alike,
    /// The failure concerns the host, regardless of the request.
    Host,
}

impl Lockout {
    /// The error of every stream, if there is one.
    pub(crate) fn error(&self) -> Option<Error> {
        self.known.get().map(shared)
    }

    /// Records the error of every stream, unless there is one already. Returns the recorded error.
    pub(crate) fn know(&self, error: &Error) -> Error {
        let known = || (error.kind(), error.chain(), error.hint().map(str::to_owned));
        shared(self.known.get_or_init(known))
    }
}

fn shared((kind, message, hint): &(Kind, String, Option<String>)) -> Error {
    let error = Error::new(*kind, message.clone());
    match hint {
        Some(hint) => error.with_hint(hint.clone()),
        None => error,
    }
}

/// Why a failure may concern all requests, given the number of requests answered so far.
pub(crate) fn suspicion(refused: &FailureContext<'_>, answered: u64) -> Option<Suspicion> {
    use TransportError::{
        Broken, Certificate, Connect, LeavesOrigin, PlainPort, Proxy, Unreadable,
    };
    let silent = answered == refused.before;
    let never = answered == 0;
    match refused.answered {
        _ if refused.error.kind() == Kind::Credentials => Some(Suspicion::Credentials),
        Err(Certificate(_) | PlainPort | Proxy(_)) if silent => Some(Suspicion::Host),
        Err(Connect(_)) if never => Some(Suspicion::Host),
        Err(Broken(_) | LeavesOrigin(_) | Unreadable(_)) if never => Some(Suspicion::Alike),
        // The API returns JSON, so an HTML page is from a proxy or a login page in front of it.
        Ok(response) if never && is_html(response) => Some(Suspicion::Alike),
        _ => None,
    }
}

pub(crate) fn is_html(response: &Response) -> bool {
    response.json().trim_ascii_start().starts_with(b"<")
}
