//! A request of a stream, and the values it is sent for.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::column::{ColumnSpec, Unknown};
use crate::spec::language::pages::{PageSize, Paginate};
use crate::spec::language::records::Filter;
use crate::spec::language::routes::{Covers, Derive, Embedded, Fetch};
use crate::spec::language::value::one;
use crate::spec::language::value::{QueryValue, Scalar};

/// A request template for records of a stream, and how its pages follow each other.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSpec {
    /// Expression over connection fields and inputs. The request is skipped when it is false.
    pub when: Option<String>,
    /// The values the request is sent for, once for each. Absent: it is sent once.
    pub for_each: Option<ForEach>,
    /// Path below the base URL, a template. Inserted values are percent-encoded.
    pub get: Option<String>,
    /// Like `get`, with method POST.
    pub post: Option<String>,
    /// Query parameters. A parameter whose value is empty is left out.
    pub query: IndexMap<String, QueryValue>,
    /// Headers.
    pub headers: IndexMap<String, String>,
    /// Body of a POST.
    pub body: Option<Body>,
    /// Path of the records in a response: `results`, `data.items`, or `results[].labels` for
    /// records nested in records. Empty: the response itself, an object or an array. A value before
    /// `[]` must be a list, and so must the records of a request with several pages; otherwise a
    /// single object is one record.
    pub records: Option<String>,
    /// How the next page is found.
    pub paginate: Option<Paginate>,
    /// The page size.
    pub page_size: Option<PageSize>,
    /// Maximum number of pages of a slice; more are an error.
    pub max_pages: Option<u32>,
    /// Whether `null` instead of the records means that there are none. Default: false, and `null`
    /// is an error, so that a truncated listing does not look empty.
    pub null_means_none: Option<bool>,
    /// Whether a page may consist only of records from earlier pages of the listing. Default:
    /// false, and such a page is an error, because it means that the server ignores the page
    /// parameter.
    pub may_repeat: Option<bool>,
    /// Requests for the children of each record. Their rows belong to the same slice.
    pub children: Option<Children>,
    /// Path of a value that a record must have, or paths with their required values. Other records
    /// are skipped.
    pub filter: Option<Filter>,
    /// Different sources for some of the stream's columns. Names and types stay the same.
    pub columns: IndexMap<String, ColumnSpec>,
    /// What happens to fields that no column declares. Default: the setting of the stream.
    pub unknown: Option<Unknown>,
    /// Queue to the path of a value in a record. A record is skipped unless this run has fed its
    /// value to the queue. The request waits until the queue is complete.
    pub parent_in: IndexMap<String, String>,
    /// For a route: the records are part of a response about one object.
    pub embedded: Option<Embedded>,
    /// For a route: rows that weir derives from the parent record, without a request.
    pub derive: Option<Derive>,
    /// For a route: the values of a chunk that the response covers.
    pub covers: Option<Covers>,
    /// For a route: weir lists the records, then fetches those that changed by their ids.
    pub fetch: Option<Fetch>,
}

/// Body of a request, in exactly one form.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// JSON. Its strings are templates.
    Json(serde_json::Value),
    /// Form fields, each a template.
    Form(IndexMap<String, String>),
}

/// The values a request is sent for. Written as the name of a queue, or as one of these forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForEach {
    /// Values that a parent stream feeds to a queue.
    Queue(QueueItems),
    /// The items of a list input.
    Input(InputItems),
    /// The items of a list in the spec.
    Values(ValueItems),
    /// A range of integers.
    Range(RangeItems),
}

/// The values of a queue, one by one or in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueItems {
    /// The queue.
    pub queue: String,
    /// Number of values per request. The variable is then a list, named like the queue.
    pub chunk: Option<u32>,
    /// Name of the variable. Default: the queue's name without its final `s`.
    #[serde(rename = "as")]
    pub variable: Option<String>,
    /// More variables, for single values only: name to the path of a scalar in the parent record.
    #[serde(default)]
    pub carry: IndexMap<String, String>,
    /// Expression over the variables. Values for which it is false are left to the stream's other
    /// requests.
    pub only: Option<String>,
}

impl QueueItems {
    /// Name of the variable. Default: the queue's name for a chunk, and without its final `s` for a
    /// single value.
    pub fn variable_name(&self) -> &str {
        let singular = self.queue.strip_suffix('s').unwrap_or(&self.queue);
        let usual = if self.chunk.is_some() { &self.queue } else { singular };
        self.variable.as_deref().unwrap_or(usual)
    }
}

/// The items of a list input, one by one or in chunks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputItems {
    /// Name of an input of type list.
    pub input: String,
    /// Number of values per request. The variable is then a list.
    pub chunk: Option<u32>,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
    /// Notice for the user when the list is empty, so that the stream has no rows.
    pub when_empty: Option<String>,
    /// Path of the item in a record. If `min_rows` fails, weir uses it to name the items without a
    /// record.
    pub found_at: Option<String>,
}

/// The items of a list in the spec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValueItems {
    /// The items, each a template.
    pub values: Vec<String>,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
}

/// A range of integers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeItems {
    /// The bounds.
    pub range: RangeBounds,
    /// Name of the variable.
    #[serde(rename = "as")]
    pub variable: String,
}

/// Bounds of a range, both inclusive.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeBounds {
    /// First number: a template or a number.
    pub from: Scalar,
    /// Last number: a template or a number.
    pub to: Scalar,
    /// Step; at least 1.
    #[serde(default = "one")]
    pub step: u32,
}

/// Requests for the children of each record, to any depth.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Children {
    /// Variables of the request: name to the path of the value in the record.
    pub with: IndexMap<String, String>,
    /// Path below the base URL, a template.
    pub get: String,
    /// Query parameters. Default: those of the request.
    pub query: Option<IndexMap<String, QueryValue>>,
    /// Filter for children. Default: the filter of the request; `{}` accepts all.
    pub filter: Option<Filter>,
    /// Maximum number of levels below the first; a deeper level is an error.
    #[serde(default = "default_max_depth")]
    pub max_depth: u32,
    /// Path in a record. As soon as one record of the listing has a value there, the listing itself
    /// contains the children, and weir does not request them.
    pub unless: Option<String>,
}

fn default_max_depth() -> u32 {
    50
}
