//! The real `Transport`: HTTP/1.1 over TCP and TLS.

use std::{error::Error as _, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::{Client, redirect};

use super::{Request, Response, Transport, TransportError};
use crate::error::{Error, Kind, Result};

/// Time for a connection to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Redirects that are followed, all within the origin.
const MAX_REDIRECTS: usize = 5;

/// Sends requests over the network. Reads gzip, follows redirects within the origin only, and uses
/// the system's proxy settings and root certificates.
#[derive(Debug)]
pub struct Http {
    client: Client,
    max_body: u64,
}

impl Http {
    /// A transport that allows `timeout` for a whole response of at most `max_body` bytes.
    pub fn new(timeout: Duration, max_body: u64) -> Result<Self> {
        // Another provider may be installed already, which serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .redirect(redirect::Policy::custom(within_origin))
            .build()
            .map_err(|error| {
                Error::new(Kind::Unreachable, "the HTTP client cannot be set up").because(error)
            })?;
        Ok(Self { client, max_body })
    }
}

fn within_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from = attempt.previous().first().map(reqwest::Url::origin);
    if from.is_none_or(|from| from != attempt.url().origin()) {
        let to = attempt.url().origin().ascii_serialization();
        return attempt.error(TransportError::LeavesOrigin(to));
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error(TransportError::Invalid("redirected too often".to_owned()));
    }
    attempt.follow()
}

#[async_trait]
impl Transport for Http {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let mut url = request.url.clone();
        for (name, value) in &request.secret_query {
            url.query_pairs_mut().append_pair(name, value.expose());
        }
        let mut builder =
            self.client.request(request.method.clone(), url).headers(request.headers.clone());
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let mut response = builder.send().await.map_err(classify)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let expected = response.content_length().unwrap_or(0);
        if expected > self.max_body {
            return Err(TransportError::TooLarge(self.max_body));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
        while let Some(chunk) = response.chunk().await.map_err(classify)? {
            let size = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
            if size > self.max_body {
                return Err(TransportError::TooLarge(self.max_body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body: Bytes::from(body) })
    }
}

/// Says why there is no response; the URL, which may hold secrets, is left out.
fn classify(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let mut cause = error.source();
    let (mut why, mut is_too_large) = (error.to_string(), false);
    while let Some(inner) = cause {
        if let Some(own) = inner.downcast_ref::<TransportError>() {
            return own.clone();
        }
        is_too_large |= inner.downcast_ref().is_some_and(hyper::Error::is_parse_too_large);
        why = inner.to_string();
        cause = inner.source();
    }
    if is_too_large {
        TransportError::Unreadable("the header block of the answer is too large".to_owned())
    } else if error.is_timeout() {
        TransportError::Timeout
    } else if error.is_connect() {
        TransportError::Connect(why)
    } else if error.is_builder() {
        TransportError::Invalid(why)
    } else {
        TransportError::Broken(why)
    }
}
