//! The top level of a spec: the API, its limits, and requests outside streams.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::column::Unknown;
use crate::spec::language::connect::{AuthChoice, BaseUrl, ConnectionField, Input};
use crate::spec::language::pages::{PageSize, Paginate};
use crate::spec::language::request::Body;
use crate::spec::language::responses::ResponseRule;
use crate::spec::language::stream::Stream;
use crate::spec::language::value::{OneOrMany, QueryValue, Span};

/// An API: how to connect to it, which limits it has, and which streams it offers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name by which connections refer to it, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Name shown to users.
    pub title: Option<String>,
    /// URL of the API's documentation.
    pub docs: Option<String>,
    /// Fields of a connection to this API, by name. Templates use their values by these names.
    #[serde(default)]
    pub connection: IndexMap<String, ConnectionField>,
    /// Values that a replication may set, by name. Templates use them by these names.
    #[serde(default)]
    pub inputs: IndexMap<String, Input>,
    /// Scheme, host and path prefix of every request. If there are several, weir uses the first
    /// whose `when` holds.
    pub base_url: OneOrMany<BaseUrl>,
    /// How requests authenticate. If there are several ways, weir uses the first whose `when`
    /// holds. Empty: requests are sent without credentials.
    #[serde(default)]
    pub auth: OneOrMany<AuthChoice>,
    /// Headers of every request.
    #[serde(default)]
    pub headers: IndexMap<String, String>,
    /// The request that tests a connection. Default: the request of the first stream that needs no
    /// data from another one.
    pub test: Option<Probe>,
    /// Limits of the API.
    #[serde(default)]
    pub limits: Limits,
    /// Rules for responses; the first rule that matches applies. Built-in rules follow them: weir
    /// retries 429, 408, 5xx and broken connections, and fails on any other status that is not 2xx.
    #[serde(default)]
    pub responses: Vec<ResponseRule>,
    /// Requests sent before the first stream. All templates can use the values that they capture.
    #[serde(default)]
    pub setup: Vec<StepSpec>,
    /// Requests sent after the last stream, even when the run failed.
    #[serde(default)]
    pub teardown: Vec<StepSpec>,
    /// Defaults of all streams.
    #[serde(default)]
    pub defaults: Defaults,
    /// The streams, by name.
    pub streams: IndexMap<String, Stream>,
}

impl Spec {
    /// The request that tests a connection; `None` when every request needs data from another one.
    pub fn probe(&self) -> Option<Probe> {
        self.test.clone().or_else(|| {
            let alone = |stream: &Stream| {
                let (get, first) = (stream.get.clone()?, stream.for_each.is_none());
                let open = stream.when.is_none() && stream.requests.is_empty();
                let probe = || Probe { get, query: stream.query.clone(), responses: Vec::new() };
                (first && open).then(probe)
            };
            self.streams.values().find_map(alone)
        })
    }

    /// The streams that a replication can select, by name.
    pub fn selectable(&self) -> impl Iterator<Item = (&String, &Stream)> {
        self.streams.iter().filter(|(_, stream)| !stream.internal)
    }
}

/// Defaults of all streams. A stream's own entry wins; queries, headers and ignored paths are
/// merged.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Query parameters.
    pub query: IndexMap<String, QueryValue>,
    /// Headers.
    pub headers: IndexMap<String, String>,
    /// How the next page is found.
    pub paginate: Option<Paginate>,
    /// The page size.
    pub page_size: Option<PageSize>,
    /// Path of the records in a response. `[]` or empty: the response itself.
    pub records: Option<String>,
    /// Maximum number of pages of a slice; more are an error. Default: 100,000.
    pub max_pages: Option<u32>,
    /// Whether `null` instead of the records means that there are none. Default: false, and `null`
    /// is an error, so that a truncated listing does not look empty.
    pub null_means_none: Option<bool>,
    /// Whether a page may consist only of records from earlier pages of the listing. Default:
    /// false, and such a page is an error, because it means that the server ignores the page
    /// parameter.
    pub may_repeat: Option<bool>,
    /// What happens to fields that no column declares.
    pub unknown: Option<Unknown>,
    /// Paths of fields that are dropped.
    pub ignore: Vec<String>,
    /// Whether ids are unique in the whole API, not only among the records of one parent.
    pub unique_ids: Option<bool>,
}

/// Limits of an API. A replication may override them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests per second over all streams. Absent: no pacing.
    pub requests_per_second: Option<f64>,
    /// Maximum number of requests in flight over all streams.
    pub concurrency: u32,
    /// Timeout of one whole response.
    pub timeout: Span,
    /// The longest wait that weir accepts from `Retry-After`. A longer one fails the run, and the
    /// error says so.
    pub max_wait: Span,
    /// Maximum size of a decompressed response body, in mebibytes.
    pub max_body_mib: u32,
    /// What requests cost, if the API has a quota of points.
    pub points: Option<Points>,
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

/// A quota of points. Each request costs points, and so does each record that it returns.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Points {
    /// Expression over connection fields. Where it is false, requests cost nothing.
    pub when: Option<String>,
    /// Points available per hour. An hour begins at the full UTC hour.
    pub per_hour: u64,
    /// Points of each request, in addition to those of its records.
    pub base: u32,
    /// Points of each returned record, by class. The first class applies to streams that name none
    /// in `cost`.
    pub record: IndexMap<String, u32>,
}

/// The request that tests a connection, and rules for its responses.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Path below the base URL.
    pub get: String,
    /// Query parameters.
    pub query: IndexMap<String, QueryValue>,
    /// Rules that come before those of the spec.
    pub responses: Vec<ResponseRule>,
}

/// A request sent before or after the streams.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StepSpec {
    /// Expression over connection fields and inputs. The step is skipped when it is false.
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
    /// Variables to set: name to the path of the value in the response.
    pub capture: IndexMap<String, String>,
}
