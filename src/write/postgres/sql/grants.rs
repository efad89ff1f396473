//! Privileges on tables: those that a table has, and those that a schema gives by default.

use tokio_postgres::{GenericClient, Row};

use crate::write::postgres::name::TableName;

/// One privilege of one role on a table.
pub(crate) struct Grant {
    /// Role, quoted; `PUBLIC` for every role.
    pub(crate) grantee: String,
    privilege: String,
    /// Whether the role may grant the privilege to others.
    grantable: bool,
}

impl Grant {
    fn from_row(row: &Row) -> Self {
        Self { grantee: row.get(0), privilege: row.get(1), grantable: row.get(2) }
    }

    /// SQL that grants the privilege on a table.
    pub(crate) fn statement(&self, table: &TableName) -> String {
        let Self { grantee, privilege, grantable } = self;
        let option = if *grantable { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {privilege} ON TABLE {table} TO {grantee}{option}")
    }
}

/// The privileges on the table with this oid.
pub(crate) async fn grants<C: GenericClient + Sync>(
    client: &C,
    oid: u32,
) -> Result<Vec<Grant>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' \
                 ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type, is_grantable \
             FROM pg_class, aclexplode(relacl) WHERE oid = $1",
            &[&oid],
        )
        .await?;
    Ok(rows.iter().map(Grant::from_row).collect())
}

/// The privileges that this role's default privileges give on new tables of a schema.
pub(crate) async fn default_grants<C: GenericClient + Sync>(
    client: &C,
    schema: &str,
) -> Result<Vec<Grant>, tokio_postgres::Error> {
    let rows = client
        .query(
            "SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' \
                 ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type, a.is_grantable \
             FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace, \
                 aclexplode(d.defaclacl) a \
             WHERE n.nspname = $1 AND d.defaclobjtype = 'r' \
                 AND pg_get_userbyid(d.defaclrole) = current_user",
            &[&schema],
        )
        .await?;
    Ok(rows.iter().map(Grant::from_row).collect())
}
