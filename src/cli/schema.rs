//! `weir schema`.

use serde_json::Value;

use super::{args::SchemaKind, state::Status};
use crate::connection;
use crate::replication::Replication;
use crate::spec::Spec;

/// The JSON Schema of a kind of file, or of a result, from the types that read or write it.
pub(super) fn of(kind: SchemaKind) -> Value {
    match kind {
        SchemaKind::Spec => schemars::schema_for!(Spec).to_value(),
        SchemaKind::Replication => schemars::schema_for!(Replication).to_value(),
        SchemaKind::Status => schemars::schema_for!(Status).to_value(),
        SchemaKind::Connections => connection::json_schema(),
    }
}
