//! The JSON Schema of the connections file.

use serde_json::{Value, json};

/// JSON Schema of the connections file, for completion and checks in editors. It accepts any field
/// of an API, because the fields depend on the spec.
pub fn json_schema() -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean", "null"] });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Connections",
        "description": "Named access to APIs, databases and stores of files. Any value may be \
            `${VARIABLE}`, `file:/path` or `command:…`.",
        "type": "object",
        "properties": {
            "variables": {
                "description": "Variables that `${NAME}` may name.",
                "type": ["object", "null"],
                "additionalProperties": { "$ref": "#/$defs/Scalar" },
            },
            "connections": {
                "description": "Connections by name.",
                "type": ["object", "null"],
                "additionalProperties": { "$ref": "#/$defs/Connection" },
            },
        },
        "additionalProperties": false,
        "$defs": {
            "Scalar": scalar,
            "Connection": {
                "anyOf": [
                    { "$ref": "#/$defs/Url" },
                    { "$ref": "#/$defs/Api" },
                    { "$ref": "#/$defs/Postgres" },
                    { "$ref": "#/$defs/Files" },
                ],
            },
            "Url": {
                "description": "A database or a store of files: `postgres://…`, `file:///…`, \
                    `s3://…`, `gs://…`, `az://…`.",
                "type": "string",
                "pattern": "^(postgres|postgresql|file|s3|gs|az)://",
            },
            "Api": api(),
            "Postgres": postgres(),
            "Files": files(),
        },
    })
}

fn api() -> Value {
    json!({
        "description": "An API, and the values of the fields that its spec declares.",
        "type": "object",
        "properties": {
            "type": { "const": "api" },
            "spec": { "type": "string", "description": "Name of a spec, or path of its file." },
            "secrets": {
                "description": "Fields of the spec. They may also be set beside `spec`.",
                "type": ["object", "string", "null"],
                "additionalProperties": { "$ref": "#/$defs/Scalar" },
            },
            "inputs": {
                "description": "Values of the spec's inputs that the replication does not set.",
                "type": ["object", "string", "null"],
            },
            "simulate": { "description": "Settings of a simulated API that replaces the real one." },
        },
        "required": ["spec"],
        "additionalProperties": { "$ref": "#/$defs/Scalar" },
    })
}

fn postgres() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "description": "A Postgres database: `url`, or its parts.",
        "type": "object",
        "properties": {
            "type": { "enum": ["postgres", "postgresql"] },
            "url": text,
            "host": text,
            "port": { "type": ["integer", "string"] },
            "user": text,
            "password": text,
            "database": text,
            "schema": { "type": "string", "description": "Schema of tables whose object names none." },
            "lock_wait": {
                "description": "Maximum wait for a table that other sessions use, in seconds.",
                "type": ["integer", "string"],
            },
            "sslmode": {
                "description": "As in libpq: disable, allow, prefer, require, verify-ca, verify-full.",
                "type": "string",
            },
        },
        "anyOf": [{ "required": ["type"] }, { "required": ["url"] }],
        "additionalProperties": { "$ref": "#/$defs/Scalar" },
    })
}

fn files() -> Value {
    json!({
        "description": "Files on local disk or in an object store, with the store's settings.",
        "type": "object",
        "properties": {
            "type": { "enum": ["files", "file"] },
            "url": {
                "description": "A folder, or `s3://bucket/prefix`, `gs://…`, `az://…`.",
                "type": "string",
            },
        },
        "anyOf": [{ "required": ["type"] }, { "required": ["url"] }],
        "additionalProperties": { "$ref": "#/$defs/Scalar" },
    })
}
