//! The forms of pagination.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::OneOrMany;
use super::value::one;

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
