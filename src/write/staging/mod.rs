//! Rows that wait for their commit and outlive their process, for targets that have no staging of their own.
//!
//! [`rows`] keeps them on local disk or in an object store, [`duplicate_keys`] finds rows with the same key,
//! [`merge`] combines staged and existing rows to the rows of the new table. This module does not depend on any
//! target.

pub(crate) mod columns;
pub(crate) mod duplicate_keys;
mod index;
mod local;
pub(crate) mod merge;
pub(crate) mod names;
pub(crate) mod rows;
pub(crate) mod segment;
mod sort;
pub(crate) mod staging_dir;
pub(crate) mod store;
