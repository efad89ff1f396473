//! Names of tables and columns: taken unchanged from a replication, quoted in every statement.

use std::fmt;

use crate::error::{Error, Result};
use crate::hash;

/// Longest name that a Postgres server keeps, in bytes; it would silently cut off the rest.
pub(crate) const MAX_NAME: usize = 63;
/// Name of the schema for weir's own tables. Stored in databases: it must not change.
pub(crate) const WEIR_SCHEMA: &str = "_weir";
/// Prefix of the names of staging tables. Stored in databases: it must not change.
pub(crate) const STAGE: &str = "_weir_stage_";
/// Length of such a name in bytes: sixteen digits for the table follow, and eight random ones.
pub(crate) const STAGE_LENGTH: usize = STAGE.len() + 16 + 1 + 8;

/// A table's schema and name, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl TableName {
    /// Parses `schema.table`, or `table` in the default schema. Case is kept. A part with a dot is written in
    /// double quotes, in which `""` stands for a quote.
    pub(crate) fn parse(object: &str, default_schema: &str) -> Result<Self> {
        let mut parts = parts(object)?;
        let (schema, table) = match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(table), None, _) => (default_schema.to_owned(), table),
            (Some(table), Some(schema), None) => (schema, table),
            _ => return Err(unreadable(object, "it has more than two parts")),
        };
        check("schema", &schema)?;
        check("table", &table)?;
        Ok(Self { schema, table })
    }

    /// Refuses a table in a schema of the server's own.
    pub(crate) fn refuse_system(&self) -> Result<()> {
        let schema = &self.schema;
        if !schema.starts_with("pg_") && schema != "information_schema" {
            return Ok(());
        }
        let what = format!("the schema `{schema}` of table {self} is Postgres' own");
        Err(Error::input(what).with_hint("write into a schema of your own: `public`, or a new one"))
    }

    /// Another table in the same schema.
    pub(crate) fn sibling(&self, table: impl Into<String>) -> Self {
        Self { schema: self.schema.clone(), table: table.into() }
    }

    /// The name of a staging table for this table, in another schema.
    pub(crate) fn stage(&self, schema: &str, random: u32) -> Self {
        let table = format!("{}{random:08x}", self.stage_prefix());
        Self { schema: schema.to_owned(), table }
    }

    /// Key of the advisory lock on the table that this staging table is for; `None` for other tables.
    pub(crate) fn lock_key_of_stage(&self) -> Option<i64> {
        let hash = self.table.strip_prefix(STAGE)?.get(..16)?;
        u64::from_str_radix(hash, 16).ok().map(|hash| i64::from_ne_bytes(hash.to_ne_bytes()))
    }

    /// A table in the same schema with this suffix; the name is cut when it would be too long.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        let most = MAX_NAME.saturating_sub(suffix.len());
        let most = most.min(self.table.len());
        let end = (0..=most).rev().find(|end| self.table.is_char_boundary(*end)).unwrap_or(0);
        self.sibling(format!("{}{suffix}", self.table.get(..end).unwrap_or(&self.table)))
    }

    /// Prefix of the names of this table's staging tables; different for every table.
    pub(crate) fn stage_prefix(&self) -> String {
        format!("{STAGE}{:016x}_", self.hash())
    }

    /// Key of the advisory lock on the table.
    pub(crate) fn lock_key(&self) -> i64 {
        i64::from_ne_bytes(self.hash().to_ne_bytes())
    }

    /// FNV-1a, which is the same in all versions and on all machines.
    fn hash(&self) -> u64 {
        hash::fnv(self.schema.bytes().chain([0]).chain(self.table.bytes()))
    }
}

/// Both parts quoted, for statements and for messages.
impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// An identifier in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that does not depend on `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Identifiers in double quotes, separated by commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

/// Refuses a name that Postgres would not keep unchanged.
pub(crate) fn check(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::input(format!("the name of a {what} is empty")));
    }
    if name.contains('\0') {
        return Err(Error::input(format!("the name of a {what} contains a NUL character")));
    }
    if name.len() > MAX_NAME {
        let length = name.len();
        let what = format!("the name of the {what} `{name}` is {length} bytes long");
        return Err(Error::input(what).with_hint(format!(
            "Postgres keeps {MAX_NAME} bytes of a name: choose a shorter name"
        )));
    }
    Ok(())
}

fn parts(object: &str) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = object;
    loop {
        let (part, after) =
            part(rest).ok_or_else(|| unreadable(object, "a quote is not closed"))?;
        parts.push(part);
        if after.is_empty() {
            return Ok(parts);
        }
        rest = after
            .strip_prefix('.')
            .ok_or_else(|| unreadable(object, "text follows a closing quote"))?;
    }
}

/// The first part and the text after it; `None` when its quote is not closed.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        return text.split_at_checked(end).map(|(part, after)| (part.to_owned(), after));
    };
    let mut part = String::new();
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, after)),
        }
    }
}

fn unreadable(object: &str, why: &str) -> Error {
    Error::input(format!("`{object}` is not a table name: {why}")).with_hint(
        "write `schema.table` or `table`; put a part with a dot or a quote in double quotes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn named(object: &str, shown: &str) {
        assert_eq!(TableName::parse(object, "public").unwrap().to_string(), shown);
    }

    #[test]
    fn names_keep_their_case_and_signs() {
        named("pages", r#""public"."pages""#);
        named("Raw.Pages", r#""Raw"."Pages""#);
        named(r#""my.schema"."a ""b""""#, r#""my.schema"."a ""b""""#);
        named("select.from; drop", r#""select"."from; drop""#);
        named(r#"a"b"#, r#""public"."a""b""#);
    }

    #[test]
    fn malformed_names_are_refused() {
        for object in ["", "a.", ".b", "a.b.c", "\"a", "\"a\"b", "a.\0", &"x".repeat(64)] {
            assert!(TableName::parse(object, "public").is_err(), "{object:?}");
        }
        let error = TableName::parse(&format!("a.{}", "é".repeat(32)), "public").unwrap_err();
        assert!(error.to_string().contains("64 bytes"), "{error:?}");
    }

    #[test]
    fn a_staging_name_fits_and_differs_by_table() {
        let one = TableName::parse(&"x".repeat(63), "public").unwrap();
        let two = TableName::parse("y", "public").unwrap();
        assert_eq!(one.stage("_weir", 7).table.len(), STAGE_LENGTH);
        assert_eq!(one.stage("_weir", 7).lock_key_of_stage(), Some(one.lock_key()));
        assert_eq!(one.lock_key_of_stage(), None);
        assert!(STAGE_LENGTH < MAX_NAME - "_pkey".len());
        assert_ne!(one.stage_prefix(), two.stage_prefix());
    }
}
