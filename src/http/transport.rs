//! The real `Transport`: HTTP/1.1 over TCP and TLS.

use std::{error::Error as _, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, redirect};

use crate::certificates;
use crate::error::{Error, Kind, Result};
use crate::http::exchange::{Request, Response, StatusCode, Transport, TransportError, Url};

/// Timeout for connecting, including TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of redirects, all within the origin.
const MAX_REDIRECTS: usize = 5;

/// Sends requests over the network. Reads gzip, follows redirects within the origin only, and uses
/// the system's proxy settings and root certificates.
#[derive(Debug)]
pub struct Http {
    client: Client,
    max_body: u64,
    /// The proxy rules of the HTTP client.
    proxies: Matcher,
}

impl Http {
    /// A transport that allows `timeout` for a whole response of at most `max_body` bytes.
    pub fn new(timeout: Duration, max_body: u64) -> Result<Self> {
        // Another provider may be installed already; weir can use it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .redirect(redirect::Policy::custom(within_origin))
            .tls_backend_preconfigured(certificates::client_config()?)
            .build()
            .map_err(|error| {
                Error::new(Kind::Unreachable, "the HTTP client cannot be set up").because(error)
            })?;
        check_proxies()?;
        Ok(Self { client, max_body, proxies: Matcher::from_system() })
    }

    /// The proxy for a host, without credentials.
    fn proxy(&self, url: &Url) -> Option<String> {
        let target: hyper::Uri = url.origin().ascii_serialization().parse().ok()?;
        let proxy = self.proxies.intercept(&target)?;
        let uri = proxy.uri();
        let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", uri.scheme_str().unwrap_or("http"), uri.host()?))
    }
}

/// Rejects an invalid proxy address: the HTTP client would silently connect without the proxy.
#[expect(clippy::disallowed_methods, reason = "the HTTP client reads the same variables")]
fn check_proxies() -> Result<()> {
    for names in
        [["ALL_PROXY", "all_proxy"], ["HTTP_PROXY", "http_proxy"], ["HTTPS_PROXY", "https_proxy"]]
    {
        let Some((name, value)) =
            names.into_iter().find_map(|name| Some((name, std::env::var(name).ok()?)))
        else {
            continue;
        };
        let target = hyper::Uri::from_static("http://host.test/");
        let known = Matcher::builder().all(value.as_str()).build().intercept(&target);
        if !value.is_empty() && known.is_none() {
            let what = format!("the variable {name} is not a proxy address");
            return Err(Error::input(what)
                .with_hint("set it to an address like http://proxy.test:3128, or unset it"));
        }
    }
    Ok(())
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
        let sent = builder.send().await;
        let mut response = sent.map_err(|error| classify(error, self.proxy(&request.url)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = self.proxy(&request.url)
        {
            return Err(TransportError::Proxy(format!("{proxy} requires a user and password")));
        }
        let expected = response.content_length().unwrap_or(0);
        if expected > self.max_body {
            return Err(TransportError::TooLarge(self.max_body));
        }
        let mut body = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(error, None))? {
            let size = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
            if size > self.max_body {
                return Err(TransportError::TooLarge(self.max_body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body: Bytes::from(body) })
    }
}

/// Converts an error. Omits the URL, which may contain secrets.
fn classify(error: reqwest::Error, proxy: Option<String>) -> TransportError {
    let error = error.without_url();
    let mut cause = error.source();
    let (mut why, mut is_too_large) = (error.to_string(), false);
    let mut all = why.clone();
    while let Some(inner) = cause {
        if let Some(own) = inner.downcast_ref::<TransportError>() {
            return own.clone();
        }
        is_too_large |= inner.downcast_ref().is_some_and(hyper::Error::is_parse_too_large);
        why = inner.to_string();
        all = format!("{all}: {why}");
        cause = inner.source();
    }
    if let Some(why) = certificates::refusal(&all) {
        return TransportError::Certificate(why);
    }
    if all.contains("received corrupt message of type InvalidContentType") {
        return TransportError::PlainPort;
    }
    if error.is_decode() {
        return TransportError::Unreadable(format!(
            "the response does not match its `content-encoding`: {why}"
        ));
    }
    if is_too_large {
        TransportError::Unreadable("the headers of the response are too large".to_owned())
    } else if error.is_timeout() {
        TransportError::Timeout
    } else if error.is_connect() {
        match proxy {
            Some(proxy) if all.contains("proxy authorization required") => {
                TransportError::Proxy(format!("{proxy} requires a user and password"))
            }
            Some(proxy) if all.contains("tunnel error: unsuccessful") => {
                TransportError::Proxy(format!("{proxy} refuses to connect to this host"))
            }
            Some(proxy) => TransportError::Connect(format!("the proxy {proxy}: {why}")),
            None => TransportError::Connect(why),
        }
    } else if error.is_builder() {
        TransportError::Invalid(why)
    } else {
        TransportError::Broken(why)
    }
}
