//! Untrusted specs, replications and `.env` files, and the user's trust in them by their digests.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{BufRead, IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::cli::args::Shared;
use crate::cli::context::CliContext;
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
    /// Fields, each with the environment variable that weir withholds from the spec.
    pub(crate) unread: Vec<(String, String)>,
}

/// Name of the file beside the connections file. It has one line per trusted file: `DIGEST PATH`.
const FILE: &str = "trusted";

/// What a command uses a connection for. Later variants include earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// Only its definition: weir runs, reads and sends nothing.
    Look,
    /// Access to the target and to the state in it.
    Target,
    /// Also the lookups of connection fields that the spec declares.
    Source,
    /// All requests to the API.
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

/// The prefix of the environment variables that an untrusted spec may read.
pub(crate) fn prefix(spec: &Spec) -> String {
    let letter = |letter: char| {
        if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }
    };
    spec.name.chars().map(letter).chain(['_']).collect()
}

/// Restricts a spec that does not come with weir to environment variables with its own prefix.
/// Returns the withheld variables, each with its field. The field's help names them.
pub(crate) fn restrict(spec: &mut Spec) -> Vec<(String, String)> {
    let prefix = prefix(spec);
    let mut unread = Vec::new();
    for (name, field) in &mut spec.connection {
        let Some(variable) = field.env.take_if(|variable| !variable.starts_with(&prefix)) else {
            continue;
        };
        write!(
            field.help,
            " (weir does not read the variable {variable}, because `{}` does not come with weir and the name does \
             not begin with {prefix}; to use it, set {name}='${{{variable}}}')",
            spec.name
        )
        .ok();
        unread.push((name.clone(), variable));
    }
    unread
}

/// Whether the user trusts the file with this digest.
fn knows(context: &CliContext, digest: &str) -> bool {
    let text =
        file(context).ok().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().next() == Some(digest))
}

fn file(context: &CliContext) -> Result<PathBuf> {
    context.home().map(|home| home.join(FILE))
}

/// Records that the user trusts the file with this digest.
pub(crate) fn remember(context: &CliContext, digest: &str, path: &Path) -> Result<()> {
    if knows(context, digest) {
        return Ok(());
    }
    let file = file(context)?;
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

/// The environment variables that a spec reads.
pub(crate) fn variables(spec: &Spec) -> BTreeSet<&str> {
    spec.connection.values().filter_map(|field| field.env.as_deref()).collect()
}

/// What a spec sends and reads, as lines for users.
pub(crate) fn described(origins: &BTreeSet<String>, variables: &BTreeSet<&str>) -> Vec<String> {
    let origins = origins.iter().map(|origin| format!("  it sends requests to {origin}"));
    let variables = variables.iter().map(|name| format!("  it reads the variable {name}"));
    origins.chain(variables).map(|line| on_a_line(&line)).collect()
}

/// Checks that the user trusts a spec that does not come with weir. Asks the user on a terminal. A spec
/// that sends requests only to this machine needs no trust.
pub(crate) fn confirm(
    spec: &Spec,
    foreign: &Foreign,
    fields: &Fields,
    shared: Shared,
    context: &CliContext,
) -> Result<()> {
    tell_unread(spec, foreign, fields, shared, context);
    let origins = origins(spec, fields);
    if origins.iter().all(|origin| is_loopback(origin)) || knows(context, &foreign.digest) {
        return Ok(());
    }
    let shown = foreign.file.display();
    let told = described(&origins, &variables(spec)).join("\n");
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if asks && !shared.json && !shared.quiet {
        printer::info(&format!(
            "The spec {shown} does not come with weir. It would use the values of the connection:\n{told}\n\
             Trust its current content? [y/N]"
        ));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).ok();
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return remember(context, &foreign.digest, &foreign.file);
        }
    }
    let what = format!("the spec `{shown}` does not come with weir and is not trusted:\n{told}");
    Err(Error::input(what).with_hint(format!("read the file, then run: weir trust {shown}")))
}

/// Prints a note for each environment variable that is set and withheld from the spec.
fn tell_unread(
    spec: &Spec,
    foreign: &Foreign,
    fields: &Fields,
    shared: Shared,
    context: &CliContext,
) {
    let set = context.connections.variables();
    for (field, variable) in &foreign.unread {
        let secret = spec.connection.get(field).is_some_and(|field| field.secret);
        if set.contains_key(variable) && fields.is_empty(field, secret) {
            let why = format!(
                "the spec `{}` cannot read the variable {variable} for `{field}`, because the spec does not come \
                 with weir and the name does not begin with {}; to pass it, write {field}: ${{{variable}}}",
                foreign.file.display(),
                prefix(spec)
            );
            printer::note(shared, &on_a_line(&why));
        }
    }
}

/// The connection with the values of its `command:` and `file:` properties. weir runs commands and
/// reads files only for the user's own connections file and for files that the user trusts. An
/// environment variable of the process may also name a file.
pub(crate) fn fetched(connection: Connection, context: &CliContext) -> Result<Connection> {
    let own = context.file().ok();
    let file = connection.file.clone();
    let commands = connection.has_commands();
    let harmless = file.is_none() && !commands || connection.elsewhere.is_empty();
    if harmless || file.is_some() && file == own {
        return connection.fetched();
    }
    let text = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    if text.is_some_and(|text| knows(context, &digest(&text))) {
        return connection.fetched();
    }
    let Connection { name, origin, .. } = &connection;
    let (what, done) = if commands { ("command:", "runs") } else { ("file:", "reads") };
    let place = file.as_ref().map_or_else(|| origin.to_string(), |file| file.display().to_string());
    let what = format!(
        "connection `{name}` ({place}) has a `{what}` value, which weir {done} only from files that you trust"
    );
    Err(Error::input(what).with_hint(match file {
        Some(file) => format!("read the file, then run: weir trust {}", file.display()),
        None => format!("define it in the connections file: weir conns set {name} …"),
    }))
}

/// Prints a note if a file other than the user's own affects one of the user's connections: it
/// redefines the connection, or sets a variable for one of its fields.
pub(crate) fn tell_borrowed(
    connection: &Connection,
    spec: Option<&Spec>,
    connections: &Connections,
    shared: Shared,
    context: &CliContext,
) {
    let Ok(own) = context.file() else { return };
    let name = &connection.name;
    let Some(file) = &connection.file else { return };
    if *file != own {
        if connections.is_entry(name, &own) {
            let what = format!(
                "connection `{name}` is the definition in {}, not the one in your connections file",
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
                "the variable {variable} in {} sets `{field}` of your connection `{name}`",
                from.display()
            );
            printer::note(shared, &on_a_line(&what));
        }
    }
}
