//! The sources of connections, and lookup by name.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::de::IgnoredAny;

use crate::connection::definition::{Connection, LOCAL};
use crate::connection::env_file::{EnvFile, Environment};
use crate::connection::kind::{ConnectionKind, kind_of_url};
use crate::connection::origin::{Context, Origin};
use crate::connection::place::Base;
use crate::connection::shown::{is_access, shown_name, without_login};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::write::files::with_variables;
use crate::yaml::{Document, Node, NodeValue, suggest};

/// The sources of connections.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    /// The process's environment.
    pub environment: Environment,
    /// Files of variables and of connections; the first file with a name takes precedence.
    pub files: Vec<EnvFile>,
    /// The `env` of the replication, after substitution of its variables.
    pub replication: Environment,
    /// The `env` as written, before substitution. Connections are defined by it: otherwise the
    /// value of a variable could pass for a `command:`.
    pub definitions: Environment,
    /// The replication's file.
    pub replication_file: Option<PathBuf>,
    /// The user's home folder.
    pub home: Option<PathBuf>,
}

impl Connections {
    /// The variables available as `${NAME}`. The process's environment takes precedence.
    pub fn variables(&self) -> Environment {
        let mut all = self.replication.clone();
        for file in self.files.iter().rev() {
            all.extend(file.variables.clone());
        }
        all.extend(self.environment.clone());
        all
    }

    /// The file that sets a variable; `None` if the process's environment sets it.
    pub fn file_of_variable(&self, name: &str) -> Option<&Path> {
        if self.environment.contains_key(name) {
            return None;
        }
        let file = self.files.iter().find(|file| file.variables.contains_key(name));
        let replication = || self.replication_file.as_deref();
        let replicated = self.replication.contains_key(name);
        file.map(|file| file.path.as_path()).or_else(|| replication().filter(|_| replicated))
    }

    /// Whether a file defines a connection with this name.
    pub fn is_entry(&self, name: &str, path: &Path) -> bool {
        let file = self.files.iter().find(|file| file.path == path);
        let entries = file.and_then(|file| entries(file).ok()).unwrap_or_default();
        entries.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// The base of relative paths in a file, or outside files.
    pub fn base(&self, file: Option<&Path>) -> Base {
        let folder = file.and_then(Path::parent).map(Path::to_path_buf).unwrap_or_default();
        Base { folder, home: self.home.clone() }
    }

    /// Finds the connection with this name (case-insensitive) or URL. The connection of an object
    /// store also gets the values of the store's usual environment variables.
    ///
    /// # Errors
    /// There is none, or its definition is invalid.
    pub fn find(&self, name: &str) -> Result<Connection> {
        let variables = self.variables();
        let mut found = self.defined(name, &variables)?;
        if found.kind == ConnectionKind::Files {
            let root = found.property("url").or_else(|| found.property("path"));
            let root = root.unwrap_or_default().to_owned();
            found.properties = with_variables(&root, found.properties, &variables);
        }
        Ok(found)
    }

    fn defined(&self, name: &str, variables: &Environment) -> Result<Connection> {
        let context = |origin, file| Context { origin, file, base: self.base(file), variables };
        let replication = self.replication_file.as_deref();
        if let Some(kind) = kind_of_url(name) {
            let context = context(Origin::Replication, replication);
            return Connection::with_url(&without_login(name), kind, name, &context);
        }
        if let Some((known, text)) = find_in(&self.environment, name) {
            return Connection::read(known, text, &context(Origin::Environment, None));
        }
        for file in &self.files {
            let path = Some(file.path.as_path());
            if let Some(found) =
                defined_by(&file.definitions, &file.variables, name, &context(Origin::DotEnv, path))
            {
                return found;
            }
            let mut entries = entries(file)?.into_iter();
            if let Some((known, node)) = entries.find(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                return Connection::from_node(&known, &node, &context(Origin::File, path));
            }
        }
        if let Some(found) = defined_by(
            &self.definitions,
            &self.replication,
            name,
            &context(Origin::Replication, replication),
        ) {
            return found;
        }
        if name.eq_ignore_ascii_case(LOCAL) {
            let context = Context { file: None, ..context(Origin::BuiltIn, replication) };
            let url = Secret::new(context.base.place(".")?);
            let properties = IndexMap::from([("url".to_owned(), url)]);
            return Ok(Connection::new(LOCAL, ConnectionKind::Files, properties, &context));
        }
        if name.contains("://") {
            let what = format!("`{}` is not the URL of a database or store", without_login(name));
            return Err(Error::input(what).with_hint(
                "databases are `postgres://…`, stores `s3://…`, `gs://…`, `az://…` or `file:///…`; an API \
                 needs a connection: weir conns set --help",
            ));
        }
        let error = Error::input(format!("there is no connection `{}`", shown_name(name)));
        if name.starts_with('{') {
            return Err(error.with_hint(
                "`source`, `target` and `state` take a connection's name; put the mapping in quotes under `env`, \
                 or in an environment variable of that name",
            ));
        }
        if is_access(name) {
            return Err(error
                .with_hint("this looks like a misspelt URL: write `postgres://user:…@host/db`"));
        }
        if name.starts_with(['~', '.', '/', '$']) {
            let what = format!("`{name}` is a path, but this must be the name of a connection");
            let hint = format!(
                "define a connection for the folder: weir conns set OUT type=files url={name}"
            );
            return Err(Error::input(what).with_hint(hint));
        }
        let names = self.names()?;
        let hint = suggest(name, names.iter().map(String::as_str));
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        Err(error.with_hint(format!("define it: weir conns set {name} type=…{hint}")))
    }

    /// All defined connections; invalid ones as errors.
    pub fn all(&self) -> Result<Vec<(String, Result<Connection>)>> {
        let names = self.names()?;
        Ok(names.into_iter().map(|name| (name.clone(), self.find(&name))).collect())
    }

    fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        let files = self.files.iter().map(|file| &file.variables);
        for source in [&self.environment, &self.replication].into_iter().chain(files) {
            let like = source.iter().filter(|(_, value)| looks_like_connection(value));
            names.extend(like.map(|(name, _)| name.clone()));
        }
        for file in &self.files {
            names.extend(entries(file)?.into_iter().map(|(name, _)| name));
        }
        names.push(LOCAL.to_owned());
        names.sort_by_key(|name| name.to_uppercase());
        names.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
        Ok(names)
    }
}

/// The entries of a file of connections.
pub(super) fn entries(file: &EnvFile) -> Result<Vec<(String, Node)>> {
    let Some(text) = &file.yaml else { return Ok(Vec::new()) };
    let shown = file.path.display().to_string();
    let document = Document::parse_private(&shown, text)?;
    // This detects duplicate keys in any structure.
    document.read::<IgnoredAny>()?;
    match document.root().get("connections").map(|node| &node.value) {
        Some(NodeValue::Map(entries)) => {
            Ok(entries.iter().map(|(name, _, node)| (name.clone(), node.clone())).collect())
        }
        Some(NodeValue::Null) => Ok(Vec::new()),
        None if document.root().value == NodeValue::Null => Ok(Vec::new()),
        _ => Err(Error::input(format!("`{shown}` has no mapping `connections`"))),
    }
}

/// Reads the definition of a connection as written, or after substitution of its variables if only
/// then it is valid YAML, as in `{token: ${TOKEN}}` without quotes. Substituted values never count
/// as `file:` or `command:`.
fn defined_by(
    definitions: &Environment,
    filled: &Environment,
    name: &str,
    context: &Context<'_>,
) -> Option<Result<Connection>> {
    let read = |source| {
        let (known, text) = find_in(source, name)?;
        Some(Connection::read(known, text, context))
    };
    let found = read(definitions).or_else(|| read(filled))?;
    let filled = || read(filled)?.ok().filter(|filled| filled.elsewhere.is_empty());
    Some(found.or_else(|error| filled().ok_or(error)))
}

fn find_in<'a>(source: &'a Environment, name: &str) -> Option<(&'a str, &'a str)> {
    let (known, text) = source
        .get_key_value(name)
        .or_else(|| source.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)))?;
    Some((known, text))
}

fn looks_like_connection(value: &str) -> bool {
    let value = value.trim();
    let keys = ["type:", "spec:", "\"type\"", "\"spec\""];
    let mapping = value.starts_with('{') && keys.iter().any(|key| value.contains(key));
    mapping || kind_of_url(value).is_some()
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
            files: vec![
                EnvFile {
                    path: "project/.env".into(),
                    variables: environment(&[
                        ("WIKI", "postgres://not/this"),
                        ("PG", "postgres://u:p@h/db"),
                        ("LAKE", "{type: files, url: lake}"),
                    ]),
                    ..EnvFile::default()
                },
                EnvFile::of_connections(
                    "/home/ann/.weir/connections.yaml".into(),
                    "connections:\n  OUT: { type: files, url: ~/out }\n  BAD: 7\n".to_owned(),
                )
                .unwrap(),
            ],
            definitions: Environment::new(),
            replication: environment(&[("demo", "{spec: shop.yaml, simulate: {pages: 3}}")]),
            replication_file: Some("/etc/weir/wiki.yaml".into()),
            home: Some("/home/ann".into()),
        }
    }

    #[test]
    fn the_environment_comes_first_and_values_are_filled_in() {
        let wiki = connections().find("wiki").unwrap();
        assert_eq!((wiki.origin, wiki.kind), (Origin::Environment, ConnectionKind::Api));
        assert_eq!(wiki.property("token"), Some("t0ken"));
        assert!(!format!("{wiki:?}").contains("t0ken"));
        assert_eq!(connections().find("PG").unwrap().kind, ConnectionKind::Postgres);
        let demo = connections().find("DEMO").unwrap();
        assert_eq!(demo.simulate, Some(serde_json::json!({ "pages": 3 })));
    }

    #[test]
    fn paths_go_by_the_file_in_which_they_stand() {
        let at = |name: &str, key: &str| {
            let found = connections().find(name).unwrap();
            found.property(key).unwrap().to_owned()
        };
        assert_eq!(at("out", "url"), "/home/ann/out");
        assert_eq!(at("lake", "url"), "project/lake");
        assert_eq!(at("demo", "spec"), "/etc/weir/shop.yaml");
        assert_eq!(at("local", "url"), "/etc/weir/.");
        assert_eq!(at("wiki", "spec"), "wiki");
        let elsewhere = Connections { replication_file: None, ..connections() };
        assert_eq!(elsewhere.find("local").unwrap().property("url"), Some("."));
    }

    #[test]
    fn secrets_and_inputs_may_be_mappings() {
        let variables = environment(&[("TOKEN", "t0ken")]);
        let context = Context {
            origin: Origin::Environment,
            file: None,
            base: Base::default(),
            variables: &variables,
        };
        let read = |text: &str| Connection::read("WIKI", text, &context);
        for secrets in
            ["{ email: a@b.c, token: '${TOKEN}' }", "'{ email: a@b.c, token: \"${TOKEN}\" }'"]
        {
            let inputs = "inputs: { anchor_date: 2025-01-01, keys: ['${TOKEN}'] }";
            let text = format!("{{ type: api, spec: confluence, secrets: {secrets}, {inputs} }}");
            let wiki = read(&text).unwrap();
            assert_eq!(wiki.property("email"), Some("a@b.c"));
            assert_eq!(wiki.property("token"), Some("t0ken"));
            assert_eq!(wiki.property("spec"), Some("confluence"));
            assert_eq!(wiki.inputs["anchor_date"], "2025-01-01");
            assert_eq!(wiki.inputs["keys"], serde_json::json!(["t0ken"]));
            assert!(!format!("{wiki:?}").contains("t0ken"));
        }
        let wrong = |text: &str| read(text).unwrap_err().chain();
        assert!(wrong("{spec: x, secrets: [a]}").contains("`secrets` is not a mapping"));
        assert!(wrong("{spec: x, email: a, secrets: {email: b}}").contains("`email` is set twice"));
        assert!(wrong("{type: files, inputs: {a: 1}}").contains("only connections to APIs"));
    }

    #[test]
    fn a_url_is_a_connection_without_its_password_in_its_name() {
        let found = connections().find("postgres://ann:s3cret@db.test/wh").unwrap();
        assert_eq!(found.name, "postgres://db.test/wh");
        assert_eq!(found.property("url"), Some("postgres://ann:s3cret@db.test/wh"));
        let error = connections().find("https://ann:s3cret@acme.test/wiki").unwrap_err();
        let told = format!("{} {:?}", error.chain(), error.hint());
        assert!(told.contains("https://acme.test/wiki") && !told.contains("s3cret"), "{told}");
    }

    #[test]
    fn what_is_unknown_or_wrong_is_said() {
        let error = connections().find("WIKKI").unwrap_err();
        assert!(error.hint().unwrap().contains("did you mean `WIKI`"), "{error:?}");
        assert!(connections().find("BAD").is_err());
        let twice = "{type: files, url: here, url: there}";
        let context = Context {
            origin: Origin::DotEnv,
            file: Some(Path::new("a/.env")),
            base: Base::default(),
            variables: &Environment::new(),
        };
        let error = Connection::read("X", twice, &context).unwrap_err();
        assert!(error.chain().contains("`url` is set twice"), "{error:?}");
        let listed = connections().all().unwrap();
        let names: Vec<&str> = listed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["BAD", "demo", "LAKE", "LOCAL", "OUT", "PG", "WIKI"]);
    }
}
