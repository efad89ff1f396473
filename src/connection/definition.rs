//! A connection, and how its definition is read.

use std::fmt;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::connection::entry::{fields_of, filled, mapping, scalar};
use crate::connection::kind::{ConnectionKind, kind_of_url, paths, without_kind};
use crate::connection::origin::{Context, Origin};
use crate::connection::place::Base;
use crate::connection::reference::{self, Reference, interpolated};
use crate::error::{Error, Result};
use crate::secret::{Secret, hide};
use crate::spec::EMBEDDED;
use crate::yaml::{Document, Node, NodeValue};

/// Name of the built-in connection: files below the replication's folder, or below the current
/// folder if there is no replication.
pub const LOCAL: &str = "LOCAL";

/// Named access to an API, a database or a store of files.
#[derive(Clone)]
pub struct Connection {
    /// Name, as defined.
    pub name: String,
    /// Where it was defined.
    pub origin: Origin,
    /// The file in which it was defined, if it was a file.
    pub file: Option<PathBuf>,
    /// Its kind.
    pub kind: ConnectionKind,
    /// Its properties except `type`; any of them may be secret.
    pub properties: IndexMap<String, Secret>,
    /// Values of the spec's inputs that the replication does not set.
    pub inputs: IndexMap<String, Value>,
    /// References among the properties, until [`Connection::fetched`] resolves them. Until then,
    /// the property holds the text of the reference.
    pub elsewhere: IndexMap<String, Reference>,
    /// The base of its relative paths.
    base: Base,
    /// Settings of a simulated API that replaces the real one.
    pub simulate: Option<Value>,
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

    /// Whether any of its values is the output of a command.
    pub fn has_commands(&self) -> bool {
        self.elsewhere.values().any(|one| matches!(one, Reference::Command(_)))
    }

    /// Checks that the files with its values can be read; runs no command.
    ///
    /// # Errors
    /// A file cannot be read.
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

    /// Resolves the references: reads files and runs commands. Reading and finding connections does
    /// neither.
    ///
    /// # Errors
    /// A file cannot be read, or a command fails.
    pub fn fetched(mut self) -> Result<Self> {
        for (key, reference) in std::mem::take(&mut self.elsewhere) {
            let named = |error: Error| error.within(format!("connection `{}`: `{key}`", self.name));
            let value = reference.fetch().map_err(named)?;
            // For an API, its spec declares which fields are secret.
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

    /// Reads a definition, from a variable or an entry of the connections file: a URL, or a mapping
    /// with `type`.
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

    pub(super) fn with_url(
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

    pub(super) fn new(
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

    pub(super) fn from_node(name: &str, node: &Node, context: &Context<'_>) -> Result<Self> {
        let wrong = |what: String| {
            Error::input(format!("{}: {what}", context.place(name))).with_hint(
                "a connection is a URL (`postgres://…`, `s3://…`, `file:///…`) or a mapping: `{type: api, spec: …}`",
            )
        };
        let entries = match &node.value {
            NodeValue::Map(entries) => entries,
            NodeValue::Text(text) => {
                let kind = kind_of_url(text)
                    .ok_or_else(|| wrong("this is not a supported URL".to_owned()))?;
                return Self::with_url(name, kind, text, context);
            }
            _ => return Err(wrong("this is not a connection".to_owned())),
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
            Some(_) => return Err(wrong("`type` must be api, postgres or files".to_owned())),
            None if found.properties.contains_key("spec") => ConnectionKind::Api,
            None => {
                let url = found.property("url");
                url.and_then(kind_of_url).ok_or_else(|| wrong(without_kind(url)))?
            }
        };
        if found.kind != ConnectionKind::Api && !found.inputs.is_empty() {
            return Err(wrong("only connections to APIs have `inputs`".to_owned()));
        }
        found.place()?;
        Ok(found)
    }

    /// Adds a property.
    fn add(&mut self, key: &str, value: &Node, context: &Context<'_>) -> Result<()> {
        let wrong = |what: String| Error::input(format!("{}: {what}", context.place(&self.name)));
        let text = scalar(value).ok_or_else(|| {
            wrong(format!("`{key}` must be a single value, not a mapping or a list"))
        })?;
        let (text, reference) = reference::meant(&text, context)
            .map_err(|error| error.within(format!("connection `{}`: `{key}`", self.name)))?;
        self.elsewhere.extend(reference.map(|reference| (key.to_owned(), reference)));
        if self.properties.insert(key.to_owned(), Secret::new(text)).is_some() {
            return Err(wrong(format!("`{key}` is set twice")));
        }
        Ok(())
    }

    /// Resolves its relative paths. References are resolved after they are fetched.
    fn place(&mut self) -> Result<()> {
        for key in paths(self.kind).iter().filter(|key| !self.elsewhere.contains_key(**key)) {
            if let Some(value) = self.properties.get_mut(*key) {
                *value = placed(key, value, &self.base)?;
            }
        }
        Ok(())
    }
}

/// Resolves a relative path, unless it is the name of an included spec.
fn placed(key: &str, value: &Secret, base: &Base) -> Result<Secret> {
    let text = value.expose();
    let misspelt = text.contains(":/") || text.contains('@') && text.contains(':');
    if misspelt && key != "spec" && !text.contains("://") && !text.starts_with(['.', '/', '~']) {
        let what = format!("`{key}` looks like a misspelt URL");
        return Err(
            Error::input(what).with_hint("write `s3://bucket/prefix`, or begin a path with `./`")
        );
    }
    let shipped = EMBEDDED.iter().any(|(name, _)| *name == value.expose());
    if shipped && key == "spec" {
        Ok(value.clone())
    } else {
        base.place(value.expose()).map(Secret::new)
    }
}
