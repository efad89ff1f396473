//! Named access to APIs, databases and stores: where connections come from and what they hold.
//!
//! A connection is a few properties. They come, in this order, from an environment variable of its
//! name, a `.env` file, the connections file, or a replication's `env`. This module reads files only
//! where a property says so (`file:`) and the environment not at all: callers hand it over.

mod fields;
mod property;
mod reference;
mod schema;
mod store;

use std::{collections::BTreeMap, fmt};

use indexmap::IndexMap;
use serde::{Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::yaml::{Document, Node, NodeValue, suggest};

pub use fields::api_fields;
pub use property::{FileLock, lock};
pub use reference::interpolated;
pub use schema::json_schema;
pub use store::{exposed, remove, save, stored};

/// Environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// Name of the connection that is always there: files below the working directory.
pub const LOCAL: &str = "LOCAL";

/// Named access to something.
#[derive(Clone)]
pub struct Connection {
    /// Name, as it was defined.
    pub name: String,
    /// Where it was defined.
    pub origin: Origin,
    /// What it leads to.
    pub kind: ConnectionKind,
    /// Its properties, `type` aside; any may be secret.
    pub properties: IndexMap<String, Secret>,
    /// Settings of a simulated API, in place of a real one.
    pub simulate: Option<Value>,
}

/// What a connection leads to.
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

/// Where a connection was defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An environment variable.
    Environment,
    /// The `.env` file.
    DotEnv,
    /// The connections file.
    File,
    /// The `env` of the replication.
    Replication,
    /// weir itself.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Environment => "environment",
            Self::DotEnv => ".env",
            Self::File => "connections file",
            Self::Replication => "replication",
            Self::BuiltIn => "built in",
        })
    }
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

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let properties: Vec<&String> = self.properties.keys().collect();
        write!(formatter, "Connection({}, {}, {properties:?})", self.name, self.kind)
    }
}

impl Connection {
    /// The value of a property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(Secret::expose)
    }

    /// Reads the value of a variable or of an entry of the connections file: a URL, or a mapping with
    /// `type`.
    pub fn read(name: &str, origin: Origin, text: &str, environment: &Environment) -> Result<Self> {
        let whole = text.trim();
        let place = format!("connection `{name}` ({origin})");
        if let Some(kind) = kind_of_url(whole) {
            let url = Secret::new(reference::resolved(whole, environment)?);
            return Ok(Self::with_url(name, origin, kind, url));
        }
        let document = Document::parse_private(&place, whole)?;
        // Whatever it holds, no key may stand twice.
        document.read::<IgnoredAny>()?;
        Self::from_node(name, origin, document.root(), environment)
    }

    fn with_url(name: &str, origin: Origin, kind: ConnectionKind, url: Secret) -> Self {
        let properties = IndexMap::from([("url".to_owned(), url)]);
        Self { name: name.to_owned(), origin, kind, properties, simulate: None }
    }

    fn from_node(
        name: &str,
        origin: Origin,
        node: &Node,
        environment: &Environment,
    ) -> Result<Self> {
        let wrong = |what: String| {
            Error::input(format!("connection `{name}` ({origin}): {what}")).with_hint(
                "a connection is a URL (`postgres://…`, `s3://…`, `file:///…`) or a mapping: `{type: api, spec: …}`",
            )
        };
        let entries = match &node.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Text(text) => {
                let kind =
                    kind_of_url(text).ok_or_else(|| wrong("this is no known URL".to_owned()))?;
                let url = Secret::new(reference::resolved(text, environment)?);
                return Ok(Self::with_url(name, origin, kind, url));
            }
            _ => return Err(wrong("this is no connection".to_owned())),
        };
        let mut properties = IndexMap::new();
        let mut simulate = None;
        for (key, _, value) in entries {
            if key == "simulate" {
                simulate = Some(value.to_json());
                continue;
            }
            let text = scalar(value).ok_or_else(|| wrong(format!("`{key}` is no text")))?;
            let resolved = reference::resolved(&text, environment)
                .map_err(|error| error.within(format!("connection `{name}`: `{key}`")))?;
            properties.insert(key.clone(), Secret::new(resolved));
        }
        let kind = properties.shift_remove("type");
        let kind = match kind.as_ref().map(Secret::expose) {
            Some("api") => ConnectionKind::Api,
            Some("postgres" | "postgresql") => ConnectionKind::Postgres,
            Some("files" | "file") => ConnectionKind::Files,
            Some(_) => return Err(wrong("`type` is none of api, postgres, files".to_owned())),
            None if properties.contains_key("spec") => ConnectionKind::Api,
            None => {
                let url = properties.get("url").and_then(|url| kind_of_url(url.expose()));
                url.ok_or_else(|| wrong("`type` is missing: api, postgres or files".to_owned()))?
            }
        };
        Ok(Self { name: name.to_owned(), origin, kind, properties, simulate })
    }
}

/// All places from which connections come.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// The process's environment.
    pub environment: Environment,
    /// The variables of `.env`.
    pub dot_env: Environment,
    /// Path and text of the connections file.
    pub file: Option<(String, String)>,
    /// The `env` of the replication.
    pub replication: Environment,
}

impl Connections {
    /// The variables that `${NAME}` may name, the process's own first.
    pub fn variables(&self) -> Environment {
        let mut all = self.replication.clone();
        all.extend(self.dot_env.clone());
        all.extend(self.environment.clone());
        all
    }

    /// The connection of this name, in any case.
    ///
    /// # Errors
    /// There is none, or its definition is wrong.
    pub fn find(&self, name: &str) -> Result<Connection> {
        let variables = self.variables();
        let before = [(Origin::Environment, &self.environment), (Origin::DotEnv, &self.dot_env)];
        for (origin, source) in before {
            if let Some(found) = find_in(source, name, origin, &variables) {
                return found;
            }
        }
        for (known, node) in self.entries()? {
            if known.eq_ignore_ascii_case(name) {
                return Connection::from_node(&known, Origin::File, &node, &variables);
            }
        }
        if let Some(found) = find_in(&self.replication, name, Origin::Replication, &variables) {
            return found;
        }
        if name.eq_ignore_ascii_case(LOCAL) {
            let url = Secret::new(".");
            return Ok(Connection::with_url(LOCAL, Origin::BuiltIn, ConnectionKind::Files, url));
        }
        let names = self.names()?;
        let error = Error::input(format!("there is no connection `{name}`"));
        let hint = suggest(name, names.iter().map(String::as_str));
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        Err(error.with_hint(format!("define it: weir conns set {name} type=…{hint}")))
    }

    /// Every connection that is defined, with the error of those that are defined wrongly.
    pub fn all(&self) -> Result<Vec<(String, Result<Connection>)>> {
        let names = self.names()?;
        Ok(names.into_iter().map(|name| (name.clone(), self.find(&name))).collect())
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for source in [&self.environment, &self.dot_env, &self.replication] {
            let like = source.iter().filter(|(_, value)| looks_like_connection(value));
            names.extend(like.map(|(name, _)| name.clone()));
        }
        names.extend(self.entries()?.into_iter().map(|(name, _)| name));
        names.push(LOCAL.to_owned());
        names.sort_by_key(|name| name.to_uppercase());
        names.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
        Ok(names)
    }

    /// The entries of the connections file.
    fn entries(&self) -> Result<Vec<(String, Node)>> {
        let Some((path, text)) = &self.file else { return Ok(Vec::new()) };
        let document = Document::parse_private(path, text)?;
        // Whatever it holds, no key may stand twice.
        document.read::<IgnoredAny>()?;
        match document.root().get("connections").map(|node| &node.value) {
            Some(NodeValue::Map(entries)) => {
                Ok(entries.iter().map(|(name, _, node)| (name.clone(), node.clone())).collect())
            }
            Some(NodeValue::Null) => Ok(Vec::new()),
            None if document.root().value == NodeValue::Null => Ok(Vec::new()),
            _ => Err(Error::input(format!("`{path}` has no mapping `connections`"))),
        }
    }
}

fn find_in(
    source: &Environment,
    name: &str,
    origin: Origin,
    variables: &Environment,
) -> Option<Result<Connection>> {
    let (known, text) = source
        .get_key_value(name)
        .or_else(|| source.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))?;
    Some(Connection::read(known, origin, text, variables))
}

fn looks_like_connection(value: &str) -> bool {
    let value = value.trim();
    let keys = ["type:", "spec:", "\"type\"", "\"spec\""];
    let mapping = value.starts_with('{') && keys.iter().any(|key| value.contains(key));
    mapping || kind_of_url(value).is_some()
}

/// What a URL leads to; forms of other programs, which are explained when they are used, included.
fn kind_of_url(text: &str) -> Option<ConnectionKind> {
    let (scheme, _) = text.split_once("://")?;
    match scheme {
        "postgres" | "postgresql" | "jdbc:postgresql" => Some(ConnectionKind::Postgres),
        driver if driver.starts_with("postgresql+") => Some(ConnectionKind::Postgres),
        "file" | "s3" | "gs" | "az" => Some(ConnectionKind::Files),
        _ => None,
    }
}

fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        NodeValue::Text(text) => Some(text.clone()),
        NodeValue::Int(number) => Some(number.to_string()),
        NodeValue::UInt(number) => Some(number.to_string()),
        NodeValue::Float(number) => Some(number.to_string()),
        NodeValue::Bool(flag) => Some(flag.to_string()),
        NodeValue::Null => Some(String::new()),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn connections() -> Connections {
        Connections {
            environment: environment(&[
                ("WIKI", "{type: api, spec: wiki, token: '${TOKEN}'}"),
                ("TOKEN", "t0ken"),
                ("PATH", "/usr/bin"),
            ]),
            dot_env: environment(&[("WIKI", "postgres://not/this"), ("PG", "postgres://u:p@h/db")]),
            file: Some((
                "connections.yaml".to_owned(),
                "connections:\n  OUT: { type: files, url: out }\n  BAD: 7\n".to_owned(),
            )),
            replication: environment(&[("demo", "{spec: wiki, simulate: {pages: 3}}")]),
        }
    }

    #[test]
    fn the_environment_comes_first_and_values_are_filled_in() {
        let wiki = connections().find("wiki").unwrap();
        assert_eq!((wiki.origin, wiki.kind), (Origin::Environment, ConnectionKind::Api));
        assert_eq!(wiki.property("token"), Some("t0ken"));
        assert!(!format!("{wiki:?}").contains("t0ken"));
        assert_eq!(connections().find("PG").unwrap().kind, ConnectionKind::Postgres);
        assert_eq!(connections().find("out").unwrap().property("url"), Some("out"));
        let demo = connections().find("DEMO").unwrap();
        assert_eq!(demo.simulate, Some(serde_json::json!({ "pages": 3 })));
        assert_eq!(connections().find("local").unwrap().property("url"), Some("."));
    }

    #[test]
    fn what_is_unknown_or_wrong_is_said() {
        let error = connections().find("WIKKI").unwrap_err();
        assert!(error.hint().unwrap().contains("did you mean `WIKI`"), "{error:?}");
        assert!(connections().find("BAD").is_err());
        let twice = "{type: files, url: here, url: there}";
        let error = Connection::read("X", Origin::DotEnv, twice, &Environment::new()).unwrap_err();
        assert!(error.chain().contains("`url` is there twice"), "{error:?}");
        let listed = connections().all().unwrap();
        let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["BAD", "demo", "LOCAL", "OUT", "PG", "WIKI"]);
    }
}
