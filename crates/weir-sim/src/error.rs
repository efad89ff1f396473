//! Errors of the simulator itself.

use std::io;

use thiserror::Error;

/// An error of the simulator itself, as opposed to an error response.
#[derive(Debug, Error)]
pub enum Error {
    /// An invalid option or change, with the reason.
    #[error("{0}")]
    Invalid(String),
    /// The listening socket failed.
    #[error("the simulator's socket failed")]
    Socket(#[source] io::Error),
}

/// A simulated connection that broke before the response was complete, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Broken(pub &'static str);

/// Result with [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;
