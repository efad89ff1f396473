//! A commit: staged rows made visible in one transaction.

pub(crate) mod columns;
pub(crate) mod commit;
pub(crate) mod duplicate_keys;
pub(crate) mod merge;
pub(crate) mod primary_key;
pub(crate) mod replace;
pub(crate) mod statement;
