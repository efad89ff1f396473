//! Rows to Postgres: binary COPY into staging, then swap, insert or merge in one transaction.
//!
//! Batches wait in memory until there are enough rows for a COPY (4 MiB of one table, or less when the batches
//! of all tables have 32 MiB). A COPY borrows one of the pool's connections.

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
