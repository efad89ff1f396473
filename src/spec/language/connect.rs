//! The parts of a spec about connections: base URLs, authentication, connection fields and inputs.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::value::present;

/// A field of a connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionField {
    /// Whether the field is required.
    pub required: bool,
    /// Expression over the connection's other, non-secret fields. The field is required for
    /// connections for which it is true.
    pub required_when: Option<String>,
    /// Whether the value is secret, so that weir never shows it.
    pub secret: bool,
    /// Value of connections that do not set the field.
    pub default: Option<String>,
    /// The allowed values. Empty: any value.
    pub one_of: Vec<String>,
    /// The required form of the value.
    pub format: Option<FieldFormat>,
    /// Environment variable that provides the value when the connection does not set it.
    pub env: Option<String>,
    /// What the field is, and where users find its value.
    pub help: String,
    /// How weir finds the value when neither the connection nor the environment provides it.
    pub lookup: Option<Lookup>,
}

/// The form of a connection field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FieldFormat {
    /// A host with an optional port; not a URL.
    Hostname,
    /// An absolute `http` or `https` URL.
    Url,
    /// An email address.
    Email,
    /// A UUID.
    Uuid,
}

/// Finds the value of a connection field with one `GET` without credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Expression over the connection's fields. The field stays empty when it is false.
    pub when: Option<String>,
    /// Absolute URL, a template over the other fields.
    pub get: String,
    /// Path of the value in the response.
    pub at: String,
}

/// A value that a replication may set. Exactly one of `text`, `int`, `bool`, `date`, `list` and
/// `one_of` declares its type. The scalar types hold the default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Input {
    /// A text; the value is the default.
    #[serde(deserialize_with = "present")]
    pub text: Option<Option<String>>,
    /// An integer; the value is the default.
    #[serde(deserialize_with = "present")]
    pub int: Option<Option<i64>>,
    /// A boolean; the value is the default.
    #[serde(deserialize_with = "present")]
    pub bool: Option<Option<bool>>,
    /// A date, such as `2026-01-31` or `1 year ago`; the value is the default. Templates get
    /// `2026-01-31`.
    #[serde(deserialize_with = "present")]
    pub date: Option<Option<String>>,
    /// A list; the value is the type of its items, `text` or `int`.
    pub list: Option<ListItem>,
    /// The allowed values.
    pub one_of: Vec<String>,
    /// Default of a `list` (a list) or of a `one_of` (one of its values).
    pub default: Option<serde_json::Value>,
    /// What the input does.
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

/// A base URL, and the condition under which it applies.
#[derive(Clone, Debug)]
pub struct BaseUrl {
    /// Expression over the connection's fields. Absent: always.
    pub when: Option<String>,
    /// Template, such as `https://{{ domain }}`. weir sends requests to its origin only.
    pub url: String,
}

/// A way to authenticate, and the condition under which it applies.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthChoice {
    /// Expression over the connection's fields, including secrets. Absent: always.
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

/// OAuth 2.0: the token endpoint and the grant. All values are templates.
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
    /// Whether the server replaces the refresh token at each use. If so, `refresh_token` must be
    /// `{{ field }}`, and the connections file must set the field: weir writes each new token
    /// there.
    #[serde(default)]
    pub rotates: bool,
    /// Scopes to ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Additional parameters of the token request, for example `audience`.
    #[serde(default)]
    pub params: IndexMap<String, String>,
}

impl OAuth2 {
    /// The connection field with the refresh token, if the template consists of that field alone.
    pub fn refresh_field(&self) -> Option<&str> {
        let inner = self.refresh_token.as_deref()?.trim().strip_prefix("{{")?;
        let name = inner.strip_suffix("}}")?.trim();
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        name.chars().all(is_name).then_some(name)
    }
}

/// How an OAuth 2.0 client authenticates (RFC 6749 §2.3.1).
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
    /// RFC 8628: the user enters a code in a browser.
    Device,
}
