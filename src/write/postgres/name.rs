//! Names of tables and columns: taken from a replication as they are, quoted wherever they are sent.

use std::fmt;

use crate::error::{Error, Result};
use crate::hash;

/// Bytes that a Postgres server keeps of a name; what is longer it would cut off silently.
pub(crate) const LONGEST: usize = 63;
/// Name of the schema that holds weir's own tables.
pub(crate) const WEIR_SCHEMA: &str = "_weir";
/// What the names of staging tables begin with.
pub(crate) const STAGE: &str = "_weir_stage_";
/// Bytes of such a name: sixteen digits for the table follow, and eight that are random.
pub(crate) const STAGE_LENGTH: usize = STAGE.len() + 16 + 1 + 8;

/// A table's schema and name, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl TableName {
    /// `schema.table`, or `table` in the default schema. Case is kept; a part that holds a dot is
    /// put in double quotes, in which `""` means one.
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

    /// Refuses a table in a schema that is the server's own.
    pub(crate) fn refuse_system(&self) -> Result<()> {
        let schema = &self.schema;
        if !schema.starts_with("pg_") && schema != "information_schema" {
            return Ok(());
        }
        let what = format!("the schema `{schema}` of table {self} is Postgres' own");
        Err(Error::input(what).with_hint("write into a schema of yours: `public`, or a new one"))
    }

    /// Another table of the same schema.
    pub(crate) fn sibling(&self, table: impl Into<String>) -> Self {
        Self { schema: self.schema.clone(), table: table.into() }
    }

    /// A staging table of this one, in another schema.
    pub(crate) fn stage(&self, schema: &str, random: u32) -> Self {
        let table = format!("{}{random:08x}", self.stage_prefix());
        Self { schema: schema.to_owned(), table }
    }

    /// Number under which the table is locked whose staging table this is; `None` when it is none.
    pub(crate) fn lock_key_of_stage(&self) -> Option<i64> {
        let hash = self.table.strip_prefix(STAGE)?.get(..16)?;
        u64::from_str_radix(hash, 16).ok().map(|hash| i64::from_ne_bytes(hash.to_ne_bytes()))
    }

    /// A table of the same schema whose name ends with `suffix`, in place of what is too long for it.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        let most = LONGEST.saturating_sub(suffix.len());
        let most = most.min(self.table.len());
        let end = (0..=most).rev().find(|end| self.table.is_char_boundary(*end)).unwrap_or(0);
        self.sibling(format!("{}{suffix}", self.table.get(..end).unwrap_or(&self.table)))
    }

    /// What the names of this table's staging tables begin with; differs from table to table.
    pub(crate) fn stage_prefix(&self) -> String {
        format!("{STAGE}{:016x}_", self.hash())
    }

    /// Number under which the table is locked.
    pub(crate) fn lock_key(&self) -> i64 {
        i64::from_ne_bytes(self.hash().to_ne_bytes())
    }

    /// FNV-1a, which stays the same between versions and machines.
    fn hash(&self) -> u64 {
        hash::fnv(self.schema.bytes().chain([0]).chain(self.table.bytes()))
    }
}

/// Both parts quoted: how it is sent, and how it is shown.
impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// An identifier in double quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal, whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Identifiers in double quotes, with commas between.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    names.join(", ")
}

/// Refuses a name that Postgres would not keep as it is.
pub(crate) fn check(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::input(format!("the name of a {what} is empty")));
    }
    if name.contains('\0') {
        return Err(Error::input(format!("the name of a {what} holds a NUL character")));
    }
    if name.len() > LONGEST {
        let length = name.len();
        let what = format!("the name of the {what} `{name}` is {length} bytes long");
        return Err(Error::input(what)
            .with_hint(format!("Postgres keeps {LONGEST} bytes of a name: choose a shorter one")));
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

/// The first part and what follows it; `None` when its quote is not closed.
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
    Error::input(format!("`{object}` is no table name: {why}")).with_hint(
        "write `schema.table` or `table`; put a part that holds a dot or a quote in double quotes",
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
    fn what_is_no_name_is_refused() {
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
        assert!(STAGE_LENGTH < LONGEST - "_pkey".len());
        assert_ne!(one.stage_prefix(), two.stage_prefix());
    }
}
