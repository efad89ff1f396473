//! What refuses the requests of all streams in the same way: told once, in the same words for all of them.

use std::{
    mem::discriminant,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use crate::http::answer::{Answer, Answered, unreadable};
use crate::http::client::{Call, Client, Need};
use crate::quota::request_cost::Price;
use crate::decode::DecodeError;
use crate::error::{Error, Kind, Result};
use crate::http::exchange::{Request, Response, TransportError, Url};

/// Why no request of a run is answered.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    /// Kind, message and hint of the first failure, once it is known to be that of all requests.
    known: OnceLock<(Kind, String, Option<String>)>,
    /// Held while that is found out, so that many failures at once cost one request.
    testing: tokio::sync::Mutex<()>,
}

/// A request that is given up.
#[derive(Clone, Copy)]
pub(crate) struct Refused<'given> {
    pub(crate) url: &'given Url,
    pub(crate) answered: &'given Answered,
    /// Answers to all requests when it was first sent.
    pub(crate) before: u64,
    /// The failure of its stream.
    pub(crate) error: &'given Error,
}

/// Why a failure may be that of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
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

impl Client {
    /// The error of all streams, where a request was given up for a reason that concerns them all.
    pub(crate) async fn locked_out(
        &self,
        call: &Call<'_>,
        refused: Refused<'_>,
    ) -> Result<Option<Error>> {
        let now = self.answered.load(Ordering::Relaxed);
        let Some(suspicion) = suspicion(&refused, now) else { return Ok(None) };
        let _turn = self.unless_cancelled(self.lockout.testing.lock()).await?;
        if let Some(error) = self.lockout.error() {
            return Ok(Some(error));
        }
        let all = match suspicion {
            Suspicion::Credentials => {
                !self.session.is_accepted() && self.test(call).await? == Some(false)
            }
            Suspicion::Alike => self.fails_alike(call, &refused).await?,
            Suspicion::Host => true,
        };
        if !all {
            return Ok(None);
        }
        let begin = match suspicion {
            Suspicion::Credentials => "the API does not accept the credentials: ",
            Suspicion::Alike => "all requests fail in the same way: ",
            Suspicion::Host => "",
        };
        let error = refused.error;
        let what = format!("{begin}{} (asked for `{}`)", error.chain(), call.stream);
        let all = Error::new(error.kind(), what);
        let all = match error.hint() {
            Some(hint) => all.with_hint(hint),
            None => all,
        };
        Ok(Some(self.lockout.know(&all)))
    }

    /// Whether the API accepts the credentials and answers, by the request that tests a connection.
    pub(crate) async fn is_accepted(&self, call: &Call<'_>) -> Result<bool> {
        Ok(self.test(call).await? == Some(true))
    }

    /// Whether the API accepts the credentials, by that request; `None` where it does not tell, or the spec has
    /// none.
    fn test<'ask>(
        &'ask self,
        call: &'ask Call<'_>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<bool>>> + Send + 'ask>> {
        Box::pin(async move {
            let Some(test) = self.test_url() else { return Ok(None) };
            let build = || Ok(Request::get(test.clone()));
            match self.ask(&testing(call, &build), |_| Ok(((), 1))).await {
                Ok(Answer::Read(())) => Ok(Some(true)),
                Ok(_) => Ok(None),
                Err(error) => match error.kind() {
                    Kind::Interrupted | Kind::Paused => Err(error),
                    Kind::Credentials => Ok(Some(false)),
                    _ => Ok(None),
                },
            }
        })
    }

    /// Address of the request that tests a connection.
    fn test_url(&self) -> Option<Url> {
        let test = self.access.test.as_ref()?;
        let scope = self.session.seen_by(test.scope());
        test.url(&self.access.base_url, &Arc::new(scope))
    }

    /// Whether the request that tests a connection, which is sent once, fails as another one has. Where that is
    /// the same, it does not tell.
    async fn fails_alike(&self, call: &Call<'_>, refused: &Refused<'_>) -> Result<bool> {
        let Some(test) = self.test_url().filter(|test| test.path() != refused.url.path()) else {
            return Ok(false);
        };
        let build = || Ok(Request::get(test.clone()));
        let read = |response: &Response| {
            let other = || DecodeError::NotJson("something else".to_owned());
            is_json(response).then_some(((), 1)).ok_or_else(other)
        };
        let mut request = build()?;
        let (sent, read) = self.try_once(&testing(call, &build), &mut request, &read).await?;
        let came = match (sent, read) {
            (Ok(response), Some(Err(_))) => Err(unreadable(&response, "not JSON")),
            (sent, _) => sent,
        };
        Ok(match (refused.answered, &came) {
            (Ok(one), Ok(other)) => one.status == other.status && is_html(other),
            (Err(one), Err(other)) => discriminant(one) == discriminant(other),
            _ => false,
        })
    }
}

/// A call for the request that tests a connection.
fn testing<'call>(
    call: &Call<'call>,
    build: &'call (dyn Fn() -> Result<Request> + Send + Sync),
) -> Call<'call> {
    Call {
        child: false,
        need: Need::Session,
        leaves: false,
        price: Price { page: None, ..call.price },
        build,
        shrink: &|| false,
        narrow: &|| false,
        ..*call
    }
}

/// Why a failure may be that of all requests, when so many were answered.
fn suspicion(refused: &Refused<'_>, answered: u64) -> Option<Suspicion> {
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

fn is_json(response: &Response) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(response.json()).is_ok()
}

fn is_html(response: &Response) -> bool {
    response.json().trim_ascii_start().starts_with(b"<")
}
