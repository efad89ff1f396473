//! Rows to Parquet and JSONL files, on local disk or in an object store.
//!
//! Rows are staged as Arrow IPC until their commit. The commit merges them with the existing rows if the
//! mode requires it, encodes the result, and passes the bytes to a sink, which makes them visible at the end.

mod destination;
mod ledger;
mod local;
mod location;
mod manifest;
mod object;
mod options;
mod output;
mod owner;
mod sink;
mod state;
mod store;
mod target;
mod writer;

pub use self::ledger::LocalLedger;
pub use self::object::no_shell_variable;
pub use self::options::FilesOptions;
pub use self::target::Files;
pub use crate::write::formats::settings::Settings;
pub use crate::write::storage::variables::with_variables;
