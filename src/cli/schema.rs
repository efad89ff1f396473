//! `weir schema`.

use serde_json::Value;

use super::{args::SchemaKind, state::Status};
use crate::{connection, replication, spec};

/// The JSON Schema of a kind of file, as its reader takes it, or of a result.
pub(super) fn of(kind: SchemaKind) -> Value {
    match kind {
        SchemaKind::Spec => spec::json_schema(),
        SchemaKind::Replication => replication::json_schema(),
        SchemaKind::Status => schemars::schema_for!(Status).to_value(),
        SchemaKind::Connections => connection::json_schema(),
    }
}
