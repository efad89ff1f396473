//! What becomes of tables and files when the spec, the data or somebody's hand changes their columns.

mod columns;
mod hands;
mod site;
mod types;
