//! A stream: its columns, its key, its requests, and the queues it feeds.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::column::{ColumnSpec, Unknown};
use crate::spec::language::incremental::{Cursor, Refresh};
use crate::spec::language::pages::{PageSize, Paginate};
use crate::spec::language::records::{Feed, Filter};
use crate::spec::language::request::{Body, Children, ForEach, RequestSpec};
use crate::spec::language::responses::ResponseRule;
use crate::spec::language::value::{OneOrMany, QueryValue};

/// A named collection of records of one shape.
///
/// A stream with one kind of request sets `get` (or `post`) beside its other keys. A stream with
/// several kinds lists them under `requests`; its other request keys are then their defaults.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// What a row of the stream represents, in a sentence or two.
    pub doc: String,
    /// URL of the API's documentation of the stream.
    pub docs: Option<String>,
    /// Columns that identify a row.
    pub key: Vec<String>,
    /// Whether ids are unique in the whole API, not only among the records of one parent. Unless it
    /// is true, `spec validate` warns about a child stream whose `key` contains no column of the
    /// parent, and about queues that get only a part of a key. `defaults` may set it for all
    /// streams.
    pub unique_ids: Option<bool>,
    /// The columns by name, in the order of the table.
    pub columns: IndexMap<String, ColumnSpec>,
    /// Queues that this stream's records feed: queue name to the path of the value in a record, or
    /// to that path with a filter for records.
    pub feeds: IndexMap<String, Feed>,
    /// The column with the parent's id. Each slice replaces all rows of its parent, so that removed
    /// rows are detected.
    pub replaces: Option<String>,
    /// How an incremental run requests what changed since the last run.
    pub cursor: Option<Cursor>,
    /// Maximum age of the last full read: a duration, or `with_parent`. Default: `0s`.
    pub refresh: Option<Refresh>,
    /// Columns that state where a row is. weir reports a change in one of them as `moved`.
    pub location: Vec<String>,
    /// Minimum number of rows, an expression over connection fields and inputs. With fewer rows the
    /// stream fails, because a record that the user named is missing.
    pub min_rows: Option<String>,
    /// What happens to fields that no column declares.
    pub unknown: Option<Unknown>,
    /// Paths of fields that are dropped, in addition to those of `defaults`.
    pub ignore: Vec<String>,
    /// Rules for this stream's responses; they come before those of the spec.
    pub responses: Vec<ResponseRule>,
    /// Maximum number of slices in flight. Default: `limits.concurrency`.
    pub concurrency: Option<u32>,
    /// Class of its records in `limits.points.record`.
    pub cost: Option<String>,
    /// Alternative requests for the same rows, by name. A route is one request or a list; all of
    /// them are sent. A route is available when the `when` of all its requests hold. The spec's
    /// `defaults` apply to it, the stream's own request keys do not. weir takes the cheapest route.
    pub routes: IndexMap<String, OneOrMany<RequestSpec>>,
    /// A request for the number of records, used before the first run.
    pub count: Option<Count>,
    /// A request that checks whether a record still exists, sent before weir treats its row as
    /// deleted.
    pub confirm_deletes: Option<ConfirmDeletes>,
    /// Whether the stream only feeds queues. It cannot be selected, and has no table.
    pub internal: bool,
    /// The requests, if there is more than one kind. weir sends all whose `when` holds; together
    /// their rows form the stream.
    pub requests: Vec<RequestSpec>,
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
}

impl Stream {
    /// The request made of the stream's own keys: its only request, or the defaults of its
    /// `requests`.
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

/// One `GET` that returns the number of records of a stream, for the plan of a first run; an
/// approximate number is enough. Neither the spec's `defaults` nor the stream's own keys apply to
/// it. If several streams declare the same request, the number is that of all of them together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Expression over connection fields and inputs. The request is not sent when it is false.
    pub when: Option<String>,
    /// Path below the base URL, a template over connection fields and inputs.
    pub get: String,
    /// Query parameters. A parameter whose value is empty is left out.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
    /// Path of the number in the response.
    pub at: String,
}

/// One `GET` for each row that a full read did not return, sent before the row counts as deleted.
/// It is meant for listings by page numbers or offsets, which may skip records while others are
/// removed. A record is deleted if the API answers 404 or 410, or if a rule of `responses` says
/// `gone`; after any other response its row stays. weir checks up to 1,000 rows per read; if more
/// are missing, it checks none. Neither the spec's `defaults` nor the stream's own keys apply to
/// the request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmDeletes {
    /// Path below the base URL, a template over connection fields, inputs and the key's column.
    pub get: String,
    /// Query parameters. A parameter whose value is empty is left out.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
}
