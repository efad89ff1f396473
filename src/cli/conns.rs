//! `weir conns`.

use std::io::{BufRead, IsTerminal, Read};

use indexmap::IndexMap;
use serde_json::json;

use super::{
    Exit,
    args::{Conns as Command, Shared},
    discover,
    files::{self, Surroundings},
    printer, tokens, trust,
};
use crate::connection::{Connection, ConnectionKind, api_fields, remove, save};
use crate::error::{Error, Kind, Result};
use crate::sync::{self, Diagnosis};

pub(super) fn run(command: &Command, shared: Shared, around: &Surroundings) -> Result<Exit> {
    match command {
        Command::List => list(shared, around),
        Command::Set { name, properties } => set(name, properties, shared, around),
        Command::Unset { name } => {
            if !remove(&around.file, name)? {
                let what = format!("`{}` has no connection `{name}`", around.file.display());
                return Err(
                    Error::input(what).with_hint("weir conns list shows where each is defined")
                );
            }
            Ok(said(shared, name, "removed from", around))
        }
        Command::Test { name } => test(name, shared, around),
        Command::Discover { name, stream, pattern, columns } => {
            let wanted = stream.as_ref().or(pattern.as_ref()).map(String::as_str);
            let detailed = *columns || stream.is_some();
            discover::run(name, wanted, detailed, (shared, &around.connections))
        }
    }
}

fn said(shared: Shared, name: &str, what: &str, around: &Surroundings) -> Exit {
    let file = around.file.display().to_string();
    if shared.json {
        printer::json(&json!({ "connection": name, "action": what, "file": file }));
    } else if !shared.quiet {
        printer::talk(&format!("{name}: {what} {file}"));
    }
    Exit::Done
}

fn list(shared: Shared, around: &Surroundings) -> Result<Exit> {
    let mut rows =
        vec![["connection", "type", "defined in", "leads to"].map(str::to_owned).to_vec()];
    let mut all = Vec::new();
    for (name, connection) in around.connections.all()? {
        match connection {
            Ok(connection) => {
                let place = place(&connection);
                all.push(json!({ "name": name, "type": connection.kind, "origin": connection.origin, "place": place }));
                rows.push(vec![
                    name,
                    connection.kind.to_string(),
                    connection.origin.to_string(),
                    place,
                ]);
            }
            Err(error) => {
                all.push(json!({ "name": name, "error": error.chain() }));
                rows.push(vec![
                    name,
                    "?".to_owned(),
                    String::new(),
                    error.chain().replace('\n', " "),
                ]);
            }
        }
    }
    if shared.json {
        printer::json(&all);
    } else {
        printer::data(&printer::table(&rows, &[]));
    }
    Ok(Exit::Done)
}

/// A property; `…` for one that stands elsewhere.
fn shown<'value>(connection: &'value Connection, key: &str) -> Option<&'value str> {
    if connection.elsewhere.contains_key(key) { Some("…") } else { connection.property(key) }
}

/// Where a connection leads, made of parts that are no secrets.
fn place(connection: &Connection) -> String {
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
        ConnectionKind::Postgres => files::postgres(connection).map_or_else(
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

/// A URL, host or path without user, password and parameters.
fn without_login(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + "://".len()),
        None if text.contains('@') => ("", text),
        None => return text.to_owned(),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let host = rest.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{}", host.trim_end_matches('/'))
}

fn set(name: &str, given: &[String], shared: Shared, around: &Surroundings) -> Result<Exit> {
    let named = !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !named {
        return Err(Error::input(format!("`{name}` is no name: use letters, digits and `_`")));
    }
    let mut properties = IndexMap::new();
    for text in given {
        match text.split_once('=') {
            _ if text.contains("://")
                && !text.split("://").next().is_some_and(|scheme| scheme.contains('=')) =>
            {
                properties.insert("url".to_owned(), text.clone());
            }
            Some((key, "-")) => {
                properties.insert(key.to_owned(), from_stdin(key)?);
            }
            Some((key, value)) => {
                let value = match value.strip_prefix('@') {
                    Some(path) => from_file(path)?,
                    None => value.to_owned(),
                };
                properties.insert(key.to_owned(), value);
            }
            None => {
                let what = format!("`{text}` is neither a URL nor key=value");
                return Err(Error::input(what).with_hint("weir conns set --help"));
            }
        }
    }
    // What is not a connection is not kept.
    let text = serde_json::to_string(&properties).unwrap_or_default();
    let variables = around.connections.variables();
    let read = Connection::read(name, crate::connection::Origin::File, &text, &variables)?;
    if read.kind == ConnectionKind::Api {
        let spec = files::spec_of(&read)?;
        let known = |key: &str| key == "spec" || spec.connection.contains_key(key);
        if let Some(unknown) = read.properties.keys().find(|key| !known(key)) {
            let fields = spec.connection.keys().map(String::as_str);
            let hint = crate::yaml::suggest(unknown, fields).unwrap_or_default();
            let what = format!("`{unknown}` is no field of `{}`", spec.name);
            return Err(Error::input(what).with_hint(hint));
        }
    }
    save(&around.file, name, &properties)?;
    Ok(said(shared, name, "saved in", around))
}

/// Reads one line; on a terminal what is typed is not shown.
fn from_stdin(key: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let echo = rustix::termios::tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
    if let Some(shown) = &echo {
        printer::talk(&format!("{key}:"));
        let mut hidden = shown.clone();
        hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
        set_terminal(&stdin, &hidden);
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &echo {
        set_terminal(&stdin, shown);
    }
    read.map_err(|error| {
        Error::input(format!("`{key}` cannot be read from stdin")).because(error)
    })?;
    Ok(line.trim().to_owned())
}

fn set_terminal(stdin: &std::io::Stdin, modes: &rustix::termios::Termios) {
    let flush = rustix::termios::OptionalActions::Flush;
    if rustix::termios::tcsetattr(stdin, flush, modes).is_err() {
        tracing::debug!("the terminal keeps its modes and shows what is typed");
    }
}

fn from_file(path: &str) -> Result<String> {
    let wrong = |error| Error::input(format!("`{path}` cannot be read")).because(error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(wrong)?.read_to_string(&mut text).map_err(wrong)?;
    Ok(text.trim().to_owned())
}

fn test(name: &str, shared: Shared, around: &Surroundings) -> Result<Exit> {
    match tested(name, shared, around) {
        Err(error) if shared.json => {
            printer::json(&json!({ "ok": false, "message": error.chain(), "hint": error.hint() }));
            Ok(super::exit_of(&error))
        }
        other => other,
    }
}

fn tested(name: &str, shared: Shared, around: &Surroundings) -> Result<Exit> {
    let connection = trust::fetched(around.connections.find(name)?, None, around)?;
    if connection.kind != ConnectionKind::Api {
        let (target, _) = files::target(&connection, None)?;
        super::runtime()?.block_on(target.check())?;
        return Ok(accepted(shared, name, &place(&connection)));
    }
    let (spec, foreign) = files::foreign_or_shipped(&connection)?;
    let mut fields = api_fields(&connection, &spec, &around.connections.variables())?;
    if let Some(foreign) = foreign.filter(|_| connection.simulate.is_none()) {
        trust::confirm((&spec, &foreign), &fields, shared, around)?;
    }
    let transport = files::transport(&connection, &spec)?;
    let diagnosis = super::runtime()?.block_on(async {
        sync::look_up(&spec, &mut fields, transport.as_ref()).await?;
        sync::probe(&spec, &fields, &tokens::hooks(&connection, around), transport.as_ref()).await
    })?;
    if shared.json {
        printer::json(&diagnosis);
    } else if diagnosis.ok {
        return Ok(accepted(shared, name, &diagnosis.url));
    } else {
        refused(name, &diagnosis, shared);
    }
    Ok(if diagnosis.ok { Exit::Done } else { Exit::Failed })
}

fn accepted(shared: Shared, name: &str, place: &str) -> Exit {
    if shared.json {
        printer::json(&json!({ "ok": true, "url": place }));
    } else {
        printer::data(&format!("{name}: works ({place})"));
    }
    Exit::Done
}

fn refused(name: &str, diagnosis: &Diagnosis, shared: Shared) {
    use sync::Finding;
    let (kind, what) = match diagnosis.finding {
        Finding::Accepted => (Kind::Rejected, "works"),
        Finding::WrongHost => (Kind::Unreachable, "this does not look like the API's host"),
        Finding::WrongCredentials => (Kind::Credentials, "the API does not accept the credentials"),
        Finding::NoPermission => {
            (Kind::Credentials, "the credentials are right but lack a permission")
        }
        Finding::BlockedEgress => (Kind::Unreachable, "something on the way blocks the request"),
        Finding::Trouble => (Kind::Rejected, "the API is in trouble"),
    };
    let Diagnosis { url, status, message, hint, .. } = diagnosis;
    let status = status.map(|status| format!("{status} ")).unwrap_or_default();
    let mut error = Error::new(kind, format!("{name}: {what}"))
        .because(format!("{url} answered: {status}{message}"));
    if let Some(hint) = hint {
        error = error.with_hint(hint);
    }
    printer::failure(shared.log_format, &error);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Environment, Origin};

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
            let read =
                Connection::read("C", Origin::Environment, text, &Environment::new()).unwrap();
            assert_eq!(place(&read), expected, "{text}");
        }
    }
}
