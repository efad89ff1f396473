//! The one error type: what happened, what caused it, and what the reader can do next.

use std::fmt;

use crate::secret::shown;

/// Result with weir's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the reader of an error does next; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A file, flag or connection value is wrong: correct it.
    Input,
    /// The API does not accept the credentials, or they lack a permission: replace or extend them.
    Credentials,
    /// The credentials are right, but may not do this: extend them, or leave the stream out.
    Permission,
    /// The API refused a request for another reason: read its message.
    Rejected,
    /// Nobody answered: check the host, the network, the proxy.
    Unreachable,
    /// The API answered something that is not what the spec declares: correct the spec.
    Shape,
    /// The target refused or broke: check the database or the store.
    Target,
    /// Another run holds the lock: wait until it is done.
    Busy,
    /// The run was told to stop: run it again.
    Interrupted,
    /// What may be spent is spent: run it again later.
    Paused,
}

/// What happened, in a lowercase clause, with an optional cause and hint.
///
/// `Display` prints only the clause; [`Error::source`](std::error::Error::source) leads to the
/// cause; [`Error::hint`] says what to do. None of the three ever holds a secret: known ones are masked,
/// and control characters escaped, since a part may come from a server.
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Kind {
    /// Whether it may be gone the next time, without a change of spec or replication: what was done
    /// so far is then worth keeping.
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

    /// Trouble with the target; see [`Kind::Target`].
    pub fn target(message: impl Into<String>) -> Self {
        Self::new(Kind::Target, message)
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(shown(&hint.into()));
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Puts a clause before this error, which becomes its cause; kind stays, the hint moves up.
    #[must_use]
    pub fn within(mut self, message: impl Into<String>) -> Self {
        let hint = self.hint.take();
        Self { kind: self.kind, message: shown(&message.into()), hint, cause: Some(Box::new(self)) }
    }

    /// Says at the beginning of the message what it is about.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.message = shown(&format!("{subject}: {}", self.message));
        self
    }

    /// What the reader does next.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do about it, when there is something to say.
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
