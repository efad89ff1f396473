//! What can go wrong with a simulator itself.

use std::io;

use thiserror::Error;

/// Why something that was asked of the simulator is not possible.
#[derive(Debug, Error)]
pub enum Error {
    /// What was asked for is not valid, and why.
    #[error("{0}")]
    Invalid(String),
    /// The socket broke.
    #[error("the simulator's socket broke")]
    Socket(#[source] io::Error),
}

/// A connection that broke before the whole answer was there, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// Result with [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;
