//! Rows to Postgres: binary COPY into staging, then swap, insert or merge in one transaction.

use async_trait::async_trait;
use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::write::{Table, Target, Writer};

/// How to reach the server.
#[derive(Clone, Debug)]
pub struct PostgresOptions {}

impl PostgresOptions {
    /// Reads a connection's properties.
    pub fn from_properties(_: &IndexMap<String, Secret>) -> Result<Self> {
        Ok(Self {})
    }
}

/// A Postgres database.
#[derive(Debug)]
pub struct Postgres {}

impl Postgres {
    /// A database that is not reached yet.
    pub fn new(_: PostgresOptions) -> Self {
        Self {}
    }
}

#[async_trait]
impl Target for Postgres {
    async fn check(&self) -> Result<()> {
        Err(Error::target("not yet"))
    }

    async fn open(&self, _: &Table) -> Result<Box<dyn Writer>> {
        Err(Error::target("not yet"))
    }
}
