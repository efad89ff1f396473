//! Rows to Postgres: binary COPY into staging, then swap, insert or merge in one transaction.
//!
//! The rows of a batch wait in memory until there are enough for a COPY (4 MiB of a table, or less
//! when all tables together have 32 MiB waiting). A COPY borrows one of the pool's connections.

mod failure;
mod load;
mod name;
mod options;
mod publish;
mod session;
mod sql;
mod state;
mod target;
mod writer;

pub use self::options::fields::{ChannelBinding, PostgresOptions, Server, SslMode};
pub use self::state::ledger::PostgresLedger;
pub use self::target::Postgres;
