//! Forms of pagination.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::value::OneOrMany;
use crate::spec::language::value::one;

/// How weir finds the next page. Paths are paths in the response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Paginate {
    /// There is only one page.
    None,
    /// A token in the body, sent back as a parameter.
    Cursor(CursorPages),
    /// A URL in the body.
    NextUrl(NextUrlPages),
    /// A URL in the `Link` header (RFC 8288).
    LinkHeader(LinkHeaderPages),
    /// A page number.
    Page(NumberedPages),
    /// The number of records to skip.
    Offset(NumberedPages),
}

/// Pagination with a token in the body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorPages {
    /// Path of the token. The last page has none, or an empty one.
    pub at: String,
    /// Query parameter that takes the token. For a POST with a JSON body, a top-level field of the
    /// body.
    pub param: String,
    /// Path of a value that is true on the last page, for APIs where the token does not show the
    /// end.
    pub last: Option<String>,
    /// Path of a value that is false on the last page, for APIs where the token does not show the
    /// end.
    pub more: Option<String>,
}

/// Pagination with a URL in the body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextUrlPages {
    /// Path of the URL. The last page has none.
    pub at: String,
    /// Which part of the URL weir uses.
    #[serde(default)]
    pub follow: Follow,
}

/// Pagination with a URL in the `Link` header (RFC 8288).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinkHeaderPages {
    /// Link relation of the next page.
    pub rel: String,
    /// Which part of the URL weir uses.
    pub follow: Follow,
}

impl Default for LinkHeaderPages {
    fn default() -> Self {
        Self { rel: "next".to_owned(), follow: Follow::Url }
    }
}

/// Which part of a next page's URL weir uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Follow {
    /// The URL, resolved against the URL of the current page. It must not leave the origin. weir
    /// adds the request's own parameters unless the URL sets them.
    #[default]
    Url,
    /// Its query only. weir adds the request's own parameters as for `url`; the path stays that of
    /// the first page.
    Query,
    /// The URL unchanged, for APIs that reject any parameter beside those of their link.
    Exact,
}

/// Pagination by page numbers or by offsets. Without `last`, `more`, `total` and `pages`, a
/// listing ends at the first page without records.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberedPages {
    /// Query parameter.
    pub param: String,
    /// Number of the first page (default: 1) or of the first record (default: 0).
    pub start: Option<u64>,
    /// Path of a value that is true on the last page.
    pub last: Option<String>,
    /// Path of a value that is absent, null, false or empty on the last page.
    pub more: Option<String>,
    /// Path of the total number of records.
    pub total: Option<String>,
    /// Path of the total number of pages.
    pub pages: Option<String>,
}

/// The page size. A page with fewer records never ends a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageSize {
    /// Query parameter.
    pub param: String,
    /// The size that weir requests: the maximum that the API allows.
    pub max: u32,
    /// The smallest size to which weir reduces pages when the server fails on large ones.
    #[serde(default = "one")]
    pub min: u32,
    /// Query parameters that make a response expensive, for example the one that requests bodies.
    /// If the server cannot return a record with them, weir requests that record without them.
    #[serde(default)]
    pub costly: OneOrMany<String>,
}
