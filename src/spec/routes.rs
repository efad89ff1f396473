//! How the language says that a stream's rows can be had by other, cheaper requests.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::value::QueryValue;

/// Name of the route that consists of the requests of the stream itself.
pub const DEFAULT: &str = "default";

/// The records stand inside the answer about one object, beside those of other streams. Requests of
/// this form with the same path are sent as one, whose query has the parameters of all; none may have
/// different values in two of them, unless one's `when` is the opposite of the other's.
///
/// A list that is cut short goes on in the stream's own request for the same value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// Path in the response that is true when the list is cut short.
    pub more: String,
    /// Path in the response of the token that leads on.
    pub cursor: String,
    /// Query parameter of the own request that takes it.
    pub param: String,
}

/// A row that follows from the record which fed the value: it costs no request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Derive {
    /// Expression over the variables of `for_each`: where it holds, the value's only row is this one.
    pub when: String,
    /// The columns that have a value, each by the name of a variable that `for_each` carries. Those
    /// with a template over the slice's variables keep it.
    pub columns: IndexMap<String, String>,
}

/// Which values of a chunk the answer is about. The others are asked for one by one, by the stream's
/// own request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Covers {
    /// Path of the objects in the response.
    pub records: String,
    /// Path of the value in each.
    pub at: String,
    /// Path in each that is there when not all about it is: it then counts as not found.
    pub more: Option<String>,
}

/// The listing only shows which records there are: the rows come by another request for several of them at
/// once, by their ids. A run that merges asks for those alone that look otherwise than when they were last
/// read; the rows of the others stay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Path of the id in a record: that of the stream's key, which has this one column.
    pub id: String,
    /// Path of a value that changes whenever one of the columns that the request `brings` does.
    pub version: String,
    /// The columns that the listing leaves out.
    pub brings: Vec<String>,
    /// Name of the variable, a list of ids.
    #[serde(rename = "as")]
    pub variable: String,
    /// Ids to a request.
    pub chunk: u32,
    /// Path below the base URL, a template. Its answers are like those of the listing.
    pub get: String,
    /// Query parameters.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
}
