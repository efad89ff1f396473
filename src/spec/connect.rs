//! How a spec says where an API is, how requests authenticate, and what a user may set.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::value::present;

/// A field of a connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionField {
    /// Whether a connection must have it.
    pub required: bool,
    /// Expression over the connection's other fields that are no secrets: a connection for which it is
    /// true must have this one.
    pub required_when: Option<String>,
    /// Whether it must never be shown.
    pub secret: bool,
    /// Its value when a connection does not set it.
    pub default: Option<String>,
    /// The values it may have; any when empty.
    pub one_of: Vec<String>,
    /// The form its value must have.
    pub format: Option<FieldFormat>,
    /// Environment variable that gives its value when the connection does not.
    pub env: Option<String>,
    /// What it is and where to find it.
    pub help: String,
    /// How to find its value when nobody gives it.
    pub lookup: Option<Lookup>,
}

/// The form of a connection field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldFormat {
    /// A host, perhaps with a port; never a URL.
    Hostname,
    /// An absolute `http` or `https` URL.
    Url,
    /// An email address.
    Email,
    /// A UUID.
    Uuid,
}

/// Finds a connection field's value by one open `GET` (no credentials are sent).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Expression over the connection's fields; the field stays empty when it is false.
    pub when: Option<String>,
    /// Absolute URL, a template over the other fields.
    pub get: String,
    /// Path of the value in the answer.
    pub at: String,
}

/// A value that a replication may set. Exactly one of `text`, `int`, `bool`, `date`, `list` and
/// `one_of` says its type; the scalar ones hold its default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// Text; its default.
    #[serde(deserialize_with = "present")]
    pub text: Option<Option<String>>,
    /// Integer; its default.
    #[serde(deserialize_with = "present")]
    pub int: Option<Option<i64>>,
    /// Boolean; its default.
    #[serde(deserialize_with = "present")]
    pub bool: Option<Option<bool>>,
    /// Date, `2026-01-31` or `1 year ago`; its default. Templates see `2026-01-31`.
    #[serde(deserialize_with = "present")]
    pub date: Option<Option<String>>,
    /// List; the type of its items: `text` or `int`.
    pub list: Option<ListItem>,
    /// The values it may have.
    pub one_of: Vec<String>,
    /// Default of a `list` (a list) or `one_of` (one of them).
    pub default: Option<serde_json::Value>,
    /// What it does.
    pub help: String,
}

/// Type of the items of a list input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListItem {
    /// Text.
    Text,
    /// Integers.
    Int,
}

/// A base URL, and when it is the one to use.
#[derive(Clone, Debug)]
pub struct BaseUrl {
    /// Expression over the connection's fields; always when absent.
    pub when: Option<String>,
    /// Template: `https://{{ domain }}`. Its origin is the only one requests go to.
    pub url: String,
}

/// A way to authenticate, and when it is the one to use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthChoice {
    /// Expression over the connection's fields, secrets too; always when absent.
    pub when: Option<String>,
    /// HTTP Basic (RFC 7617).
    pub basic: Option<BasicAuth>,
    /// Bearer token (RFC 6750): a template.
    pub bearer: Option<String>,
    /// A secret header: its name and value template.
    pub header: Option<NamedValue>,
    /// A secret query parameter: its name and value template.
    pub query: Option<NamedValue>,
    /// OAuth 2.0 (RFC 6749).
    pub oauth2: Option<OAuth2>,
}

/// User name and password, both templates.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// A name and a value template.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// OAuth 2.0: where tokens come from and by which grant. All values are templates.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth2 {
    /// The grant.
    pub grant: OAuth2Grant,
    /// Token endpoint.
    pub token_url: String,
    /// Device authorization endpoint (RFC 8628), for the device grant.
    pub device_url: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Option<String>,
    /// How the client id and secret are sent to the token endpoint.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Refresh token, for the refresh grant.
    pub refresh_token: Option<String>,
    /// Whether the server replaces the refresh token whenever it is used. It must be `{{ field }}` then:
    /// each new one is kept in the connections file, where the connection must have it.
    #[serde(default)]
    pub rotates: bool,
    /// Scopes to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// More parameters of the token request, for example `audience`.
    #[serde(default)]
    pub params: IndexMap<String, String>,
}

impl OAuth2 {
    /// The connection's field that holds the refresh token, when that is all of the template.
    pub fn refresh_field(&self) -> Option<&str> {
        let inner = self.refresh_token.as_deref()?.trim().strip_prefix("{{")?;
        let name = inner.strip_suffix("}}")?.trim();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        name.chars().all(is_name).then_some(name)
    }
}

/// How an OAuth 2.0 client proves who it is (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// As `client_id` and `client_secret` in the body.
    #[default]
    Body,
    /// By HTTP Basic.
    Basic,
}

/// A grant of OAuth 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OAuth2Grant {
    /// RFC 6749 §4.4.
    ClientCredentials,
    /// RFC 6749 §6.
    RefreshToken,
    /// RFC 8628: the user is shown a code to enter.
    Device,
}
