//! What the program finds around it: environment, `.env`, connections, specs, replications.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{args::Shared, printer, trust};
use crate::connection::{
    Connection, ConnectionKind, Connections, EnvFile, Environment, exposed, interpolated,
    is_access, shown_name, stored,
};
use crate::error::{Error, Result};
use crate::http::exchange::Transport;
use crate::http::transport::Http;
use crate::plan::Plan;
use crate::quota::ledger::Ledger;
use crate::replication::Replication;
use crate::sim::Simulator;
use crate::spec::{EMBEDDED, Spec};
use crate::write::Target;
use crate::write::files::{Files, FilesOptions, Settings};
use crate::write::postgres::{Postgres, PostgresLedger, PostgresOptions};
use crate::yaml::Document;

/// Object of a stream in a database for which nobody names one.
const TABLE: &str = "{stream_name}";

/// Environment and files that define connections.
pub(super) struct Surroundings {
    pub(super) connections: Connections,
    /// weir's own folder: `$WEIR_HOME`, else `~/.weir`; `None` where neither is known.
    home: Option<PathBuf>,
}

/// Value of an environment variable that is set and is text.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Surroundings {
    /// Reads the environment, then the files that the command line names, `.env` beside the
    /// `replication` and in the current folder, and the connections file in weir's own folder.
    pub(super) fn read(
        shared: Shared,
        named: &[PathBuf],
        replication: Option<&Path>,
    ) -> Result<Self> {
        let environment: Environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        // A relative one would be another folder in each place where weir is started.
        let home = set("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let mut connections = Connections { home, ..Connections::default() };
        let here = connections.base(None);
        let home = match (set("WEIR_HOME"), &connections.home) {
            (Some(home), _) => Some(here.path(home)?),
            (None, home) => home.as_ref().map(|home| home.join(".weir")),
        };
        connections.environment = environment;
        for path in named {
            let path = here.path(&path.to_string_lossy())?;
            if !add_file(&mut connections, path.clone(), shared)? {
                let what = format!("`{}` is not there", path.display());
                return Err(Error::input(what).with_hint("`--env-file` names a file of variables"));
            }
        }
        let beside = replication.map(|path| path.with_file_name(".env"));
        let current = PathBuf::from(".env");
        let same = beside
            .as_ref()
            .is_none_or(|one| one.canonicalize().ok() == current.canonicalize().ok());
        for path in beside.into_iter().chain((!same).then_some(current.clone())) {
            add_file(&mut connections, path, shared)?;
        }
        if replication.is_none() {
            add_file(&mut connections, current, shared)?;
        }
        let around = Self { connections, home };
        around.with_own_file(shared)
    }

    /// Adds the connections file.
    fn with_own_file(mut self, shared: Shared) -> Result<Self> {
        let Ok(file) = self.file() else { return Ok(self) };
        if let Some(warning) = exposed(&file) {
            printer::note(shared, &warning);
        }
        if let Some(text) = stored(&file)? {
            self.connections.files.push(EnvFile::of_connections(file, text)?);
        }
        Ok(self)
    }

    /// The connections file, whether it is there or not.
    ///
    /// # Errors
    /// Nobody says where it is. The current folder is no place for secrets.
    pub(super) fn file(&self) -> Result<PathBuf> {
        self.home().map(|home| home.join("connections.yaml"))
    }

    /// weir's own folder.
    pub(super) fn home(&self) -> Result<&Path> {
        self.home.as_deref().ok_or_else(|| {
            Error::input(
                "weir has no folder of its own: neither WEIR_HOME nor an absolute HOME is set",
            )
            .with_hint("name one: export WEIR_HOME=/var/lib/weir")
        })
    }
}

/// Adds what a file of variables, or of connections (`.yaml`), defines; `false` when it is not there.
/// A file that cannot be read is only worth a note: perhaps nobody needs it.
fn add_file(connections: &mut Connections, path: PathBuf, shared: Shared) -> Result<bool> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            printer::note(shared, &format!("`{}` cannot be read: {error}", path.display()));
            return Ok(true);
        }
    };
    if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
        connections.files.push(EnvFile::of_connections(path, text)?);
        return Ok(true);
    }
    let (file, warnings) = EnvFile::parse(path, &text, &connections.environment);
    for warning in warnings {
        printer::note(shared, &warning);
    }
    connections.files.push(file);
    Ok(true)
}

/// A connection of a replication; the log says where it is defined.
pub(super) fn connection(
    name: &str,
    connections: &Connections,
    around: &Surroundings,
) -> Result<Connection> {
    let found = connections.find(name)?;
    tracing::debug!("connection {} is defined in {}", found.name, defined_in(&found, around));
    Ok(found)
}

/// Where a connection is defined, for a person: a file, or the name of what is none.
pub(super) fn defined_in(connection: &Connection, around: &Surroundings) -> String {
    let Some(file) = &connection.file else { return connection.origin.to_string() };
    let home = around.connections.home.as_ref();
    match home.and_then(|home| file.strip_prefix(home).ok()) {
        Some(below) => format!("~/{}", below.display()),
        None => file.display().to_string(),
    }
}

/// A spec that comes with weir, by its name, or the file at a path.
pub(super) fn spec_text(name: &str) -> Result<(String, String)> {
    if let Some((known, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) {
        return Ok((format!("specs/{known}.yaml"), (*text).to_owned()));
    }
    let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    let text = fs::read_to_string(name).map_err(|error| {
        Error::input(format!("`{}` is neither a spec that weir has nor a file", shown_name(name)))
            .because(error)
            .with_hint(format!("weir has: {}", known.join(", ")))
    })?;
    Ok((name.to_owned(), text))
}

pub(super) fn spec(name: &str) -> Result<Spec> {
    let (file, text) = spec_text(name)?;
    Ok(Spec::load(&file, &text)?)
}

/// A spec that does not come with weir.
pub(super) struct Foreign {
    pub(super) file: PathBuf,
    /// Digest of its text.
    pub(super) digest: String,
    /// Fields with the variables that it asks for and does not get.
    pub(super) unread: Vec<(String, String)>,
}

/// The spec of a connection to an API.
pub(super) fn spec_of(connection: &Connection) -> Result<Spec> {
    foreign_or_shipped(connection).map(|(spec, _)| spec)
}

/// The spec of a connection to an API, and whether it comes with weir.
pub(super) fn foreign_or_shipped(connection: &Connection) -> Result<(Spec, Option<Foreign>)> {
    let name = connection.property("spec").ok_or_else(|| {
        Error::input(format!("connection `{}` names no spec", connection.name))
            .with_hint("add `spec`: the name of one that weir has, or the path of a file")
    })?;
    let (file, text) = spec_text(name)?;
    let mut spec = Spec::load(&file, &text)?;
    if EMBEDDED.iter().any(|(_, shipped)| *shipped == text) {
        return Ok((spec, None));
    }
    let unread = trust::restrict(&mut spec);
    let digest = trust::digest(&text);
    Ok((spec, Some(Foreign { file: PathBuf::from(file), digest, unread })))
}

/// A replication, with the connections that its `env` defines.
pub(super) fn replication(
    path: &Path,
    connections: &mut Connections,
) -> Result<(Replication, Document)> {
    connections.replication_file = Some(path.to_owned());
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        let shown = shown_name(&name);
        Error::input(format!("the replication `{shown}` cannot be read")).because(error)
    })?;
    let document = Replication::parse(&name, &text)?;
    connections.replication = Replication::env_of(&document).into_iter().collect();
    let variables = connections.variables();
    let document = document.map_texts(&|text| {
        text.contains("${").then(|| interpolated(text, &variables)).transpose()
    })?;
    let filled: Environment = Replication::env_of(&document).into_iter().collect();
    connections.definitions = std::mem::replace(&mut connections.replication, filled);
    Ok((Replication::load(&document)?, document))
}

/// The way to a connection's API: the network, or the simulator in this process.
pub(super) fn transport(connection: &Connection, spec: &Spec) -> Result<Arc<dyn Transport>> {
    if let Some(settings) = &connection.simulate {
        let options = super::sim::options(settings)?;
        return Ok(Arc::new(Simulator::new(options)));
    }
    let (timeout, max_body) = Plan::response_limits(spec);
    Ok(Arc::new(Http::new(timeout, max_body)?))
}

/// The target that a connection leads to, and the object of streams for which nobody names one. The
/// state of the `replication`, if there is one, is kept beside its tables.
pub(super) fn target(
    connection: &Connection,
    replication: Option<&Replication>,
) -> Result<(Arc<dyn Target>, &'static str)> {
    match connection.kind {
        ConnectionKind::Postgres => {
            let options = beside(connection, replication)?;
            Ok((Arc::new(Postgres::new(options)), TABLE))
        }
        ConnectionKind::Files => Ok((Arc::new(files_of(connection)?), "{stream_name}.parquet")),
        ConnectionKind::Api => {
            let what = format!("connection `{}` is of type api", connection.name);
            Err(Error::input(what).with_hint("the target of a replication is a database or files"))
        }
    }
}

/// The files that a connection leads to.
pub(super) fn files_of(connection: &Connection) -> Result<Files> {
    let root = connection.property("url").or_else(|| connection.property("path"));
    let mut settings = connection.properties.clone();
    settings.shift_remove("url");
    settings.shift_remove("path");
    let root = root.unwrap_or(".").to_owned();
    Files::new(&FilesOptions { root, settings, files: Settings::default() })
}

/// The options of a database in which the state of a replication is kept beside its tables.
fn beside(connection: &Connection, replication: Option<&Replication>) -> Result<PostgresOptions> {
    let mut options = postgres(connection)?;
    options.state_beside = replication.map(|one| one.own_object("_weir_state", TABLE));
    Ok(options)
}

/// The ledger of points that a target can keep for all who write there.
pub(super) fn ledger(
    target: &Connection,
    replication: Option<&Replication>,
) -> Result<Option<Arc<dyn Ledger>>> {
    match target.kind {
        ConnectionKind::Postgres => {
            Ok(Some(Arc::new(PostgresLedger::new(beside(target, replication)?))))
        }
        ConnectionKind::Files | ConnectionKind::Api => Ok(None),
    }
}

/// Where a replication's state is kept: a connection, or a folder.
pub(super) fn state(
    place: &str,
    connections: &Connections,
    fetched: &dyn Fn(&str) -> Result<Connection>,
) -> Result<Arc<dyn Target>> {
    match connections.find(place).and_then(|_| fetched(place)) {
        Ok(connection) => target(&connection, None).map(|(target, _)| target),
        Err(_) if place.contains(['/', '.']) && !is_access(place) => {
            let base = connections.base(connections.replication_file.as_deref());
            Ok(Arc::new(Files::in_folder(base.path(place)?, Settings::default())))
        }
        Err(error) if is_access(place) => Err(error.within("`state`")),
        Err(error) => Err(error
            .within("`state`")
            .with_hint("name a connection, or a folder with a `/` or `.` in it: `./state`")),
    }
}

/// The server and database that a connection names.
pub(super) fn postgres(connection: &Connection) -> Result<PostgresOptions> {
    let named = |error: Error| error.within(format!("connection `{}`", connection.name));
    let mut properties = connection.properties.clone();
    properties.retain(|name, _| !connection.elsewhere.contains_key(name));
    PostgresOptions::new(&properties, &variable).map_err(named)
}
