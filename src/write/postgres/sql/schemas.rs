//! Schemas: created where they are missing, and the right to create tables in them.

use tokio_postgres::{Client, error::SqlState};

use crate::error::{Error, Result};
use crate::write::postgres::failure;
use crate::write::postgres::name::{self, TableName, quoted};

/// Creates the schema of a table unless it exists.
pub(crate) async fn ensure_schema(client: &Client, name: &TableName) -> Result<()> {
    let schema = name::quoted(&name.schema);
    let failed = |error| failure::statement(format!("schema {schema} cannot be created"), &error);
    let found = client
        .query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&name.schema])
        .await
        .map_err(failed)?;
    // A role without permission to create schemas would be refused even when the schema exists.
    if found.is_some() {
        return Ok(());
    }
    match client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await {
        Err(error)
            if !failure::is(&error, &SqlState::UNIQUE_VIOLATION)
                && !failure::is(&error, &SqlState::DUPLICATE_SCHEMA) =>
        {
            Err(failed(error).with_hint(
                "create the schema, or grant the role CREATE on the database: \
                 GRANT CREATE ON DATABASE … TO …",
            ))
        }
        // Another run has just created it.
        _ => Ok(()),
    }
}

/// Refuses early what the server would refuse at commit: creating a table in a schema without permission.
pub(crate) async fn may_create(client: &Client, name: &TableName) -> Result<()> {
    let failed = |error| failure::statement(format!("table {name} cannot be created"), &error);
    let row = client
        .query_one(
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'), \
                 current_user::text FROM pg_namespace WHERE nspname = $1",
            &[&name.schema],
        )
        .await
        .map_err(failed)?;
    if row.get(0) {
        return Ok(());
    }
    let (schema, user) = (quoted(&name.schema), quoted(row.get(1)));
    Err(Error::target(format!("table {name} cannot be created"))
        .because(format!("permission denied for schema {schema}"))
        .with_hint(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}")))
}
