//! What the program finds around it: environment, `.env`, connections, specs, replications.

use std::{fs, path::PathBuf, sync::Arc};

use super::{args::Shared, printer};
use crate::connection::{
    Connection, ConnectionKind, Connections, Environment, exposed, interpolated, stored,
};
use crate::error::{Error, Result};
use crate::fetch::{Http, Transport};
use crate::ledger::Ledger;
use crate::plan::Plan;
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
    /// The connections file, whether it is there or not.
    pub(super) file: PathBuf,
}

/// Value of an environment variable that is set and is text.
#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Surroundings {
    /// Reads the environment, `.env` in the working directory and the connections file in
    /// `$WEIR_HOME`, else `~/.weir`.
    pub(super) fn read(shared: Shared) -> Result<Self> {
        let environment: Environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut dot_env = Environment::new();
        if let Ok(entries) = dotenvy::from_path_iter(".env") {
            for entry in entries {
                let (name, value) = entry.map_err(|error| {
                    // What the error quotes may be a secret.
                    drop(error);
                    Error::input("`.env` has a line that is not `NAME=value`")
                        .with_hint("quote values that hold spaces: NAME='{type: api, …}'")
                })?;
                dot_env.insert(name, value);
            }
        }
        let home = environment.get("WEIR_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| environment.get("HOME").map(|home| PathBuf::from(home).join(".weir")));
        let file = home.unwrap_or_else(|| PathBuf::from(".weir")).join("connections.yaml");
        if let Some(warning) = exposed(&file) {
            printer::note(shared, &warning);
        }
        let text = stored(&file)?.map(|text| (file.display().to_string(), text));
        let connections =
            Connections { environment, dot_env, file: text, replication: Environment::new() };
        Ok(Self { connections, file })
    }
}

/// A spec that comes with weir, by its name, or the file at a path.
pub(super) fn spec_text(name: &str) -> Result<(String, String)> {
    if let Some((known, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) {
        return Ok((format!("specs/{known}.yaml"), (*text).to_owned()));
    }
    let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    let text = fs::read_to_string(name).map_err(|error| {
        Error::input(format!("`{name}` is neither a spec that weir has nor a file"))
            .because(error)
            .with_hint(format!("weir has: {}", known.join(", ")))
    })?;
    Ok((name.to_owned(), text))
}

pub(super) fn spec(name: &str) -> Result<Spec> {
    let (file, text) = spec_text(name)?;
    Ok(Spec::load(&file, &text)?)
}

/// The spec of a connection to an API.
pub(super) fn spec_of(connection: &Connection) -> Result<Spec> {
    let name = connection.property("spec").ok_or_else(|| {
        Error::input(format!("connection `{}` names no spec", connection.name))
            .with_hint("add `spec`: the name of one that weir has, or the path of a file")
    })?;
    spec(name)
}

/// A replication, with the connections that its `env` defines.
pub(super) fn replication(
    path: &std::path::Path,
    connections: &mut Connections,
) -> Result<(Replication, Document)> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| {
        Error::input(format!("the replication `{name}` cannot be read")).because(error)
    })?;
    let document = Document::parse(&name, &text)?;
    connections.replication = Replication::env_of(&document).into_iter().collect();
    let variables = connections.variables();
    let document = document.map_texts(&|text| {
        text.contains("${").then(|| interpolated(text, &variables)).transpose()
    })?;
    connections.replication = Replication::env_of(&document).into_iter().collect();
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
        ConnectionKind::Files => {
            let root = connection.property("url").or_else(|| connection.property("path"));
            let mut settings = connection.properties.clone();
            settings.shift_remove("url");
            settings.shift_remove("path");
            let options = FilesOptions {
                root: root.unwrap_or(".").to_owned(),
                settings,
                files: Settings::default(),
            };
            Ok((Arc::new(Files::new(&options)?), "{stream_name}.parquet"))
        }
        ConnectionKind::Api => {
            let what = format!("connection `{}` is of type api", connection.name);
            Err(Error::input(what).with_hint("the target of a replication is a database or files"))
        }
    }
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
    replication: &Replication,
) -> Result<Option<Arc<dyn Ledger>>> {
    match target.kind {
        ConnectionKind::Postgres => {
            Ok(Some(Arc::new(PostgresLedger::new(beside(target, Some(replication))?))))
        }
        ConnectionKind::Files | ConnectionKind::Api => Ok(None),
    }
}

/// Where a replication's state is kept: a connection, or a folder.
pub(super) fn state(place: &str, connections: &Connections) -> Result<Arc<dyn Target>> {
    match connections.find(place) {
        Ok(connection) => target(&connection, None).map(|(target, _)| target),
        Err(_) if place.contains(['/', '.']) => {
            Ok(Arc::new(Files::in_folder(place, Settings::default())))
        }
        Err(error) => Err(error
            .within("`state`")
            .with_hint("name a connection, or a folder with a `/` or `.` in it: `./state`")),
    }
}

/// The server and database that a connection names.
pub(super) fn postgres(connection: &Connection) -> Result<PostgresOptions> {
    let named = |error: Error| error.within(format!("connection `{}`", connection.name));
    PostgresOptions::new(&connection.properties, &variable).map_err(named)
}
