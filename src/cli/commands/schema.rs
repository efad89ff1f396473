//! `weir schema`.

use serde_json::Value;

use crate::cli::args::SchemaKind;
use crate::cli::commands::state::Status;
use crate::connection;
use crate::replication;
use crate::spec;

/// The JSON Schema of a file format, or of a command's JSON output.
pub(crate) fn of(kind: SchemaKind) -> Value {
    match kind {
        SchemaKind::Spec => spec::json_schema(),
        SchemaKind::Replication => replication::json_schema(),
        SchemaKind::Status => schemars::schema_for!(Status).to_value(),
        SchemaKind::Connections => connection::json_schema(),
    }
}
