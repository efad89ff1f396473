//! The server's catalog: tables, column types, schemas and privileges.

pub(crate) mod catalog;
pub(crate) mod column_type;
pub(crate) mod grants;
pub(crate) mod schemas;
pub(crate) mod weir_schema;
