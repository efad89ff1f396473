//! Rules for responses.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::language::value::{OneOrMany, Span};

/// A rule for responses, and for requests without a response. A rule without `status` applies to
/// responses other than 2xx.
///
/// All given conditions must hold. The outcome is either a retry (`backoff`), followed by `then`
/// when all attempts failed, or `then` at once.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseRule {
    /// Statuses: `429`, `5xx`, or a list of them. With a status of 2xx the rule applies to
    /// successful responses: `{ status: 204, then: empty }`, `{ status: 200, body: { at: ok,
    /// equals: "false" } }`.
    pub status: Option<OneOrMany<StatusPattern>>,
    /// Whether the rule applies to requests without a complete response: broken connections and
    /// timeouts.
    pub no_response: bool,
    /// A header that the response must have.
    pub header: Option<HeaderMatch>,
    /// A condition on the body.
    pub body: Option<BodyMatch>,
    /// Where the rule applies: to slices of a root stream, to slices of a child stream, or to both.
    #[serde(rename = "in")]
    pub applies: Where,
    /// Retries with growing waits. `Retry-After` takes precedence.
    pub backoff: Option<Backoff>,
    /// Number of attempts, including the first.
    pub attempts: Option<u32>,
    /// Wait after the first attempt.
    pub delay: Option<Span>,
    /// Maximum wait between attempts (except for `Retry-After`).
    pub max_delay: Option<Span>,
    /// What happens when there is no further retry.
    pub then: Then,
    /// What the response means for the connection.
    pub means: Option<Meaning>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// How the waits between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// The wait doubles; with jitter.
    Exponential,
    /// The wait grows by the same amount; with jitter.
    Linear,
}

/// Kind of slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// Both.
    #[default]
    Anywhere,
    /// A slice that consists of a whole listing.
    Root,
    /// A slice for an item of a queue, list or range, and requests for children of a record.
    Child,
}

/// What happens after a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The stream fails; the target keeps its existing rows.
    #[default]
    Fail,
    /// The slice is recorded as refused, and the stream continues with the next one.
    SkipSlice,
    /// The slice is empty and complete: the API sends this response if there are no records.
    Empty,
    /// The requested object and everything below it no longer exist. weir reports it, but not as a
    /// failure. Applies to requests about one object (`in: child`). If every such request gets this
    /// response, weir records the slices as refused instead, because then the request is probably
    /// wrong.
    Gone,
    /// The page token has expired: weir reads the slice again from its first page, at most three
    /// times; then the stream fails.
    RestartSlice,
    /// The page is skipped and recorded. Only possible if the next page does not depend on this
    /// one.
    SkipPage,
    /// The stream ends here with the rows it has, and is marked as incomplete.
    StopStream,
}

/// What a response means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// The credentials are wrong, revoked or of the wrong kind.
    Credentials,
    /// The credentials are valid but lack a permission.
    Permission,
    /// A proxy or firewall between weir and the API rejects the request.
    Egress,
}

/// A status or a class of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// This status.
    Exact(u16),
    /// All statuses with this first digit: `5xx`.
    Class(u16),
}

impl StatusPattern {
    /// Whether the pattern matches a status.
    pub fn fits(self, status: u16) -> bool {
        match self {
            Self::Exact(exact) => exact == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

/// A header condition.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// Name; case-insensitive.
    pub name: String,
    /// Text that the value contains, case-insensitive. Absent: any value.
    pub contains: Option<String>,
}

/// A condition on the body.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BodyMatch {
    /// Path of a value in a JSON body. Absent: the whole text.
    pub at: Option<String>,
    /// The required value.
    pub equals: Option<String>,
    /// Text that it must contain, case-insensitive.
    pub contains: Option<String>,
}
