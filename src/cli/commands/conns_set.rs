//! `weir conns set`: checks and saves a connection.

use std::{
    io::{BufRead, IsTerminal, Read},
    path::PathBuf,
};

use indexmap::IndexMap;
use serde_json::Value;

use crate::cli::args::Shared;
use crate::cli::context::CliContext;
use crate::cli::open;
use crate::cli::output::printer;
use crate::connection::{
    Base, Connection, ConnectionKind, Context, Origin, lacking_fields, mapping_in, save, shown_name,
};
use crate::error::{Error, Result};

/// Saves a connection. Returns the path of the file.
///
/// # Errors
/// The connection is invalid: a malformed URL or value, an unknown property, or a file that does not
/// exist. Nothing is saved.
pub(crate) fn set(
    name: &str,
    given: &[String],
    shared: Shared,
    context: &CliContext,
) -> Result<PathBuf> {
    let named = !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !named {
        let what =
            format!("`{}` is not a valid name: use letters, digits and `_`", shown_name(name));
        return Err(Error::input(what));
    }
    let file = context.file()?;
    // Relative paths on the command line are relative to the current folder.
    let folder = std::env::current_dir().unwrap_or_default();
    let base = Base { folder, ..context.connections.base(None) };
    let mut properties = properties(given, &base)?;
    let text = serde_json::to_string(&properties).unwrap_or_default();
    let variables = context.connections.variables();
    let origin = Context {
        origin: Origin::File,
        file: Some(&file),
        base: base.clone(),
        variables: &variables,
    };
    let read = Connection::read(name, &text, &origin)?;
    read.check_files()?;
    for problem in missing_fields(&read, context)? {
        printer::note(shared, &format!("{name} is not complete: {problem}"));
    }
    make_absolute(&mut properties, &read, &base)?;
    save(&file, name, &properties)?;
    Ok(file)
}

/// The required fields that a connection lacks.
fn missing_fields(read: &Connection, context: &CliContext) -> Result<Vec<String>> {
    match read.kind {
        ConnectionKind::Api => {
            let spec = open::spec_of(read)?;
            crate::plan::check_inputs(&read.inputs, &spec)?;
            lacking_fields(read, &spec, &context.connections.variables())
        }
        ConnectionKind::Postgres => {
            open::postgres(read)?.check_certificates()?;
            Ok(Vec::new())
        }
        ConnectionKind::Files => {
            open::target(read, None)?;
            Ok(Vec::new())
        }
    }
}

/// Whether a text may be the name of a property or the scheme of a URL.
fn is_word(text: &str) -> bool {
    let part = |letter: char| letter.is_ascii_alphanumeric() || "_-+.".contains(letter);
    !text.is_empty() && text.chars().all(part)
}

/// The properties from the command line.
fn properties(given: &[String], base: &Base) -> Result<IndexMap<String, Value>> {
    let mut properties: IndexMap<String, Value> = IndexMap::new();
    let mut add = |key: &str, value: Value| match properties.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(Error::input(format!("`{key}` is set twice"))),
    };
    for text in given {
        let is_url = text.split_once("://").is_some_and(|(scheme, _)| is_word(scheme));
        if is_url {
            add("url", Value::from(text.as_str()))?;
            continue;
        }
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| is_word(key)) else {
            let what = format!("`{}` is neither a URL nor key=value", shown_name(text));
            return Err(Error::input(what).with_hint("`weir conns set --help` shows examples"));
        };
        let value = match value.strip_prefix('@') {
            _ if value == "-" => non_empty(key, from_stdin(key)?, "stdin")?,
            Some(path) => non_empty(key, from_file(&base.path(path)?)?, path)?,
            None => value.to_owned(),
        };
        match key {
            "secrets" => {
                mapping_in(key, &value)?
                    .into_iter()
                    .try_for_each(|(key, value)| add(&key, value))?;
            }
            "inputs" => {
                let inputs: serde_json::Map<String, Value> =
                    mapping_in(key, &value)?.into_iter().collect();
                add(key, inputs.into())?;
            }
            _ => add(key, Value::from(value))?,
        }
    }
    Ok(properties)
}

/// Makes paths absolute, because the connections file is in another folder.
fn make_absolute(
    properties: &mut IndexMap<String, Value>,
    read: &Connection,
    base: &Base,
) -> Result<()> {
    for (key, value) in properties.iter_mut() {
        let Some(text) = value.as_str() else { continue };
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.starts_with("//")) {
            *value = Value::from(format!("file:{}", base.path(path)?.display()));
        } else if ["spec", "url", "path", "sslrootcert"].contains(&key.as_str())
            && !text.contains("${")
            && !text.starts_with("command:")
            && let Some(absolute) = read.property(key)
        {
            *value = Value::from(absolute);
        }
    }
    Ok(())
}

/// A value from stdin or a file, which must not be empty.
fn non_empty(key: &str, value: String, from: &str) -> Result<String> {
    if value.is_empty() {
        return Err(Error::input(format!("`{key}` is empty, because {from} is empty")));
    }
    Ok(value)
}

/// Reads one line. On a terminal, the input is not echoed.
fn from_stdin(key: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let echo = rustix::termios::tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
    if let Some(shown) = &echo {
        printer::info(&format!("{key}:"));
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
        tracing::debug!("the terminal modes could not be changed; the input may be visible");
    }
}

fn from_file(path: &std::path::Path) -> Result<String> {
    let shown = path.display();
    let wrong = |error| Error::input(format!("`{shown}` cannot be read")).because(error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(wrong)?.read_to_string(&mut text).map_err(wrong)?;
    Ok(text.trim().to_owned())
}
