//! Kinds of connections.

use std::fmt;

use serde::Serialize;

/// Kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionKind {
    /// An API that a spec declares.
    Api,
    /// A Postgres database.
    Postgres,
    /// Files, on local disk or in an object store.
    Files,
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Api => "api",
            Self::Postgres => "postgres",
            Self::Files => "files",
        })
    }
}

/// The kind of connection of a URL. Includes forms of other programs, which weir explains when they
/// are used.
pub(super) fn kind_of_url(text: &str) -> Option<ConnectionKind> {
    let (scheme, _) = text.split_once("://")?;
    match scheme {
        "postgres" | "postgresql" | "jdbc:postgresql" => Some(ConnectionKind::Postgres),
        driver if driver.starts_with("postgresql+") => Some(ConnectionKind::Postgres),
        "file" | "s3" | "gs" | "az" => Some(ConnectionKind::Files),
        _ => None,
    }
}

/// The error about a connection without `type`. It shows only the scheme of its URL.
pub(super) fn without_kind(url: Option<&str>) -> String {
    let scheme = url.and_then(|url| url.split_once("://")).map(|(scheme, _)| scheme);
    let is_word = |scheme: &&str| scheme.chars().all(|letter| letter.is_ascii_alphanumeric());
    match scheme.filter(is_word) {
        Some(scheme) => format!(
            "weir cannot use `{scheme}://`; it writes to postgres://, s3://, gs://, az:// and file://"
        ),
        None => "`type` is missing: api, postgres or files".to_owned(),
    }
}

/// The properties that hold paths.
pub(super) const fn paths(kind: ConnectionKind) -> &'static [&'static str] {
    match kind {
        ConnectionKind::Api => &["spec"],
        ConnectionKind::Files => &["url", "path"],
        ConnectionKind::Postgres => &["sslrootcert"],
    }
}
