//! Routes: alternative, cheaper requests for a stream's rows.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::value::QueryValue;

/// Name of the route that consists of the stream's own requests.
pub const DEFAULT: &str = "default";

/// The records are part of a response about one object, beside those of other streams. weir sends
/// requests of this form with the same path as one request with the parameters of all. Two of them
/// must not give a parameter different values, unless the `when` of one is the opposite of the
/// other's.
///
/// If the list is truncated, weir reads the rest with the stream's default request for the same
/// value.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// Path of a value that is true when the list is truncated.
    pub more: String,
    /// Path of the token for the rest of the list.
    pub cursor: String,
    /// Query parameter of the default request that takes the token.
    pub param: String,
}

/// A row that weir derives from the parent record, without a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Derive {
    /// Expression over the variables of `for_each`. Where it holds, the derived row is the only row
    /// of the value.
    pub when: String,
    /// The columns with a value: column to the name of a variable that `for_each` carries. Columns
    /// with a template over the slice's variables keep it.
    pub columns: IndexMap<String, String>,
}

/// The values of a chunk that the response covers. weir requests the others one by one, with the
/// stream's default request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Covers {
    /// Path of the objects in the response.
    pub records: String,
    /// Path of the value in each object.
    pub at: String,
    /// Path in each object of a sign that the object is incomplete. The value then counts as not
    /// covered.
    pub more: Option<String>,
}

/// The listing only returns which records exist. Another request fetches the rows of several
/// records by their ids. A run that merges fetches only the records whose fingerprint has changed
/// since the last read; the rows of the others stay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Path of the id in a record. The stream's key must be this one column.
    pub id: String,
    /// Path of a value that changes whenever one of the columns in `brings` changes.
    pub version: String,
    /// The columns that the listing does not return and the fetch does.
    pub brings: Vec<String>,
    /// Name of the variable that holds the list of ids.
    #[serde(rename = "as")]
    pub variable: String,
    /// Number of ids per request.
    pub chunk: u32,
    /// Path below the base URL, a template. Its responses have the same form as those of the
    /// listing.
    pub get: String,
    /// Query parameters.
    #[serde(default)]
    pub query: IndexMap<String, QueryValue>,
}
