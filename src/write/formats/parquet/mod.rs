//! Parquet files, also those that another program has written again.

pub(crate) mod file;
mod foreign_types;
