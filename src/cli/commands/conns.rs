//! `weir conns`.

use std::path::Path;

use serde_json::json;

use crate::cli::args::{Conns as Command, Shared};
use crate::cli::commands::{conns_set, discover};
use crate::cli::context::CliContext;
use crate::cli::exit::Exit;
use crate::cli::open::leads_to;
use crate::cli::output::printer;
use crate::cli::patience::Patience;
use crate::cli::{open, tokens, trust};
use crate::connection::{ConnectionKind, api_fields, remove, shown_name};
use crate::error::{Error, Kind, Result};
use crate::sync;
use crate::sync::connection_test;
use crate::sync::connection_test::Diagnosis;

pub(crate) fn run(command: &Command, shared: Shared, context: &CliContext) -> Result<Exit> {
    match command {
        Command::List => list(shared, context),
        Command::Set { name, properties } => {
            let file = conns_set::set(name, properties, shared, context)?;
            Ok(report_change(shared, name, "saved in", &file))
        }
        Command::Unset { name } => {
            let file = context.file()?;
            if !remove(&file, name)? {
                let what = format!("`{}` has no connection `{}`", file.display(), shown_name(name));
                return Err(Error::input(what)
                    .with_hint("`weir conns list` shows where each connection is defined"));
            }
            Ok(report_change(shared, name, "removed from", &file))
        }
        Command::Test { name } => test(name, shared, context),
        Command::Discover { name, stream, pattern, columns } => {
            let wanted = stream.as_ref().or(pattern.as_ref()).map(String::as_str);
            let detailed = *columns || stream.is_some();
            discover::run(name, wanted, detailed, shared, &context.connections)
        }
    }
}

/// Reports a change of the connections file.
fn report_change(shared: Shared, name: &str, what: &str, file: &Path) -> Exit {
    let file = file.display().to_string();
    if shared.json {
        printer::json(&json!({ "connection": name, "action": what, "file": file }));
    } else if !shared.quiet {
        printer::info(&format!("{name}: {what} {file}"));
    }
    Exit::Done
}

fn list(shared: Shared, context: &CliContext) -> Result<Exit> {
    let mut rows =
        vec![["connection", "type", "defined in", "leads to"].map(str::to_owned).to_vec()];
    let mut all = Vec::new();
    for (name, connection) in context.connections.all()? {
        match connection {
            Ok(connection) => {
                let place = leads_to(&connection);
                all.push(json!({
                    "name": name,
                    "type": connection.kind,
                    "origin": connection.origin,
                    "file": connection.file,
                    "place": place,
                }));
                let defined = open::defined_in(&connection, context);
                rows.push(vec![name, connection.kind.to_string(), defined, place]);
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

fn test(name: &str, shared: Shared, context: &CliContext) -> Result<Exit> {
    match tested(name, shared, context) {
        Err(error) if shared.json => {
            printer::json(&json!({ "ok": false, "message": error.chain(), "hint": error.hint() }));
            Ok(crate::cli::exit::exit_of(&error))
        }
        other => other,
    }
}

fn tested(name: &str, shared: Shared, context: &CliContext) -> Result<Exit> {
    let patience = Patience::new(shared, format!("the values of connection `{name}`"));
    let connection = trust::fetched(context.connections.find(name)?, context)?;
    drop(patience);
    let tell_borrowed =
        |spec| trust::tell_borrowed(&connection, spec, &context.connections, shared, context);
    if connection.kind != ConnectionKind::Api {
        tell_borrowed(None);
        let (target, _) = open::target(&connection, None)?;
        let _patience = Patience::new(shared, format!("a connection to `{name}`"));
        crate::cli::exit::runtime()?.block_on(target.check())?;
        if connection.kind == ConnectionKind::Files {
            open::files_of(&connection)?.try_out()?;
        }
        return Ok(accepted(shared, &connection.name, &leads_to(&connection)));
    }
    let (spec, foreign) = open::foreign_or_shipped(&connection)?;
    tell_borrowed(Some(&spec));
    let mut fields = api_fields(&connection, &spec, &context.connections.variables())?;
    if let Some(foreign) = foreign.filter(|_| connection.simulate.is_none()) {
        trust::confirm(&spec, &foreign, &fields, shared, context)?;
    }
    let transport = open::transport(&connection, &spec)?;
    let patience = Patience::new(shared, format!("a response from {}", leads_to(&connection)));
    let diagnosis = crate::cli::exit::runtime()?.block_on(async {
        connection_test::look_up(&spec, &mut fields, transport.as_ref()).await?;
        sync::probe(&spec, &fields, &tokens::hooks(&connection), transport.as_ref()).await
    });
    drop(patience);
    let diagnosis = diagnosis?;
    if shared.json {
        printer::json(&diagnosis);
    } else if diagnosis.ok {
        return Ok(accepted(shared, &connection.name, &diagnosis.url));
    } else {
        refused(&connection.name, &diagnosis, shared);
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
    use crate::sync::connection_test::TestFinding;
    let (kind, what) = match diagnosis.finding {
        TestFinding::Accepted => (Kind::Rejected, "works"),
        TestFinding::WrongHost => {
            (Kind::Unreachable, "the host is unreachable, or it is not the host of the API")
        }
        TestFinding::WrongCredentials => {
            (Kind::Credentials, "the API does not accept the credentials")
        }
        TestFinding::NoPermission => {
            (Kind::Credentials, "the credentials are valid but lack a permission")
        }
        TestFinding::NotTrusted => (Kind::Unreachable, "the host's certificate is not trusted"),
        TestFinding::BlockedEgress => (Kind::Unreachable, "a firewall or proxy blocks the request"),
        TestFinding::Trouble => (Kind::Rejected, "the API has a problem"),
    };
    let Diagnosis { url, status, message, hint, .. } = diagnosis;
    let cause = match status {
        Some(status) => format!("{url} responded: {status} {message}"),
        None => format!("{url}: {message}"),
    };
    let mut error = Error::new(kind, format!("{name}: {what}")).because(cause);
    if let Some(hint) = hint {
        error = error.with_hint(hint);
    }
    printer::failure(shared.log_format, &error);
}
