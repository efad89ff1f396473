//! One HTTP exchange: request, response, and the `Transport` trait.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
pub use reqwest::{
    Method, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};

use crate::certificates;
use crate::secret::Secret;

/// One request. `Debug` shows no secret: secret headers are marked sensitive, and secret query
/// parameters are not part of `url`.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, almost always `GET`.
    pub method: Method,
    /// Absolute URL without secrets; this is what errors and logs show.
    pub url: Url,
    /// Headers; values that are secret have `set_sensitive(true)`.
    pub headers: HeaderMap,
    /// Query parameters that contain secrets. They are added to the URL only when the request is sent.
    pub secret_query: Vec<(String, Secret)>,
    /// Body, with its `content-type` among the headers.
    pub body: Option<Bytes>,
}

impl Request {
    /// A `GET` without headers.
    pub fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            secret_query: Vec::new(),
            body: None,
        }
    }
}

/// A complete response with its decompressed body.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status, of any class.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Response {
    /// The body without the byte order mark that some servers put in front of JSON.
    pub fn json(&self) -> &[u8] {
        self.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.body)
    }
}

/// Why there is no complete response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The host name does not resolve, the connection was refused, or TLS failed.
    Connect(String),
    /// The host's certificate is not trusted; with the reason.
    Certificate(String),
    /// The server on this port does not support TLS.
    PlainPort,
    /// A proxy rejects the connection; with its address and the reason.
    Proxy(String),
    /// The response did not arrive completely within the timeout.
    Timeout,
    /// The connection was closed before the response was complete.
    Broken(String),
    /// The response is complete but cannot be parsed.
    Unreadable(String),
    /// The body is larger than the limit, in bytes.
    TooLarge(u64),
    /// The server redirects to another origin, which must not receive the credentials.
    LeavesOrigin(String),
    /// The request is invalid.
    Invalid(String),
}

impl TransportError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Timeout | Self::Broken(_) | Self::Unreadable(_))
    }

    /// Maximum number of useful attempts; `None` for no limit.
    pub fn max_tries(&self) -> Option<u32> {
        match self {
            // A proxy may have answered once in place of the API.
            Self::Unreadable(_) => Some(2),
            _ => None,
        }
    }

    /// Whether a firewall or proxy probably blocks the connection: a timeout, an unreachable network, or a
    /// proxy that rejects it.
    pub fn is_blocked(&self) -> bool {
        match self {
            Self::Timeout | Self::Proxy(_) => true,
            Self::Connect(why) => {
                let why = why.to_lowercase();
                ["unreachable", "tunnel", "proxy", "timed out"]
                    .iter()
                    .any(|sign| why.contains(sign))
            }
            _ => false,
        }
    }

    /// A hint for the user, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Certificate(why) if why.contains("authority") => Some(certificates::HINT),
            Self::Certificate(_) => {
                Some("check the host name, and whether its certificate is still valid")
            }
            Self::PlainPort => Some("use http:// instead of https://, or the port for TLS"),
            Self::Connect(why) if why.contains("tls handshake eof") => Some(
                "check whether this port supports TLS; if not, use http:// instead of https://",
            ),
            Self::Proxy(_) => Some(
                "HTTPS_PROXY or HTTP_PROXY names the proxy: give it a login (http://user:password@host), \
                 let it allow this host, or go past it with NO_PROXY",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(why) => write!(formatter, "cannot connect: {why}"),
            Self::Certificate(why) => write!(formatter, "the certificate is not trusted: {why}"),
            Self::PlainPort => write!(formatter, "this port does not support TLS"),
            Self::Proxy(why) => write!(formatter, "the proxy {why}"),
            Self::Timeout => write!(formatter, "no answer in time"),
            Self::Broken(why) => write!(formatter, "the connection was lost: {why}"),
            Self::Unreadable(why) => formatter.write_str(why),
            Self::TooLarge(limit) => write!(formatter, "the body is larger than {limit} bytes"),
            Self::LeavesOrigin(to) => write!(formatter, "redirected to another origin, `{to}`"),
            Self::Invalid(why) => write!(formatter, "the request is invalid: {why}"),
        }
    }
}

impl std::error::Error for TransportError {}

/// A way to send one request: real HTTP, or a simulated API in the same process.
///
/// # Contract
/// - `send` returns a response of any status, or the reason why there is none.
/// - It neither retries nor paces, and follows no redirect to another origin.
/// - Dropping the future cancels the exchange.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and reads the whole response.
    async fn send(&self, request: &Request) -> Result<Response, TransportError>;
}
