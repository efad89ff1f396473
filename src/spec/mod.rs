//! The spec language: the YAML of an API as typed data. Shape only; meaning is checked elsewhere.

mod check;
mod embedded;
mod fields;
mod forms;
mod incremental;
mod one_or_many;
mod parts;
mod records;
mod responses;
mod routes;
mod schema;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::yaml::{Document, Problems, lenient};

pub use embedded::EMBEDDED;
pub use fields::Fields;
pub use incremental::*;
pub use parts::*;
pub use records::*;
pub use responses::*;
pub use routes::*;
use schema::as_read;

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
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// All that is wrong with its form and its meaning.
    pub fn load(file: &str, text: &str) -> Result<Self, Problems> {
        Document::parse(file, text)?.read_checked(check::check)
    }

    /// What may be wrong with a spec that is valid; `text` is that from which it was read.
    pub fn warnings(&self, file: &str, text: &str) -> Problems {
        Document::parse(file, text)
            .map_or_else(|problems| problems, |document| document.locate(check::warnings(self)))
    }

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

/// JSON Schema of a spec's file, by which editors complete and check it.
pub fn json_schema() -> serde_json::Value {
    as_read(lenient(schemars::schema_for!(Spec).to_value()))
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

/// A named series of records of one shape.
///
/// A stream with one kind of request has `get` (or `post`) beside its other keys; one that needs
/// several lists them under `requests`, and the other keys are then what they share.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// What one row is, in a sentence or two.
    pub doc: String,
    /// Where the API documents it.
    pub docs: Option<String>,
    /// Columns that identify a row.
    pub key: Vec<String>,
    /// Whether an id stands for one record in the whole API, whatever parent it was listed for. Without it,
    /// `spec validate` warns of a child whose `key` names nothing of its parent, and of queues that get a
    /// part of the key; `defaults` may set it for all streams.
    pub unique_ids: Option<bool>,
    /// The columns, by name, in their order in the table.
    pub columns: IndexMap<String, ColumnSpec>,
    /// Queues that this stream's records feed: queue name to the path of the value in a record, or to the
    /// path and what a record must have.
    pub feeds: IndexMap<String, Feed>,
    /// The parent's column whose rows a slice replaces, so that removals show.
    pub replaces: Option<String>,
    /// What changed since the last run.
    pub cursor: Option<Cursor>,
    /// How old a complete reading may be: a duration, or `with_parent`; `0s` unless set.
    pub refresh: Option<Refresh>,
    /// Columns that tell where a row is; a change in one of them is called `moved`.
    pub place: Vec<String>,
    /// Rows that the stream must have at least, an expression over connection fields and inputs; with
    /// fewer it fails, because what was asked for by name is not there.
    pub min_rows: Option<String>,
    /// What becomes of fields that no column declares.
    pub unknown: Option<Unknown>,
    /// Paths of fields that are dropped on purpose, added to those of `defaults`.
    pub ignore: Vec<String>,
    /// Rules for this stream's answers, before those of the spec.
    pub responses: Vec<ResponseRule>,
    /// Slices that may be under way at once; the connection's limit unless set.
    pub concurrency: Option<u32>,
    /// Class of its objects in `limits.points.object`.
    pub cost: Option<String>,
    /// Other ways to the same rows, by name: each one request or a list of them, all of which are sent.
    /// A way is open when the `when` of all its requests hold. The spec's `defaults` hold for them, the
    /// stream's own request does not. The cheapest is taken.
    pub routes: IndexMap<String, OneOrMany<RequestSpec>>,
    /// How to ask how many records there are, before a run has shown it.
    pub count: Option<Count>,
    /// How to ask whether one record is still there, before it counts as gone.
    pub confirm_deletes: Option<ConfirmDeletes>,
    /// Whether it only feeds: it cannot be selected, and has no table.
    pub internal: bool,
    /// The requests, when there is more than one kind; all whose `when` holds are sent, and their
    /// rows make up the stream together.
    pub requests: Vec<RequestSpec>,
    /// See [`RequestSpec`].
    pub when: Option<String>,
    /// See [`RequestSpec`].
    pub for_each: Option<ForEach>,
    /// See [`RequestSpec`].
    pub get: Option<String>,
    /// See [`RequestSpec`].
    pub post: Option<String>,
    /// See [`RequestSpec`].
    pub query: IndexMap<String, QueryValue>,
    /// See [`RequestSpec`].
    pub headers: IndexMap<String, String>,
    /// See [`RequestSpec`].
    pub body: Option<Body>,
    /// See [`RequestSpec`].
    pub records: Option<String>,
    /// See [`RequestSpec`].
    pub paginate: Option<Paginate>,
    /// See [`RequestSpec`].
    pub page_size: Option<PageSize>,
    /// See [`RequestSpec`].
    pub max_pages: Option<u32>,
    /// See [`RequestSpec`].
    pub null_means_none: Option<bool>,
    /// See [`RequestSpec`].
    pub may_repeat: Option<bool>,
    /// See [`RequestSpec`].
    pub descend: Option<Descend>,
    /// See [`RequestSpec`].
    pub having: Option<Having>,
}

impl Stream {
    /// The request that the stream's own keys make: its only one, or what its `requests` share.
    pub fn own_request(&self) -> RequestSpec {
        RequestSpec {
            when: self.when.clone(),
            for_each: self.for_each.clone(),
            get: self.get.clone(),
            post: self.post.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            records: self.records.clone(),
            paginate: self.paginate.clone(),
            page_size: self.page_size.clone(),
            max_pages: self.max_pages,
            null_means_none: self.null_means_none,
            may_repeat: self.may_repeat,
            descend: self.descend.clone(),
            having: self.having.clone(),
            ..RequestSpec::default()
        }
    }
}

/// One way of asking for records of a stream: a request template and how its pages follow.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSpec {
    /// Expression over connection fields and inputs; the request is left out when it is false.
    pub when: Option<String>,
    /// What it is sent for, once each; without it, once.
    pub for_each: Option<ForEach>,
    /// Path below the base URL, a template; its values are percent-encoded.
    pub get: Option<String>,
    /// Like `get`, with method POST.
    pub post: Option<String>,
    /// Query parameters; one whose value renders to nothing is left out.
    pub query: IndexMap<String, QueryValue>,
    /// Headers.
    pub headers: IndexMap<String, String>,
    /// Body of a POST.
    pub body: Option<Body>,
    /// Path of the records in a response: `results`, `data.items`, `results[].labels` (records
    /// nested in records); empty: the response itself, an object or an array. What `[]` follows is a list,
    /// and so are the records of a request with several pages; elsewhere one object is one record.
    pub records: Option<String>,
    /// How the next page is found.
    pub paginate: Option<Paginate>,
    /// How many records a page should have.
    pub page_size: Option<PageSize>,
    /// Pages after which a slice ends with an error.
    pub max_pages: Option<u32>,
    /// Whether `null` in the place of the records says that there are none. Unless it is true, that is an
    /// error: a listing that was cut must not pass for an empty one.
    pub null_means_none: Option<bool>,
    /// Whether a page may bring nothing but records that earlier pages of the listing have brought. Unless
    /// it is true, that is an error: the server takes no notice of where the page begins.
    pub may_repeat: Option<bool>,
    /// Each record's own children, asked for in turn; their rows belong to the same slice.
    pub descend: Option<Descend>,
    /// Path of a value that a record must have, or paths with the values; others are passed over.
    pub having: Option<Having>,
    /// Other sources for some of the stream's columns; names and types stay.
    pub columns: IndexMap<String, ColumnSpec>,
    /// What becomes of fields that no column declares; as for the stream unless set.
    pub unknown: Option<Unknown>,
    /// Queue to the path of a value in a record: records whose value this run has not fed to the queue
    /// are passed over. The request waits until the queue is complete.
    pub within: IndexMap<String, String>,
    /// For a route: the records stand inside the answer about one object.
    pub embedded: Option<Embedded>,
    /// For a route: rows that follow from the record which fed the value.
    pub derive: Option<Derive>,
    /// For a route: which values of a chunk the answer is about.
    pub found: Option<Found>,
    /// For a route: the rows come by ids, those of changed records alone.
    pub fetch: Option<Fetch>,
}

/// Finds out how many records a stream has by one `GET`, for the forecast of a first run: about so many is
/// enough. Neither the spec's `defaults` nor the stream's own keys hold for it. Of streams that say the same,
/// it tells how many they have together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Expression over connection fields and inputs; nothing is asked when it is false.
    pub when: Option<String>,
    /// Path below the base URL, a template over connection fields and inputs.
    pub get: String,
    /// Query parameters; one whose value renders to nothing is left out.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
    /// Path of the number in the answer.
    pub at: String,
}

/// Asks by one `GET` for each row that a complete reading did not bring, before the row counts as gone: for
/// listings by page numbers or offsets, which may pass over records while others go. A record is gone where
/// the API answers 404 or 410, or where a rule of `responses` says `gone`; any other answer keeps its row. Up
/// to 1,000 rows of a reading are asked for; when more are missing, none is. Neither the spec's `defaults` nor
/// the stream's own keys hold for it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmDeletes {
    /// Path below the base URL, a template over connection fields, inputs and the key's column.
    pub get: String,
    /// Query parameters; one whose value renders to nothing is left out.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
}

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
