//! Rules for answers.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value::{OneOrMany, Span};

/// A rule for answers, and for requests without one. One without `status` is about answers other than 2xx.
///
/// All conditions that are given must hold. What follows is either a retry (`backoff`) that ends
/// in `then` when its attempts are used up, or `then` at once.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseRule {
    /// Statuses: `429`, `5xx`, or a list of such. With one of 2xx the rule is about answers that would be
    /// read: `{ status: 204, then: empty }`, `{ status: 200, body: { at: ok, equals: "false" } }`.
    pub status: Option<OneOrMany<StatusPattern>>,
    /// Requests that got no whole response: broken connections and timeouts.
    pub no_response: bool,
    /// A header that the response must have.
    pub header: Option<HeaderMatch>,
    /// What the body must hold.
    pub body: Option<BodyMatch>,
    /// Where the rule applies: in slices of a root stream, of a child stream, or anywhere.
    #[serde(rename = "in")]
    pub applies: Where,
    /// Try again, waiting longer each time; `Retry-After` always wins.
    pub backoff: Option<Backoff>,
    /// Tries in all, the first included.
    pub attempts: Option<u32>,
    /// Wait after the first try.
    pub delay: Option<Span>,
    /// The longest wait between tries (`Retry-After` aside).
    pub max_delay: Option<Span>,
    /// What follows when there is no (more) retry.
    pub then: Then,
    /// What the answer tells about the connection.
    pub means: Option<Meaning>,
    /// What the reader can do about it.
    pub hint: Option<String>,
}

/// How waits between tries grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// Doubling, with jitter.
    Exponential,
    /// By the same step, with jitter.
    Linear,
}

/// Kind of slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// Both.
    #[default]
    Anywhere,
    /// A slice that is the whole listing.
    Root,
    /// A slice for an item of a queue, list or range, and the children of a record.
    Child,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The stream fails; the target keeps what it had.
    #[default]
    Fail,
    /// The slice is recorded as refused; the stream goes on with the next.
    SkipSlice,
    /// The slice counts as empty and complete: this is how the API says «none».
    Empty,
    /// The object that is asked about is gone, and all that hangs on it: told, but no failure. Holds for what
    /// is asked about one object only (`in: child`). Where no such request is answered otherwise, the answers
    /// are recorded as refusals, since then it is the request that is wrong.
    Gone,
    /// The token of the page is no longer good: the slice is read anew from its first page, three times at
    /// most; then the stream fails.
    RestartSlice,
    /// The page is left out and recorded; only where the next page does not depend on this one.
    SkipPage,
    /// The stream ends here with what it has, and says that it is not complete.
    StopStream,
}

/// What an answer tells about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// The credentials are wrong, revoked or of the wrong kind.
    Credentials,
    /// The credentials are right but may not do this.
    Permission,
    /// Something between here and the API refuses the request.
    Egress,
}

/// A status or a class of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// Exactly this one.
    Exact(u16),
    /// All whose first digit is this: `5xx`.
    Class(u16),
}

impl StatusPattern {
    /// Whether a status is of this kind.
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
    /// Name, in any case.
    pub name: String,
    /// Text its value contains, in any case; any value when absent.
    pub contains: Option<String>,
}

/// A condition on the body.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BodyMatch {
    /// Path of a value in a JSON body; the whole text when absent.
    pub at: Option<String>,
    /// What it must be.
    pub equals: Option<String>,
    /// What it must contain, in any case.
    pub contains: Option<String>,
}
