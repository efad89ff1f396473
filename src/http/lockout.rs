//! What refuses the requests of all streams in the same way: told once, in the same words for all of them.

use std::sync::OnceLock;

use crate::error::{Error, Kind};
use crate::http::answer::Answered;
use crate::http::exchange::{Response, TransportError, Url};

/// Why no request of a run is answered.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    /// Kind, message and hint of the first failure, once it is known to be that of all requests.
    pub(crate) known: OnceLock<(Kind, String, Option<String>)>,
    /// Held while that is found out, so that many failures at once cost one request.
    pub(crate) testing: tokio::sync::Mutex<()>,
}

/// A request that is given up.
#[derive(Clone, Copy)]
pub(crate) struct FailureContext<'given> {
    pub(crate) url: &'given Url,
    pub(crate) answered: &'given Answered,
    /// Answers to all requests when it was first sent.
    pub(crate) before: u64,
    /// The failure of its stream.
    pub(crate) error: &'given Error,
}

/// Why a failure may be that of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// The credentials are refused: the request that tests them tells.
    Credentials,
    /// Something else than the API has answered: if the same answers that request, it answers all.
    Alike,
    /// It is about the host, whatever was asked for.
    Host,
}

impl Lockout {
    /// The error of every stream, if it is known.
    pub(crate) fn error(&self) -> Option<Error> {
        self.known.get().map(shared)
    }

    /// Takes note of the error of every stream, the first time; returns what is known.
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

/// Why a failure may be that of all requests, when so many were answered.
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
        // An API speaks JSON: a page of HTML comes from something before it.
        Ok(response) if never && is_html(response) => Some(Suspicion::Alike),
        _ => None,
    }
}

pub(crate) fn is_html(response: &Response) -> bool {
    response.json().trim_ascii_start().starts_with(b"<")
}
