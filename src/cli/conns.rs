//! `weir conns`.

use std::io::{BufRead, IsTerminal, Read};

use indexmap::IndexMap;
use serde_json::json;

use super::{
    Exit,
    args::{Conns as Command, Shared},
    discover,
    files::{self, Surroundings},
    printer,
};
use crate::connection::{Connection, ConnectionKind, api_fields, remove, save};
use crate::error::{Error, Result};
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
            Ok(said(shared, name, "removed", around))
        }
        Command::Test { name } => test(name, shared, around),
        Command::Discover { name, pattern, columns } => {
            discover::run(name, pattern.as_deref(), *columns, (shared, &around.connections))
        }
    }
}

fn said(shared: Shared, name: &str, what: &str, around: &Surroundings) -> Exit {
    let file = around.file.display().to_string();
    if shared.json {
        printer::json(&json!({ "connection": name, "action": what, "file": file }));
    } else if !shared.quiet {
        printer::talk(&format!("{name}: {what} in {file}"));
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

/// Where a connection leads, without anything that may be secret.
fn place(connection: &Connection) -> String {
    match connection.kind {
        ConnectionKind::Api => {
            let spec = connection.property("spec").unwrap_or("?");
            let host =
                ["site_url", "domain", "host"].iter().find_map(|key| connection.property(key));
            let host = if connection.simulate.is_some() { Some("simulated") } else { host };
            host.map_or(spec.to_owned(), |host| format!("{spec} at {host}"))
        }
        ConnectionKind::Postgres | ConnectionKind::Files => {
            let url =
                connection.property("url").or_else(|| connection.property("host")).unwrap_or(".");
            match crate::fetch::Url::parse(url) {
                Ok(parsed) if parsed.has_host() => {
                    let host = parsed.host_str().unwrap_or_default();
                    format!("{}://{host}{}", parsed.scheme(), parsed.path())
                }
                _ => url.split('@').next_back().unwrap_or(url).to_owned(),
            }
        }
    }
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
    Ok(said(shared, name, "saved", around))
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
    let connection = around.connections.find(name)?;
    if connection.kind != ConnectionKind::Api {
        let (target, _) = files::target(&connection)?;
        super::runtime()?.block_on(target.check())?;
        return Ok(accepted(shared, name, &place(&connection)));
    }
    let spec = files::spec_of(&connection)?;
    let mut fields = api_fields(&connection, &spec, &around.connections.variables())?;
    let transport = files::transport(&connection, &spec)?;
    let diagnosis = super::runtime()?.block_on(async {
        sync::look_up(&spec, &mut fields, transport.as_ref()).await?;
        sync::probe(&spec, &fields, transport.as_ref()).await
    })?;
    if shared.json {
        printer::json(&diagnosis);
    } else if diagnosis.ok {
        return Ok(accepted(shared, name, &diagnosis.url));
    } else {
        printer::talk(&refused(name, &diagnosis));
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

fn refused(name: &str, diagnosis: &Diagnosis) -> String {
    use sync::Finding;
    let what = match diagnosis.finding {
        Finding::Accepted => "works",
        Finding::WrongHost => "this does not look like the API's host",
        Finding::WrongCredentials => "the API does not accept the credentials",
        Finding::NoPermission => "the credentials are right but lack a permission",
        Finding::BlockedEgress => "something on the way blocks the request",
        Finding::Trouble => "the API is in trouble",
    };
    let status = diagnosis.status.map(|status| format!("{status} ")).unwrap_or_default();
    let hint = diagnosis.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!(
        "error: {name}: {what}\ncause: {} answered: {status}{}{hint}",
        diagnosis.url, diagnosis.message
    )
}
