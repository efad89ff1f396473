//! Where a connection was defined.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::connection::env_file::Environment;
use crate::connection::place::Base;

/// Where a connection was defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An environment variable.
    Environment,
    /// A file of variables: `.env`, or one that the command line names.
    DotEnv,
    /// The connections file.
    File,
    /// The `env` of a replication.
    Replication,
    /// Built into weir.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::File => "connections file",
            Self::Replication => "replication",
            Self::BuiltIn => "built in",
        })
    }
}

/// The context of a definition: its origin, and the variables that it may use.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The origin.
    pub origin: Origin,
    /// The file, if the origin is one.
    pub file: Option<&'a Path>,
    /// The base of its relative paths.
    pub base: Base,
    /// The variables available as `${NAME}`.
    pub variables: &'a Environment,
}

impl Context<'_> {
    /// A connection and its origin, for a message.
    pub(super) fn place(&self, name: &str) -> String {
        match self.file {
            Some(file) => format!("connection `{name}` ({})", file.display()),
            None => format!("connection `{name}` ({})", self.origin),
        }
    }
}
