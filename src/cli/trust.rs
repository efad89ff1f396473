//! Files of others that the user trusts, by the digest of their content: specs, replications, `.env`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{BufRead, IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Exit,
    args::Shared,
    files::{Foreign, Surroundings},
    printer,
};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::plan::{is_loopback, origins};
use crate::spec::{Fields, Spec};

/// Name of the file beside the connections file: a line for each, `DIGEST PATH`.
const FILE: &str = "trusted";

/// What a connection is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// To look at it: nothing is run, read or sent.
    Look,
    /// To reach the target, and the state there.
    Target,
    /// To ask the API what the source is, too, where the spec looks that up.
    Source,
    /// To send all requests to the API.
    All,
}

/// SHA-256 of a text, in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    let mut out = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(out, "{byte:02x}").ok();
    }
    out
}

/// The prefix of the variables that a spec which is not shipped may read.
pub(super) fn prefix(spec: &Spec) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }
    };
    spec.name.chars().map(letter).chain(['_']).collect()
}

/// A spec that is not shipped reads variables of its own prefix alone; what it says of others is told
/// where a field is missing.
pub(super) fn restrict(spec: &mut Spec) {
    let prefix = prefix(spec);
    for (name, field) in &mut spec.connection {
        let Some(variable) = field.env.take_if(|variable| !variable.starts_with(&prefix)) else {
            continue;
        };
        write!(
            field.help,
            " (the variable {variable} is not read: {} does not come with weir, and the name does not begin with \
             {prefix}; to use it, give {name}='${{{variable}}}')",
            spec.name
        )
        .ok();
    }
}

/// Whether the user trusts a file of this digest.
fn knows(around: &Surroundings, digest: &str) -> bool {
    let text = file(around).ok().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().next() == Some(digest))
}

fn file(around: &Surroundings) -> Result<PathBuf> {
    around.home().map(|home| home.join(FILE))
}

fn remember(around: &Surroundings, digest: &str, path: &Path) -> Result<()> {
    if knows(around, digest) {
        return Ok(());
    }
    let file = file(around)?;
    let failed =
        |error| Error::input(format!("`{}` cannot be written", file.display())).because(error);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let line = format!("{digest} {}\n", path.display().to_string().replace('\n', " "));
    let mut out = options.open(&file).map_err(failed)?;
    out.write_all(line.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

/// `weir trust FILE`.
pub(super) fn run(path: &Path, shared: Shared, around: &Surroundings) -> Result<Exit> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| Error::input(format!("`{shown}` cannot be read")).because(error))?;
    let mut spec = Spec::load(&shown, &text).ok();
    let origins = spec.as_ref().map(|spec| origins(spec, &Fields::default())).unwrap_or_default();
    spec.iter_mut().for_each(restrict);
    let variables = spec.as_ref().map(variables).unwrap_or_default();
    let commands: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.contains("command:")).collect();
    let digest = digest(&text);
    remember(around, &digest, path)?;
    if shared.json {
        printer::json(&json!({
            "file": shown, "sha256": digest, "origins": origins, "variables": variables,
            "commands": commands,
        }));
        return Ok(Exit::Done);
    }
    let mut lines = vec![format!("{shown}: trusted as it is now, until it changes")];
    lines.extend(described(&origins, &variables));
    lines.extend(commands.iter().map(|line| format!("  it may run: {line}")));
    printer::data(&lines.join("\n"));
    Ok(Exit::Done)
}

/// The variables that a spec reads.
fn variables(spec: &Spec) -> BTreeSet<&str> {
    spec.connection.values().filter_map(|field| field.env.as_deref()).collect()
}

fn described(origins: &BTreeSet<String>, variables: &BTreeSet<&str>) -> Vec<String> {
    let origins = origins.iter().map(|origin| format!("  it sends requests to {origin}"));
    let variables = variables.iter().map(|name| format!("  it reads the variable {name}"));
    origins.chain(variables).collect()
}

/// Lets a spec that is not shipped send requests only if the user trusts it. Asks, where somebody can answer;
/// one that talks to this machine alone needs no trust.
pub(super) fn confirm(
    (spec, foreign): (&Spec, &Foreign),
    fields: &Fields,
    shared: Shared,
    around: &Surroundings,
) -> Result<()> {
    let origins = origins(spec, fields);
    if origins.iter().all(|origin| is_loopback(origin)) || knows(around, &foreign.digest) {
        return Ok(());
    }
    let shown = foreign.file.display();
    let told = described(&origins, &variables(spec)).join("\n");
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if asks && !shared.json && !shared.quiet {
        printer::talk(&format!(
            "The spec {shown} does not come with weir. It gets the values of the connection:\n{told}\n\
             Trust it as it is now? [y/N]"
        ));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).ok();
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return remember(around, &foreign.digest, &foreign.file);
        }
    }
    let what = format!("the spec `{shown}` does not come with weir, and is not trusted:\n{told}");
    Err(Error::input(what).with_hint(format!("read it, then: weir trust {shown}")))
}

/// The connection with the values that stand elsewhere. Commands are run only from the user's own
/// connections file, and from a file that the user trusts.
pub(super) fn fetched(connection: Connection, around: &Surroundings) -> Result<Connection> {
    if !connection.has_commands() {
        return connection.fetched();
    }
    let own = around.file().ok();
    let file = connection.file.clone();
    if file.is_some() && file == own {
        return connection.fetched();
    }
    let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    if text.is_some_and(|text| knows(around, &digest(&text))) {
        return connection.fetched();
    }
    let Connection { name, origin, .. } = &connection;
    let what =
        format!("connection `{name}` ({origin}) has a `command:`, which is not run from there");
    Err(Error::input(what).with_hint(match file {
        Some(file) => format!("read the file, then: weir trust {}", file.display()),
        None => format!("keep it in the connections file: weir conns set {name} …"),
    }))
}
