//! Where the state of a replication is kept: a table in the schema of the tables that it is about.

use crate::error::Result;
use crate::write::postgres::name::{self, TableName};
use crate::write::postgres::options::fields::PostgresOptions;

/// Name of the table. Stored in databases: it must not change.
const TABLE: &str = "_weir_state";

/// Where the state of a replication is kept.
#[derive(Clone, Debug)]
pub(crate) struct StateTable {
    pub(crate) table: TableName,
    pub(crate) replication: String,
}

impl StateTable {
    pub(crate) fn new(schema: &str, replication: &str) -> Self {
        let table = TableName { schema: schema.to_owned(), table: TABLE.to_owned() };
        Self { table, replication: replication.to_owned() }
    }

    /// The schema, quoted.
    pub(crate) fn schema(&self) -> String {
        name::quoted(&self.table.schema)
    }

    /// Key of the advisory lock on the replication.
    pub(crate) fn lock_key(&self) -> i64 {
        let named = format!("{TABLE}/{}", self.replication);
        self.table.sibling(named).lock_key()
    }
}

/// The schema of the state.
pub(crate) fn state_schema(options: &PostgresOptions) -> Result<String> {
    let beside = options.state_beside.as_deref();
    let beside = beside.map(|object| TableName::parse(object, &options.schema)).transpose()?;
    Ok(beside.map_or_else(|| options.schema.clone(), |table| table.schema))
}
