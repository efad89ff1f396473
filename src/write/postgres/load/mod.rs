//! Rows into a staging table: the table, the bytes of a COPY, and what Postgres cannot hold.

pub(crate) mod copy;
pub(crate) mod jsonb;
pub(crate) mod stage;
