//! Authentication of requests: static credentials, and OAuth 2.0 tokens.

use std::{
    sync::{Arc, Mutex as SyncMutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use tokio::{sync::Mutex, time::Instant};
use url::form_urlencoded;

use crate::error::{Error, Kind, Result};
use crate::http::exchange::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Transport, Url, header,
};
use crate::http::response_rules;
use crate::secret::{Secret, hide, hide_passing};
use crate::spec::{ClientAuth, OAuth2Grant};

/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_mins(1);
/// Lifetime of a token whose server does not state it.
const LIFETIME: Duration = Duration::from_mins(10);
/// Maximum lifetime that weir assumes.
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);
/// Maximum number of attempts of a token request, and the wait after the first one. The wait doubles.
const TOKEN_TRIES: u32 = 5;
const TOKEN_DELAY: Duration = Duration::from_secs(1);
/// Maximum `Retry-After` of a token server that weir waits for.
const TOKEN_PATIENCE: Duration = Duration::from_mins(5);
/// Maximum wait for another process that uses the refresh token, and the interval of the checks.
const LEASE_PATIENCE: Duration = Duration::from_mins(3);
const LEASE_INTERVAL: Duration = Duration::from_millis(50);
/// Time in which the user must enter a device code.
const DEVICE_PATIENCE: Duration = Duration::from_mins(15);

/// The authentication of a connection, with its values.
#[derive(Debug)]
pub enum Auth {
    /// No authentication.
    None,
    /// A header with a secret value.
    Header(HeaderName, HeaderValue),
    /// A query parameter with a secret value.
    Query(String, Secret),
    /// OAuth 2.0.
    OAuth2(Box<TokenSource>),
}

impl Auth {
    /// HTTP Basic (RFC 7617).
    pub fn basic(username: &str, password: &Secret) -> Result<Self> {
        let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
        Self::header(header::AUTHORIZATION, &Secret::new(format!("Basic {pair}")))
    }

    /// A bearer token (RFC 6750).
    pub fn bearer(token: &Secret) -> Result<Self> {
        let value = Secret::new(format!("Bearer {}", token.expose()));
        Self::header(header::AUTHORIZATION, &value)
    }

    /// A secret header.
    pub fn header(name: HeaderName, value: &Secret) -> Result<Self> {
        sensitive(value).map(|value| Self::Header(name, value))
    }

    /// Adds the credentials to a request. Fetches a token first if needed.
    pub async fn authorize(&self, request: &mut Request, transport: &dyn Transport) -> Result<()> {
        match self {
            Self::None => {}
            Self::Header(name, value) => {
                request.headers.insert(name.clone(), value.clone());
            }
            Self::Query(name, value) => {
                request.secret_query.push((name.clone(), value.clone()));
            }
            Self::OAuth2(source) => {
                let token = source.token(transport).await?;
                hide_passing(token.expose());
                let value = Secret::new(format!("Bearer {}", token.expose()));
                request.headers.insert(header::AUTHORIZATION, sensitive(&value)?);
            }
        }
        Ok(())
    }
}

/// A header value that no output shows, even if a server repeats it.
fn sensitive(value: &Secret) -> Result<HeaderValue> {
    let whole = value.expose();
    hide(whole.split_once(' ').map_or(whole, |(_, proof)| proof));
    let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
        Error::new(
            Kind::Credentials,
            "the credentials contain characters that a header must not contain",
        )
        .with_hint("remove line breaks and spaces that were copied by mistake")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A store of refresh tokens that the server replaces at each use, which makes the old one invalid.
pub trait RefreshTokenStore: Send + Sync {
    /// Leases the token in this field of the connection; `None` while another process has the lease.
    ///
    /// # Errors
    /// The stored token cannot be read.
    fn lease(&self, field: &str) -> Result<Option<Box<dyn TokenLease>>>;
}

/// The exclusive right to use a refresh token, until it is dropped.
pub trait TokenLease: Send {
    /// The current token; `None` if a replacement could not be stored.
    fn token(&self) -> Option<Secret>;

    /// Replaces the stored token durably.
    ///
    /// # Errors
    /// The token cannot be stored.
    fn keep(&self, token: &Secret) -> Result<()>;
}

/// Called with the URL that the user must open and the code to enter there.
pub type OnDeviceCode = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// A source of OAuth 2.0 access tokens (RFC 6749).
pub struct TokenSource {
    /// Grant.
    pub grant: OAuth2Grant,
    /// Token endpoint.
    pub token_url: Url,
    /// Device authorization endpoint (RFC 8628).
    pub device_url: Option<Url>,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Option<Secret>,
    /// How client id and secret are sent.
    pub client_auth: ClientAuth,
    /// Scopes, separated by spaces; empty for none.
    pub scopes: String,
    /// Additional parameters of the token request.
    pub params: Vec<(String, String)>,
    /// The latest known refresh token.
    pub refresh_token: SyncMutex<Option<Secret>>,
    /// The connection's field with the refresh token, if the server replaces it at each use.
    pub rotating: Option<String>,
    /// The store of such a token; `None`: only in memory.
    pub keeper: Option<Arc<dyn RefreshTokenStore>>,
    /// See [`OnDeviceCode`].
    pub on_device_code: OnDeviceCode,
    /// The current access token.
    pub current: Mutex<Option<AccessToken>>,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "TokenSource({:?}, {})", self.grant, self.token_url)
    }
}

/// An access token and the time at which it should be renewed.
#[derive(Clone, Debug)]
pub struct AccessToken {
    value: Secret,
    renew_at: Instant,
}

/// Response of a token endpoint (RFC 6749 §5.1).
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    /// Lifetime in seconds. Some servers send it as text, or with a fraction.
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// Response of a device authorization endpoint (RFC 8628 §3.2).
#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default, deserialize_with = "seconds")]
    interval: Option<u64>,
}

/// Error response of a token endpoint (RFC 6749 §5.2).
#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl TokenSource {
    /// The current token, or a new one. Concurrent requests wait for the same new token.
    async fn token(&self, transport: &dyn Transport) -> Result<Secret> {
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| token.renew_at > Instant::now()) {
            return Ok(token.value.clone());
        }
        let refresh = self.refresh_token.lock().ok().and_then(|token| token.clone());
        let answer = match (self.grant, refresh) {
            (OAuth2Grant::ClientCredentials, _) => {
                self.ask(transport, &[("grant_type", "client_credentials")]).await?
            }
            (_, Some(refresh)) => self.refresh(transport, refresh).await?,
            (OAuth2Grant::Device, None) => self.ask_person(transport).await?,
            (OAuth2Grant::RefreshToken, None) => {
                return Err(Error::new(Kind::Credentials, "there is no refresh token")
                    .with_hint("set the connection's refresh token"));
            }
        };
        let lifetime =
            answer.expires_in.map_or(LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME);
        let renew_at = Instant::now() + lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        let token = AccessToken { value: Secret::new(answer.access_token), renew_at };
        if let (Some(latest), Ok(mut slot)) = (answer.refresh_token, self.refresh_token.lock()) {
            *slot = Some(Secret::new(latest));
        }
        *current = Some(token.clone());
        Ok(token.value)
    }

    /// Requests a token with the refresh token. If the server replaces the refresh token, one process at a time
    /// uses it, reads it from its store first, and stores the new one before anything else.
    async fn refresh(&self, transport: &dyn Transport, known: Secret) -> Result<TokenAnswer> {
        let lease = self.lease().await?;
        let used = match &lease {
            Some(lease) => lease.token().ok_or_else(nowhere_to_keep)?,
            None => known,
        };
        hide_passing(used.expose());
        let form = [("grant_type", "refresh_token"), ("refresh_token", used.expose())];
        let answer = self.ask(transport, &form).await?;
        let new = answer.refresh_token.as_deref().filter(|new| *new != used.expose());
        new.into_iter().for_each(hide_passing);
        match (new, lease) {
            (Some(new), Some(lease)) => lease.keep(&Secret::new(new))?,
            (Some(_), None) => {
                tracing::warn!(
                    "the server replaced the refresh token; the next run needs the new one"
                );
            }
            (None, _) => {}
        }
        Ok(answer)
    }

    /// A lease of the refresh token; `None` if the server does not replace it, or it has no store.
    async fn lease(&self) -> Result<Option<Box<dyn TokenLease>>> {
        let (Some(field), Some(keeper)) = (&self.rotating, &self.keeper) else { return Ok(None) };
        let deadline = Instant::now() + LEASE_PATIENCE;
        loop {
            if let Some(lease) = keeper.lease(field)? {
                return Ok(Some(lease));
            }
            if Instant::now() >= deadline {
                let what = "another process has been using the refresh token for 3 minutes";
                return Err(Error::new(Kind::Unreachable, what)
                    .with_hint("end that process, then run again"));
            }
            tokio::time::sleep(LEASE_INTERVAL).await;
        }
    }

    /// Sends a token request. An error response becomes an error.
    async fn ask(&self, transport: &dyn Transport, form: &[(&str, &str)]) -> Result<TokenAnswer> {
        self.post(transport, &self.token_url, form)
            .await?
            .map_err(|refusal| refused(&refusal.error))
    }

    /// Shows the device code to the user and waits until access is granted.
    async fn ask_person(&self, transport: &dyn Transport) -> Result<TokenAnswer> {
        let url = self.device_url.as_ref().ok_or_else(|| {
            Error::input("the spec's `oauth2` has no `device_url`, which the device grant needs")
        })?;
        let device: DeviceAnswer = self
            .post(transport, url, &[])
            .await?
            .map_err(|refusal: TokenRefusal| refused(&refusal.error))?;
        (self.on_device_code)(&device.verification_uri, &device.user_code);
        let mut interval = Duration::from_secs(device.interval.unwrap_or(5));
        let deadline = Instant::now() + DEVICE_PATIENCE;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", device.device_code.as_str()),
        ];
        while Instant::now() < deadline {
            tokio::time::sleep(interval).await;
            match self.post::<TokenAnswer>(transport, &self.token_url, &form).await? {
                Ok(answer) => return Ok(answer),
                Err(refusal) if refusal.error == "authorization_pending" => {}
                Err(refusal) if refusal.error == "slow_down" => interval += Duration::from_secs(5),
                Err(refusal) => return Err(refused(&refusal.error)),
            }
        }
        Err(refused("expired_token"))
    }

    async fn post<T: for<'de> Deserialize<'de>>(
        &self,
        transport: &dyn Transport,
        url: &Url,
        form: &[(&str, &str)],
    ) -> Result<Result<T, TokenRefusal>> {
        let request = self.request(url, form)?;
        let host = url.host_str().unwrap_or_default();
        let response = answered(transport, &request).await?;
        let body = response.json();
        if response.status.is_success() {
            let answer = serde_json::from_slice(body).map_err(|_| {
                Error::new(Kind::Shape, format!("the response of `{host}` contains no token")).with_hint(
                    "is this the address of the token server? a login page or a proxy may respond instead",
                )
            })?;
            return Ok(Ok(answer));
        }
        let refusal = serde_json::from_slice(body).unwrap_or_else(|_| TokenRefusal {
            error: format!("status {}", response.status.as_u16()),
        });
        Ok(Err(refusal))
    }

    fn request(&self, url: &Url, form: &[(&str, &str)]) -> Result<Request> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        let secret = self.client_secret.as_ref();
        let basic = secret.filter(|_| self.client_auth == ClientAuth::Basic);
        if basic.is_none() {
            body.append_pair("client_id", &self.client_id);
            if let Some(secret) = secret {
                body.append_pair("client_secret", secret.expose());
            }
        }
        if !self.scopes.is_empty() {
            body.append_pair("scope", &self.scopes);
        }
        body.extend_pairs(&self.params);
        let mut request = Request::get(url.clone());
        request.method = Method::POST;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(header::CONTENT_TYPE, form_type);
        request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(secret) = basic {
            // Both parts are form-encoded first (RFC 6749 §2.3.1).
            let encoded = |text: &str| -> String {
                form_urlencoded::byte_serialize(text.as_bytes()).collect()
            };
            let pair = format!("{}:{}", encoded(&self.client_id), encoded(secret.expose()));
            let value = Secret::new(format!("Basic {}", STANDARD.encode(pair)));
            request.headers.insert(header::AUTHORIZATION, sensitive(&value)?);
        }
        request.body = Some(Bytes::from(body.finish()));
        Ok(request)
    }
}

/// Sends a token request, and retries it while the server is unavailable.
async fn answered(transport: &dyn Transport, request: &Request) -> Result<Response> {
    let host = request.url.host_str().unwrap_or_default();
    let mut delay = TOKEN_DELAY;
    for number in 1.. {
        let sent = transport.send(request).await;
        let (trouble, asked) = match sent {
            Ok(response) if !in_trouble(response.status) => return Ok(response),
            Ok(response) => {
                let wait = response_rules::retry_after(&response, chrono::Utc::now());
                let said = response_rules::message(&response);
                let why = format!("it answered {} {said}", response.status.as_u16());
                (Error::new(Kind::Unreachable, why), wait.filter(|wait| *wait <= TOKEN_PATIENCE))
            }
            Err(error) if error.is_transient() => {
                (Error::new(Kind::Unreachable, error.to_string()), None)
            }
            Err(error) => {
                let what = format!("no token from `{host}`");
                return Err(Error::new(Kind::Unreachable, what).because(error));
            }
        };
        if number >= TOKEN_TRIES {
            let what = format!("no token from `{host}` after {number} attempts");
            return Err(Error::new(Kind::Unreachable, what).because(trouble).with_hint(
                "the token server is unavailable, so the client secret was not checked: run again later",
            ));
        }
        tracing::warn!(host, why = trouble.chain(), "no token yet; retrying");
        tokio::time::sleep(asked.unwrap_or(delay)).await;
        delay = delay.saturating_mul(2);
    }
    Err(Error::new(Kind::Unreachable, format!("no token from `{host}`")))
}

/// Whether a status means that the server is unavailable, and has not judged the request.
fn in_trouble(status: StatusCode) -> bool {
    let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    status.is_server_error() || passing.contains(&status)
}

/// Whole seconds, as a number or as text.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    let number = match value {
        Some(serde_json::Value::Number(number)) => number.as_f64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let whole = number.and_then(|number: f64| Duration::try_from_secs_f64(number).ok());
    Ok(whole.map(|whole| whole.as_secs()))
}

fn nowhere_to_keep() -> Error {
    let what =
        "the server replaces the refresh token at each use, and weir could not store the new one";
    Error::new(Kind::Credentials, what).with_hint(
        "put the connection and its refresh token into the connections file: weir conns set",
    )
}

fn refused(why: &str) -> Error {
    Error::new(Kind::Credentials, format!("no token was granted: `{why}`"))
        .with_hint("check the client id and secret, or grant access again")
}
