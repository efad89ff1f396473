//! weir's error type: what happened, its cause, and a hint for the user.

use std::fmt;

use crate::secret::shown;

/// Result with weir's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. It determines the exit code, and what the user does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A file, flag or connection value is wrong: correct it.
    Input,
    /// The API does not accept the credentials, or they lack a permission: replace or extend them.
    Credentials,
    /// The credentials are valid but lack a permission: extend them, or exclude the stream.
    Permission,
    /// The API refused a request for another reason: read its message.
    Rejected,
    /// The API did not respond: check the host, the network, the proxy.
    Unreachable,
    /// The response differs from what the spec declares: correct the spec.
    Shape,
    /// The target refused the request or failed: check the database or the store.
    Target,
    /// Another run holds the lock: wait until it is done.
    Busy,
    /// The run was stopped: run it again.
    Interrupted,
    /// The points budget is spent: run it again later.
    Paused,
}

/// What happened, in a lowercase clause, with an optional cause and hint.
///
/// `Display` prints only the clause. [`Error::source`](std::error::Error::source) returns the
/// cause, [`Error::hint`] the hint. None of the three contains a secret: known secrets are masked,
/// and control characters are escaped, because parts of the text may come from a server.
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Kind {
    /// Whether the next run may succeed without a change of spec or replication, so that the
    /// progress is worth saving.
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::Credentials
                | Self::Unreachable
                | Self::Target
                | Self::Busy
                | Self::Interrupted
                | Self::Paused
        )
    }
}

impl Error {
    /// An error of this kind; `message` is a lowercase clause without a final period.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: shown(&message.into()), hint: None, cause: None }
    }

    /// Wrong input; see [`Kind::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A problem with the target; see [`Kind::Target`].
    pub fn target(message: impl Into<String>) -> Self {
        Self::new(Kind::Target, message)
    }

    /// Adds a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown(&hint.into()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Wraps this error in a new message and makes it the cause. The kind stays, and the hint moves
    /// to the new error.
    #[must_use]
    pub fn within(mut self, message: impl Into<String>) -> Self {
        let hint = self.hint.take();
        Self { kind: self.kind, message: shown(&message.into()), hint, cause: Some(Box::new(self)) }
    }

    /// Puts the subject at the beginning of the message.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.message = shown(&format!("{subject}: {}", self.message));
        self
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The hint, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The clause and its causes on one line: `what: why: why`.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&shown(&inner.to_string()));
            cause = inner.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.chain())?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, " (hint: {hint})"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause.as_ref() as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_error_keeps_its_kind_and_hands_its_hint_up() {
        let error = Error::target("disk full").with_hint("free some space").within("`pages`");
        assert_eq!(error.kind(), Kind::Target);
        assert_eq!(error.hint(), Some("free some space"));
        assert_eq!(error.chain(), "`pages`: disk full");
    }
}
