//! Files of others that the user trusts, by the digest of their content: specs, replications, `.env`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{BufRead, IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::cli::args::Shared;
use crate::cli::context::Surroundings;
use crate::cli::output::printer;
use crate::connection::{Connection, Connections};
use crate::error::{Error, Result};
use crate::plan::{is_loopback, origins};
use crate::secret::on_a_line;
use crate::spec::{Fields, Spec};

/// A spec that does not come with weir.
pub(crate) struct Foreign {
    pub(crate) file: PathBuf,
    /// Digest of its text.
    pub(crate) digest: String,
    /// Fields with the variables that it asks for and does not get.
    pub(crate) unread: Vec<(String, String)>,
}

/// Name of the file beside the connections file: a line for each, `DIGEST PATH`.
const FILE: &str = "trusted";

/// What a connection is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
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
pub(crate) fn digest(text: &str) -> String {
    let mut out = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(out, "{byte:02x}").ok();
    }
    out
}

/// The prefix of the variables that a spec which is not shipped may read.
pub(crate) fn prefix(spec: &Spec) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }
    };
    spec.name.chars().map(letter).chain(['_']).collect()
}

/// A spec that is not shipped reads variables of its own prefix alone. What it says of others is told
/// where a field is missing; it comes back, each with its field.
pub(crate) fn restrict(spec: &mut Spec) -> Vec<(String, String)> {
    let prefix = prefix(spec);
    let mut unread = Vec::new();
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
        unread.push((name.clone(), variable));
    }
    unread
}

/// Whether the user trusts a file of this digest.
fn knows(around: &Surroundings, digest: &str) -> bool {
    let text = file(around).ok().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().next() == Some(digest))
}

fn file(around: &Surroundings) -> Result<PathBuf> {
    around.home().map(|home| home.join(FILE))
}

pub(crate) fn remember(around: &Surroundings, digest: &str, path: &Path) -> Result<()> {
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

/// The variables that a spec reads.
pub(crate) fn variables(spec: &Spec) -> BTreeSet<&str> {
    spec.connection.values().filter_map(|field| field.env.as_deref()).collect()
}

pub(crate) fn described(origins: &BTreeSet<String>, variables: &BTreeSet<&str>) -> Vec<String> {
    let origins = origins.iter().map(|origin| format!("  it sends requests to {origin}"));
    let variables = variables.iter().map(|name| format!("  it reads the variable {name}"));
    origins.chain(variables).map(|line| on_a_line(&line)).collect()
}

/// Lets a spec that is not shipped send requests only if the user trusts it. Asks, where somebody can answer;
/// one that talks to this machine alone needs no trust.
pub(crate) fn confirm(
    (spec, foreign): (&Spec, &Foreign),
    fields: &Fields,
    shared: Shared,
    around: &Surroundings,
) -> Result<()> {
    tell_unread(spec, foreign, fields, (shared, around));
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

/// Tells of the variables that a spec asks for, that are set, and that it does not get.
fn tell_unread(
    spec: &Spec,
    foreign: &Foreign,
    fields: &Fields,
    (shared, around): (Shared, &Surroundings),
) {
    let set = around.connections.variables();
    for (field, variable) in &foreign.unread {
        let secret = spec.connection.get(field).is_some_and(|field| field.secret);
        if set.contains_key(variable) && fields.is_empty(field, secret) {
            let why = format!(
                "the spec `{}` does not get the variable {variable} for `{field}`: it does not come with weir, \
                 and the name does not begin with {}; to give it, write {field}: ${{{variable}}}",
                foreign.file.display(),
                prefix(spec)
            );
            printer::note(shared, &on_a_line(&why));
        }
    }
}

/// The connection with the values that stand elsewhere. Commands are run, and files are read, only where the
/// user's own connections file says so, or a file that the user trusts; a variable of the process's own
/// environment may name a file.
pub(crate) fn fetched(connection: Connection, around: &Surroundings) -> Result<Connection> {
    let own = around.file().ok();
    let file = connection.file.clone();
    let commands = connection.has_commands();
    let harmless = file.is_none() && !commands || connection.elsewhere.is_empty();
    if harmless || file.is_some() && file == own {
        return connection.fetched();
    }
    let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    if text.is_some_and(|text| knows(around, &digest(&text))) {
        return connection.fetched();
    }
    let Connection { name, origin, .. } = &connection;
    let (what, done) = if commands { ("command:", "run") } else { ("file:", "read") };
    let place = file.as_ref().map_or_else(|| origin.to_string(), |file| file.display().to_string());
    let what =
        format!("connection `{name}` ({place}) has a `{what}`, which is not {done} from there");
    Err(Error::input(what).with_hint(match file {
        Some(file) => format!("read the file, then: weir trust {}", file.display()),
        None => format!("keep it in the connections file: weir conns set {name} …"),
    }))
}

/// Tells where a file that is not the user's own says something of a connection that is: a definition in
/// place of it, a variable for one of its fields.
pub(crate) fn tell_borrowed(
    connection: &Connection,
    spec: Option<&Spec>,
    connections: &Connections,
    (shared, around): (Shared, &Surroundings),
) {
    let Ok(own) = around.file() else { return };
    let name = &connection.name;
    let Some(file) = &connection.file else { return };
    if *file != own {
        if connections.is_entry(name, &own) {
            let what = format!(
                "connection `{name}` is that of {}, not the one of your connections file",
                file.display()
            );
            printer::note(shared, &on_a_line(&what));
        }
        return;
    }
    for (field, declared) in spec.into_iter().flat_map(|spec| &spec.connection) {
        let given = connection.property(field).is_some_and(|value| !value.is_empty());
        let Some(variable) = declared.env.as_ref().filter(|_| !given) else { continue };
        if let Some(from) = connections.file_of_variable(variable).filter(|from| *from != own) {
            let what = format!(
                "`{field}` of your connection `{name}` is the variable {variable} of {}",
                from.display()
            );
            printer::note(shared, &on_a_line(&what));
        }
    }
}
