//! A request of a stream, and what it is repeated over.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::column::{ColumnSpec, Unknown};
use super::pages::{PageSize, Paginate};
use super::records::Filter;
use super::routes::{Derive, Embedded, Fetch, Covers};
use super::value::one;
use super::value::{QueryValue, Scalar};

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
    pub children: Option<Children>,
    /// Path of a value that a record must have, or paths with the values; others are passed over.
    pub filter: Option<Filter>,
    /// Other sources for some of the stream's columns; names and types stay.
    pub columns: IndexMap<String, ColumnSpec>,
    /// What becomes of fields that no column declares; as for the stream unless set.
    pub unknown: Option<Unknown>,
    /// Queue to the path of a value in a record: records whose value this run has not fed to the queue
    /// are passed over. The request waits until the queue is complete.
    pub parent_in: IndexMap<String, String>,
    /// For a route: the records stand inside the answer about one object.
    pub embedded: Option<Embedded>,
    /// For a route: rows that follow from the record which fed the value.
    pub derive: Option<Derive>,
    /// For a route: which values of a chunk the answer is about.
    pub covers: Option<Covers>,
    /// For a route: the rows come by ids, those of changed records alone.
    pub fetch: Option<Fetch>,
}

/// Body of a request. Exactly one form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// JSON; texts in it are templates.
    Json(serde_json::Value),
    /// Form fields, each a template.
    Form(IndexMap<String, String>),
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
pub struct Children {
    /// Variables for the request: name to the path of the value in the record.
    pub with: IndexMap<String, String>,
    /// Path below the base URL, a template.
    pub get: String,
    /// Query parameters; those of the request unless set.
    pub query: Option<IndexMap<String, QueryValue>>,
    /// What a child must have, as for the request unless set; `{}`: nothing.
    pub filter: Option<Filter>,
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
