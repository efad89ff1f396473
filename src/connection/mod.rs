//! Named access to APIs, databases and stores: where connections come from and what they hold.
//!
//! A connection is a few properties. They come, in this order, from an environment variable of its
//! name, a file of variables such as `.env`, the connections file, or a replication's `env`. This module
//! reads files only where a property says so (`file:`) and the environment not at all: callers hand it
//! over.

mod elsewhere;
mod env_file;
mod fields;
mod find;
mod place;
mod property;
mod reference;
mod schema;
mod store;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde::{Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::secret::{Secret, hide};
use crate::spec::EMBEDDED;
use crate::yaml::{Document, Node, NodeValue, Place};

pub use elsewhere::{Elsewhere, Outside, elsewhere_in, elsewhere_in_file};
pub use env_file::EnvFile;
pub use fields::{api_fields, lacking_fields};
pub use find::Connections;
pub use place::Base;
pub use property::{FileLock, lock};
pub use reference::{Reference, interpolated};
pub use schema::json_schema;
pub use store::{exposed, remove, save, stored};

/// Environment variables, by name.
pub type Environment = BTreeMap<String, String>;

/// Name of the connection that is always there: files below the replication's folder, else below the
/// current one.
pub const LOCAL: &str = "LOCAL";

/// Named access to something.
#[derive(Clone)]
pub struct Connection {
    /// Name, as it was defined.
    pub name: String,
    /// Where it was defined.
    pub origin: Origin,
    /// The file in which it was defined, where it was a file.
    pub file: Option<PathBuf>,
    /// What it leads to.
    pub kind: ConnectionKind,
    /// Its properties, `type` aside; any may be secret.
    pub properties: IndexMap<String, Secret>,
    /// Values of the spec's inputs, where the replication sets none.
    pub inputs: IndexMap<String, Value>,
    /// Those of them that stand elsewhere, until [`Connection::fetched`]: the property itself holds the
    /// reference till then.
    pub elsewhere: IndexMap<String, Reference>,
    /// By what its paths go.
    base: Base,
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
    /// A file of variables: `.env`, or one that the command line names.
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

    /// Whether a command must be run for its values.
    pub fn has_commands(&self) -> bool {
        self.elsewhere.values().any(|one| matches!(one, Reference::Command(_)))
    }

    /// Reads the files in which values stand, to see whether they are there; runs nothing.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn check_files(&self) -> Result<()> {
        let mut all = self.elsewhere.iter();
        all.try_for_each(|(key, reference)| match reference {
            Reference::Command(_) => Ok(()),
            Reference::File(_) => reference
                .fetch()
                .map(drop)
                .map_err(|error| error.within(format!("connection `{}`: `{key}`", self.name))),
        })
    }

    /// The connection with the values that stand elsewhere: reads files and runs commands. Reading and
    /// finding connections does neither.
    ///
    /// # Errors
    /// A file cannot be read, a command fails.
    pub fn fetched(mut self) -> Result<Self> {
        for (key, reference) in std::mem::take(&mut self.elsewhere) {
            let named = |error: Error| error.within(format!("connection `{}`: `{key}`", self.name));
            let value = reference.fetch().map_err(named)?;
            // Which fields of an API are secret, its spec says.
            if self.kind != ConnectionKind::Api {
                hide(&value);
            }
            let mut value = Secret::new(value);
            if paths(self.kind).contains(&key.as_str()) {
                value = placed(&key, &value, &self.base)?;
            }
            self.properties.insert(key, value);
        }
        Ok(self)
    }

    /// Reads the value of a variable or of an entry of the connections file: a URL, or a mapping with
    /// `type`.
    pub fn read(name: &str, text: &str, context: &Context<'_>) -> Result<Self> {
        let whole = text.trim();
        if let Some(kind) = kind_of_url(whole) {
            return Self::with_url(name, kind, whole, context);
        }
        let document = Document::parse_private(&context.place(name), whole)?;
        // Whatever it holds, no key may stand twice.
        document.read::<IgnoredAny>()?;
        Self::from_node(name, document.root(), context)
    }

    fn with_url(
        name: &str,
        kind: ConnectionKind,
        url: &str,
        context: &Context<'_>,
    ) -> Result<Self> {
        let mut url = Secret::new(interpolated(url, context.variables).map_err(Error::input)?);
        if kind == ConnectionKind::Files {
            url = placed("url", &url, &context.base)?;
        }
        let properties = IndexMap::from([("url".to_owned(), url)]);
        Ok(Self::new(name, kind, properties, context))
    }

    fn new(
        name: &str,
        kind: ConnectionKind,
        properties: IndexMap<String, Secret>,
        context: &Context<'_>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            origin: context.origin,
            file: context.file.map(Path::to_path_buf),
            kind,
            properties,
            elsewhere: IndexMap::new(),
            base: context.base.clone(),
            inputs: IndexMap::new(),
            simulate: None,
        }
    }

    fn from_node(name: &str, node: &Node, context: &Context<'_>) -> Result<Self> {
        let wrong = |what: String| {
            Error::input(format!("{}: {what}", context.place(name))).with_hint(
                "a connection is a URL (`postgres://…`, `s3://…`, `file:///…`) or a mapping: `{type: api, spec: …}`",
            )
        };
        let entries = match &node.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Text(text) => {
                let kind =
                    kind_of_url(text).ok_or_else(|| wrong("this is no known URL".to_owned()))?;
                return Self::with_url(name, kind, text, context);
            }
            _ => return Err(wrong("this is no connection".to_owned())),
        };
        let mut found = Self::new(name, ConnectionKind::Api, IndexMap::new(), context);
        for (key, _, value) in entries {
            match key.as_str() {
                "simulate" => found.simulate = Some(value.to_json()),
                "inputs" => {
                    for (key, _, value) in mapping(&context.place(name), key, value)? {
                        found.inputs.insert(key, filled(value, context)?.to_json());
                    }
                }
                _ => {}
            }
        }
        for (key, value) in fields_of(&context.place(name), entries)? {
            found.add(&key, &value, context)?;
        }
        let kind = found.properties.shift_remove("type");
        found.kind = match kind.as_ref().map(Secret::expose) {
            Some("api") => ConnectionKind::Api,
            Some("postgres" | "postgresql") => ConnectionKind::Postgres,
            Some("files" | "file") => ConnectionKind::Files,
            Some(_) => return Err(wrong("`type` is none of api, postgres, files".to_owned())),
            None if found.properties.contains_key("spec") => ConnectionKind::Api,
            None => {
                let url = found.property("url");
                url.and_then(kind_of_url).ok_or_else(|| wrong(without_kind(url)))?
            }
        };
        if found.kind != ConnectionKind::Api && !found.inputs.is_empty() {
            return Err(wrong("only a connection to an API has `inputs`".to_owned()));
        }
        found.place()?;
        Ok(found)
    }

    /// Adds a property.
    fn add(&mut self, key: &str, value: &Node, context: &Context<'_>) -> Result<()> {
        let wrong = |what: String| Error::input(format!("{}: {what}", context.place(&self.name)));
        let text = scalar(value).ok_or_else(|| {
            wrong(format!("`{key}` holds a mapping or a list, and one value belongs there"))
        })?;
        let (text, reference) = reference::meant(&text, context)
            .map_err(|error| error.within(format!("connection `{}`: `{key}`", self.name)))?;
        self.elsewhere.extend(reference.map(|reference| (key.to_owned(), reference)));
        if self.properties.insert(key.to_owned(), Secret::new(text)).is_some() {
            return Err(wrong(format!("`{key}` is there twice")));
        }
        Ok(())
    }

    /// Makes its paths whole; those that stand elsewhere once they are fetched.
    fn place(&mut self) -> Result<()> {
        for key in paths(self.kind).iter().filter(|key| !self.elsewhere.contains_key(**key)) {
            if let Some(value) = self.properties.get_mut(*key) {
                *value = placed(key, value, &self.base)?;
            }
        }
        Ok(())
    }
}

/// The properties that hold paths.
const fn paths(kind: ConnectionKind) -> &'static [&'static str] {
    match kind {
        ConnectionKind::Api => &["spec"],
        ConnectionKind::Files => &["url", "path"],
        ConnectionKind::Postgres => &["sslrootcert"],
    }
}

/// A path made whole, unless it is the name of a spec that comes with weir.
fn placed(key: &str, value: &Secret, base: &Base) -> Result<Secret> {
    let text = value.expose();
    let misspelt = text.contains(":/") || text.contains('@') && text.contains(':');
    if misspelt && key != "spec" && !text.contains("://") && !text.starts_with(['.', '/', '~']) {
        let what = format!("`{key}` looks like a URL with a mistake");
        return Err(Error::input(what)
            .with_hint("write `s3://bucket/prefix`, or a path with `./` before it"));
    }
    let shipped = EMBEDDED.iter().any(|(name, _)| *name == value.expose());
    if shipped && key == "spec" {
        Ok(value.clone())
    } else {
        base.place(value.expose()).map(Secret::new)
    }
}

/// Where a definition stands, and what its values may refer to.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The kind of place.
    pub origin: Origin,
    /// The file, where it is one.
    pub file: Option<&'a Path>,
    /// By what its paths go.
    pub base: Base,
    /// The variables that `${NAME}` may name.
    pub variables: &'a Environment,
}

impl Context<'_> {
    /// A connection and where it stands, for a message.
    fn place(&self, name: &str) -> String {
        match self.file {
            Some(file) => format!("connection `{name}` ({})", file.display()),
            None => format!("connection `{name}` ({})", self.origin),
        }
    }
}

/// The fields of a connection's entries: those in `secrets`, too.
fn fields_of(place: &str, entries: &[(String, Place, Node)]) -> Result<Vec<(String, Node)>> {
    let mut fields = Vec::new();
    for (key, _, value) in entries {
        match key.as_str() {
            "simulate" | "inputs" => {}
            "secrets" => {
                let within = mapping(place, key, value)?;
                fields.extend(within.into_iter().map(|(key, _, value)| (key, value)));
            }
            _ => fields.push((key.clone(), value.clone())),
        }
    }
    Ok(fields)
}

/// The entries of a mapping that stands in a text, as `secrets='{token: …}'` has it.
pub fn mapping_in(key: &str, text: &str) -> Result<IndexMap<String, Value>> {
    let node = Node::text(text);
    let entries = mapping("conns set", key, &node)?;
    Ok(entries.into_iter().map(|(key, _, value)| (key, value.to_json())).collect())
}

/// The entries of a mapping, which may also stand in a text: `secrets='{token: …}'`.
fn mapping(place: &str, key: &str, node: &Node) -> Result<Vec<(String, Place, Node)>> {
    let document;
    let node = match &node.value {
        NodeValue::Text(text) => {
            document = Document::parse_private(&format!("{place}: `{key}`"), text)?;
            document.read::<IgnoredAny>()?;
            document.root()
        }
        _ => node,
    };
    match &node.value {
        NodeValue::Map(entries) => Ok(entries.clone()),
        NodeValue::Null => Ok(Vec::new()),
        _ => Err(Error::input(format!("{place}: `{key}` is no mapping: {key}: {{ name: value }}"))),
    }
}

/// A value with its `${NAME}`s filled in.
fn filled(mut node: Node, context: &Context<'_>) -> Result<Node> {
    let mut wrong = Vec::new();
    let fill =
        |text: &str| text.contains("${").then(|| interpolated(text, context.variables)).transpose();
    node.map_texts(&fill, &mut Vec::new(), &mut wrong);
    wrong.into_iter().next().map_or(Ok(node), |(_, why)| Err(Error::input(why)))
}

/// What somebody gave as the name of a connection, or of a file, as it may be shown: of a URL no login, and no
/// more than the first word of what may be one with a mistake.
pub fn shown_name(text: &str) -> String {
    if kind_of_url(text).is_some() {
        return without_login(text);
    }
    if !is_access(text) {
        return text.to_owned();
    }
    let word: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    format!("{word}…")
}

/// Whether a text is in all likelihood no name and no path, but a way to a database with what it takes to use
/// it: a URL, perhaps misspelt, `key=value`, or a mapping.
pub fn is_access(text: &str) -> bool {
    let path = text.starts_with(['.', '/', '~']);
    let signs = ["://", ":/", "@", "=", "{"];
    signs.iter().any(|sign| text.contains(sign)) && !path
        || path && text.contains('@') && text.contains(':')
        || text.starts_with("postgres") && text.contains(':')
}

/// A URL, host or path without user, password and parameters.
pub fn without_login(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + "://".len()),
        None if text.contains('@') => ("", text),
        None => return text.to_owned(),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{}", host.trim_end_matches('/'))
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

/// What is wrong with a connection that has no `type`; only the scheme of its URL is told.
fn without_kind(url: Option<&str>) -> String {
    let scheme = url.and_then(|url| url.split_once("://")).map(|(scheme, _)| scheme);
    let is_word = |scheme: &&str| scheme.chars().all(|letter| letter.is_ascii_alphanumeric());
    match scheme.filter(is_word) {
        Some(scheme) => format!(
            "weir cannot use `{scheme}://`; it writes to postgres://, s3://, gs://, az:// and file://"
        ),
        None => "`type` is missing: api, postgres or files".to_owned(),
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
