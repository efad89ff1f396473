//! A stream: its rows, its columns, its key, and what it feeds.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::column::{ColumnSpec, Unknown};
use super::incremental::{Cursor, Refresh};
use super::pages::{PageSize, Paginate};
use super::records::{Feed, Filter};
use super::request::{Body, Children, ForEach, RequestSpec};
use super::responses::ResponseRule;
use super::value::{OneOrMany, QueryValue};

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
    pub location: Vec<String>,
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
    /// Class of its objects in `limits.points.record`.
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
    pub children: Option<Children>,
    /// See [`RequestSpec`].
    pub filter: Option<Filter>,
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
            children: self.children.clone(),
            filter: self.filter.clone(),
            ..RequestSpec::default()
        }
    }
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
