//! Secret values, and masking of secrets in texts from outside.

mod mask;

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

pub use mask::{escaped, hide, hide_passing, line, masked, on_a_line, shown, shown_start};

/// A secret value. Neither `Debug` nor any serializer shows it, and its memory is erased when it is
/// dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The secret itself, for the code that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }
}
