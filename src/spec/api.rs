//! An API as a whole: the top of a spec, its limits and its single requests.

use std::time::Duration;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::column::Unknown;
use super::connect::{AuthChoice, BaseUrl, ConnectionField, Input};
use super::pages::{PageSize, Paginate};
use super::request::Body;
use super::responses::ResponseRule;
use super::stream::Stream;
use super::value::{OneOrMany, QueryValue, Span};

/// An API: how to connect to it, what it allows, and the streams it offers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name by which connections refer to it, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// Name for people.
    pub title: Option<String>,
    /// Where the API is documented.
    pub docs: Option<String>,
    /// Fields of a connection to this API, by name. Templates see their values by these names.
    #[serde(default)]
    pub connection: IndexMap<String, ConnectionField>,
    /// Values that a replication may set, by name. Templates see them by these names.
    #[serde(default)]
    pub inputs: IndexMap<String, Input>,
    /// Scheme, host and path prefix of every request; of several, the first whose `when` holds.
    pub base_url: OneOrMany<BaseUrl>,
    /// How requests prove who sends them; of several, the first whose `when` holds. None: openly.
    #[serde(default)]
    pub auth: OneOrMany<AuthChoice>,
    /// Headers of every request.
    #[serde(default)]
    pub headers: IndexMap<String, String>,
    /// The request by which a connection is tested; the first stream's that needs no other one unless
    /// set.
    pub test: Option<Probe>,
    /// What the API allows.
    #[serde(default)]
    pub limits: Limits,
    /// What to do about answers; the first rule that matches decides. After them come weir's own: 429, 408
    /// and 5xx and broken connections are retried, the rest of what is not 2xx fails.
    #[serde(default)]
    pub responses: Vec<ResponseRule>,
    /// Requests before the first stream; what they capture is visible to all templates.
    #[serde(default)]
    pub setup: Vec<Step>,
    /// Requests after the last stream, sent even when the run failed.
    #[serde(default)]
    pub teardown: Vec<Step>,
    /// What streams have unless they say otherwise.
    #[serde(default)]
    pub defaults: Defaults,
    /// The streams, by name.
    pub streams: IndexMap<String, Stream>,
}

impl Spec {
    /// The request by which a connection is tested; `None` when each needs what another one brings.
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

    /// The streams that can be selected, by name.
    pub fn selectable(&self) -> impl Iterator<Item = (&String, &Stream)> {
        self.streams.iter().filter(|(_, stream)| !stream.internal)
    }
}

/// What streams share; a stream's own entry wins (queries, headers and ignored paths are merged).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Query parameters.
    pub query: IndexMap<String, QueryValue>,
    /// Headers.
    pub headers: IndexMap<String, String>,
    /// How the next page is found.
    pub paginate: Option<Paginate>,
    /// How many records a page should have.
    pub page_size: Option<PageSize>,
    /// Path of the records in a response; `[]` or nothing: the response itself.
    pub records: Option<String>,
    /// Pages after which a slice ends with an error; 100,000 unless set.
    pub max_pages: Option<u32>,
    /// See [`RequestSpec`].
    pub null_means_none: Option<bool>,
    /// See [`RequestSpec`].
    pub may_repeat: Option<bool>,
    /// What becomes of fields that no column declares.
    pub unknown: Option<Unknown>,
    /// Paths of fields that are dropped on purpose.
    pub ignore: Vec<String>,
    /// Whether an id stands for one record in the whole API, whatever parent it was listed for.
    pub unique_ids: Option<bool>,
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
    pub record: IndexMap<String, u32>,
}

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
