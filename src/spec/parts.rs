//! The parts that specs are made of, each a named form tagged by its key.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Having, ResponseRule};
use crate::schema::ColumnType;

/// A value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
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

/// Type of the items of a list input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListItem {
    /// Text.
    Text,
    /// Integers.
    Int,
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

/// What an API allows. A replication may set others.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a second, over all streams; none when absent.
    pub requests_per_second: Option<f64>,
    /// Requests under way at once, over all streams.
    pub concurrency: u32,
    /// Time for one whole response.
    pub timeout: Span,
    /// The longest wait that a `Retry-After` may ask for; beyond it the run fails and says so.
    pub max_wait: Span,
    /// The largest response body, decompressed, in mebibytes.
    pub max_body_mib: u32,
    /// What requests cost, where the API has a quota of points.
    pub points: Option<Points>,
}

/// A quota of points: each request costs some, and each object that it brings.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Points {
    /// Expression over connection fields; where it is false, requests cost nothing.
    pub when: Option<String>,
    /// Points that may be spent in an hour; hours begin at the top of the UTC hour.
    pub per_hour: u64,
    /// Points of a request, whatever it brings.
    pub base: u32,
    /// Points of each object that comes, by class. The first class holds for streams that name none.
    pub object: IndexMap<String, u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: None,
            concurrency: 8,
            timeout: Span(Duration::from_mins(1)),
            max_wait: Span(Duration::from_hours(1)),
            max_body_mib: 64,
            points: None,
        }
    }
}

/// A duration, written `500ms`, `10s`, `5m`, `2h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The request by which a connection is tested, and rules for what its answers mean.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Path below the base URL.
    pub get: String,
    /// Query parameters.
    pub query: IndexMap<String, QueryValue>,
    /// Rules before those of the spec.
    pub responses: Vec<ResponseRule>,
}

/// A request before or after the streams.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// Expression over connection fields and inputs; the step is left out when it is false.
    pub when: Option<String>,
    /// Path below the base URL, a template.
    pub get: Option<String>,
    /// Like `get`, with method POST.
    pub post: Option<String>,
    /// Like `get`, with method PUT.
    pub put: Option<String>,
    /// Like `get`, with method DELETE.
    pub delete: Option<String>,
    /// Query parameters.
    pub query: IndexMap<String, QueryValue>,
    /// Headers.
    pub headers: IndexMap<String, String>,
    /// Body.
    pub body: Option<Body>,
    /// Variables to set: name to the path of the value in the answer.
    pub capture: IndexMap<String, String>,
}

/// Value of a query parameter: a template or plain scalar; a list repeats the parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryValue(pub Vec<String>);

/// Body of a request. Exactly one form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// JSON; texts in it are templates.
    Json(serde_json::Value),
    /// Form fields, each a template.
    Form(IndexMap<String, String>),
}

/// What becomes of fields that no column declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// They are kept in the column `_extra`.
    #[default]
    Keep,
    /// They are dropped.
    Ignore,
    /// The stream fails.
    Fail,
}

/// How the next page is found. Paths are paths in the response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Paginate {
    /// There is one page only.
    None,
    /// A token in the body, sent back as a parameter.
    Cursor(CursorPages),
    /// A URL in the body.
    NextUrl(NextUrlPages),
    /// A URL in the `Link` header (RFC 8288).
    LinkHeader(LinkHeaderPages),
    /// A page number.
    Page(NumberedPages),
    /// The number of records to pass over.
    Offset(NumberedPages),
}

/// See [`Paginate::Cursor`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorPages {
    /// Path of the token; the last page has none, or an empty one.
    pub at: String,
    /// Query parameter (or, for a POST with a JSON body, top-level field) that takes it.
    pub param: String,
    /// Path that is true on the last page, where the token alone does not tell.
    pub last: Option<String>,
    /// Path that is false on the last page, where the token alone does not tell.
    pub more: Option<String>,
}

/// See [`Paginate::NextUrl`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextUrlPages {
    /// Path of the URL; the last page has none.
    pub at: String,
    /// What of the URL is used.
    #[serde(default)]
    pub follow: Follow,
}

/// See [`Paginate::LinkHeader`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkHeaderPages {
    /// The relation that leads to the next page.
    pub rel: String,
    /// What of the URL is used.
    pub follow: Follow,
}

impl Default for LinkHeaderPages {
    fn default() -> Self {
        Self { rel: "next".to_owned(), follow: Follow::Url }
    }
}

/// What of a next page's URL is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// The URL, resolved against that of the page before; it must not leave the origin. The request's own
    /// parameters are added unless it sets them.
    #[default]
    Url,
    /// Its query alone, the request's own parameters added as for `url`; the path stays that of the first
    /// page.
    Query,
    /// The URL as it is: for an API that refuses any parameter beside those of its link.
    Exact,
}

/// See [`Paginate::Page`] and [`Paginate::Offset`]. Without `last`, `more`, `total` and `pages` the
/// first page without records is the last one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberedPages {
    /// Query parameter.
    pub param: String,
    /// Number of the first page (1 unless set) or first record (0 unless set).
    pub start: Option<u64>,
    /// Path that is true on the last page.
    pub last: Option<String>,
    /// Path that is absent, null, false or empty on the last page.
    pub more: Option<String>,
    /// Path of the number of records in all.
    pub total: Option<String>,
    /// Path of the number of pages in all.
    pub pages: Option<String>,
}

/// How many records a page should have. A page may have fewer; that never ends a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageSize {
    /// Query parameter.
    pub param: String,
    /// The size asked for: the most the API allows.
    pub max: u32,
    /// The size below which it is not halved when the server fails on large pages.
    #[serde(default = "one")]
    pub min: u32,
    /// Query parameters that make an answer costly, for example the one that asks for bodies: a record that the
    /// server cannot give with them is asked for without.
    #[serde(default)]
    pub costly: OneOrMany<String>,
}

fn one() -> u32 {
    1
}

/// What a request is repeated over. Written as the name of a queue, or as one of the forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForEach {
    /// Values that a parent stream feeds.
    Queue(QueueItems),
    /// The items of a list input.
    Input(InputItems),
    /// The items of a list written here.
    Values(ValueItems),
    /// Whole numbers.
    Range(RangeItems),
}

/// See [`ForEach::Queue`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueItems {
    /// Queue.
    pub queue: String,
    /// Values to a request: the variable is then the list, named like the queue.
    pub chunk: Option<u32>,
    /// Name of the variable; the queue's name without its final `s` unless set.
    #[serde(rename = "as")]
    pub variable: Option<String>,
    /// More variables, for single values: name to the path of a scalar in the record that fed the value.
    #[serde(default)]
    pub carry: IndexMap<String, String>,
    /// Expression over the variables; values for which it is false are left to the other requests.
    pub only: Option<String>,
}

impl QueueItems {
    /// Name of the variable: the queue's own for a chunk, without its final `s` for a single value.
    pub fn variable_name(&self) -> &str {
        let singular = self.queue.strip_suffix('s').unwrap_or(&self.queue);
        let usual = if self.chunk.is_some() { &self.queue } else { singular };
        self.variable.as_deref().unwrap_or(usual)
    }
}

/// See [`ForEach::Input`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputItems {
    /// Input of type list.
    pub input: String,
    /// Values to a request: the variable is then the list.
    pub chunk: Option<u32>,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
    /// What to tell the user when the list is empty and the stream so has no rows.
    pub when_empty: Option<String>,
    /// Path of the item in a record: where `min_rows` fails, the items for which none came are named.
    pub found_at: Option<String>,
}

/// See [`ForEach::Values`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueItems {
    /// The items, each a template.
    pub values: Vec<String>,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
}

/// See [`ForEach::Range`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeItems {
    /// The bounds.
    pub range: RangeBounds,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
}

/// From `from` up to `to`, both included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeBounds {
    /// First number, a template or number.
    pub from: Scalar,
    /// Last number, a template or number.
    pub to: Scalar,
    /// Step, at least 1.
    #[serde(default = "one")]
    pub step: u32,
}

/// Each record's own children, by one more request per record, to any depth.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Descend {
    /// Variables for the request: name to the path of the value in the record.
    pub with: IndexMap<String, String>,
    /// Path below the base URL, a template.
    pub get: String,
    /// Query parameters; those of the request unless set.
    pub query: Option<IndexMap<String, QueryValue>>,
    /// What a child must have, as for the request unless set; `{}`: nothing.
    pub having: Option<Having>,
    /// Levels below the first; deeper ones end the slice with an error.
    #[serde(default = "default_max_depth")]
    pub max_depth: u32,
    /// Path in a record: as soon as one record of the listing has a value there, the listing itself
    /// holds the children, and none are asked for.
    pub unless: Option<String>,
}

fn default_max_depth() -> u32 {
    50
}

/// A column: its type, and where its value comes from.
///
/// Written `id: text` (the field of the same name), `{ int: version.number }` (a path),
/// `{ text: [a.b, c.d] }` (the first that is there and not null) or `{ text: "{{ page_id }}" }` (a
/// template over the slice's variables, inputs, connection fields, and `row.<column>`).
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSpec {
    /// Type.
    pub kind: ColumnType,
    /// Paths or one template; the column's own name when absent.
    pub from: Option<OneOrMany<String>>,
    /// Value of a row that has none.
    pub default: Option<serde_json::Value>,
    /// What it means.
    pub doc: Option<String>,
}

/// A scalar written as text or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub String);

/// Lets `key: ` (null) be told from an absent key.
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}
