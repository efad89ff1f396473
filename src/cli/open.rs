//! Opens what a command names: connections, specs, replications, targets, ledgers, state.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::cli::context::CliContext;
use crate::cli::simulated::SimulatedApi;
use crate::cli::trust;
use crate::cli::trust::Foreign;
use crate::cli::variables::variable;
use crate::connection::{
    Connection, ConnectionKind, Connections, Environment, interpolated, is_access, shown_name,
    without_login,
};
use crate::error::{Error, Result};
use crate::http::exchange::Transport;
use crate::http::transport::Http;
use crate::plan::Plan;
use crate::quota::ledger::Ledger;
use crate::replication::Replication;
use crate::spec::{EMBEDDED, Spec};
use crate::write::Target;
use crate::write::files::{Files, FilesOptions, Settings};
use crate::write::postgres::{Postgres, PostgresLedger, PostgresOptions};
use crate::yaml::Document;
use weir_sim::Simulator;

/// Default object of a stream in a database.
const TABLE: &str = "{stream_name}";

/// Finds a connection of a replication and logs where it is defined.
pub(crate) fn connection(
    name: &str,
    connections: &Connections,
    context: &CliContext,
) -> Result<Connection> {
    let found = connections.find(name)?;
    tracing::debug!("connection {} is defined in {}", found.name, defined_in(&found, context));
    Ok(found)
}

/// Where a connection is defined, as shown to users: a file, or the kind of its origin.
pub(crate) fn defined_in(connection: &Connection, context: &CliContext) -> String {
    let Some(file) = &connection.file else { return connection.origin.to_string() };
    let home = context.connections.home.as_ref();
    match home.and_then(|home| file.strip_prefix(home).ok()) {
        Some(below) => format!("~/{}", below.display()),
        None => file.display().to_string(),
    }
}

/// The name and text of a spec: one that comes with weir, by name, or the file at a path.
pub(crate) fn spec_text(name: &str) -> Result<(String, String)> {
    if let Some((known, text)) = EMBEDDED.iter().find(|(known, _)| *known == name) {
        return Ok((format!("specs/{known}.yaml"), (*text).to_owned()));
    }
    let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    let text = fs::read_to_string(name).map_err(|error| {
        Error::input(format!(
            "`{}` is neither the name of a spec that comes with weir nor a readable file",
            shown_name(name)
        ))
        .because(error)
        .with_hint(format!("specs that come with weir: {}", known.join(", ")))
    })?;
    Ok((name.to_owned(), text))
}

/// Loads a spec by its name or path.
pub(crate) fn spec(name: &str) -> Result<Spec> {
    let (file, text) = spec_text(name)?;
    Ok(Spec::load(&file, &text)?)
}

/// The spec of a connection to an API.
pub(crate) fn spec_of(connection: &Connection) -> Result<Spec> {
    foreign_or_shipped(connection).map(|(spec, _)| spec)
}

/// The spec of a connection to an API. The second value is `None` for a spec that comes with weir.
pub(crate) fn foreign_or_shipped(connection: &Connection) -> Result<(Spec, Option<Foreign>)> {
    let name = connection.property("spec").ok_or_else(|| {
        Error::input(format!("connection `{}` has no `spec`", connection.name))
            .with_hint("add `spec`: the name of a spec that comes with weir, or the path of a file")
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

/// Loads a replication, and adds the connections that its `env` defines.
pub(crate) fn replication(
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

/// The transport to a connection's API: the network, or the simulator in this process.
pub(crate) fn transport(connection: &Connection, spec: &Spec) -> Result<Arc<dyn Transport>> {
    if let Some(settings) = &connection.simulate {
        let options = crate::cli::simulated::options(settings)?;
        return Ok(Arc::new(SimulatedApi(Simulator::new(options))));
    }
    let (timeout, max_body) = Plan::response_limits(spec);
    Ok(Arc::new(Http::new(timeout, max_body)?))
}

/// The target of a connection, and its default object for streams. The state of the `replication`, if
/// there is one, is stored beside its tables.
pub(crate) fn target(
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
            let what = format!("connection `{}` has type `api`", connection.name);
            Err(Error::input(what)
                .with_hint("the target of a replication must be a database or files"))
        }
    }
}

/// The file target of a connection.
pub(crate) fn files_of(connection: &Connection) -> Result<Files> {
    let root = connection.property("url").or_else(|| connection.property("path"));
    let mut settings = connection.properties.clone();
    settings.shift_remove("url");
    settings.shift_remove("path");
    let root = root.unwrap_or(".").to_owned();
    Files::new(&FilesOptions { root, settings, files: Settings::default() })
}

/// The options of a database that stores the state of a replication beside its tables.
fn beside(connection: &Connection, replication: Option<&Replication>) -> Result<PostgresOptions> {
    let mut options = postgres(connection)?;
    options.state_beside = replication.map(|one| one.own_object("_weir_state", TABLE));
    Ok(options)
}

/// The points ledger that a target shares among all machines that write to it.
pub(crate) fn ledger(
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

/// The store of a replication's state: a connection, or a folder.
pub(crate) fn state(
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
        Err(error) => Err(error.within("`state`").with_hint(
            "use the name of a connection, or a folder that contains `/` or `.`: `./state`",
        )),
    }
}

/// The options of the Postgres server and database of a connection.
pub(crate) fn postgres(connection: &Connection) -> Result<PostgresOptions> {
    let named = |error: Error| error.within(format!("connection `{}`", connection.name));
    let mut properties = connection.properties.clone();
    properties.retain(|name, _| !connection.elsewhere.contains_key(name));
    PostgresOptions::new(&properties, &variable).map_err(named)
}

/// The destination of a connection, as shown to users: without secrets.
pub(crate) fn leads_to(connection: &Connection) -> String {
    match connection.kind {
        ConnectionKind::Api => {
            let spec = connection.property("spec").unwrap_or("?");
            let host = ["site_url", "domain", "host"].iter().find_map(|key| shown(connection, key));
            match (&connection.simulate, host) {
                (Some(_), _) => format!("{spec}, simulated"),
                (None, Some(host)) => format!("{spec} at {}", without_login(host)),
                (None, None) => spec.to_owned(),
            }
        }
        ConnectionKind::Postgres => postgres(connection).map_or_else(
            |_| "?".to_owned(),
            |options| {
                let servers = options.servers.iter().map(ToString::to_string);
                let servers: Vec<String> = servers.map(|server| without_login(&server)).collect();
                format!("{} on {}", options.database, servers.join(", ")).trim_start().to_owned()
            },
        ),
        ConnectionKind::Files => {
            let root = shown(connection, "url").or_else(|| shown(connection, "path"));
            without_login(root.unwrap_or("."))
        }
    }
}

/// A property; `…` if its value comes from a command or a file.
fn shown<'value>(connection: &'value Connection, key: &str) -> Option<&'value str> {
    if connection.elsewhere.contains_key(key) { Some("…") } else { connection.property(key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Base, Context, Environment, Origin};

    #[test]
    fn where_a_connection_leads_shows_no_secret() {
        let table = [
            ("postgres://ann:s3c@ret@db.test/wh?sslmode=require", "wh on db.test:5432"),
            ("postgres:///wh?user=ann&password=s3cret&host=/run", "wh on /run:5432"),
            ("{type: postgres, host: 'ann:s3cret@db.test', database: wh}", "wh on db.test:5432"),
            ("{type: postgres, url: 'host=db password=s3cret'}", "?"),
            ("s3://bucket/prefix/?token=s3cret", "s3://bucket/prefix"),
            ("{type: files, url: 'az://key:s3cret@store/out'}", "az://store/out"),
            ("{type: files, path: out/daily}", "out/daily"),
            ("{spec: wiki, domain: acme.test, api_token: s3cret}", "wiki at acme.test"),
            (
                "{spec: wiki, site_url: 'https://ann:s3cret@acme.test/'}",
                "wiki at https://acme.test",
            ),
            ("{spec: wiki, simulate: {}}", "wiki, simulated"),
        ];
        for (text, expected) in table {
            let context = Context {
                origin: Origin::Environment,
                file: None,
                base: Base::default(),
                variables: &Environment::new(),
            };
            let read = Connection::read("C", text, &context).unwrap();
            assert_eq!(leads_to(&read), expected, "{text}");
        }
    }
}
