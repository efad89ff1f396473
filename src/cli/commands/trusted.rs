//! `weir trust FILE`: shows what a file can do, and records it as trusted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::cli::args::Shared;
use crate::cli::context::CliContext;
use crate::cli::exit::Exit;
use crate::cli::output::printer;
use crate::cli::trust::{described, digest, remember, restrict, variables};
use crate::connection::{
    Elsewhere, EnvFile, Environment, Outside, elsewhere_in, elsewhere_in_file, shown_name,
};
use crate::error::{Error, Result};
use crate::plan::origins;
use crate::replication::Replication;
use crate::secret::on_a_line;
use crate::spec::{Fields, Spec};
use crate::yaml::Document;

/// The parts of a file that require trust.
struct Content {
    spec: Option<Spec>,
    /// The commands that its connections run, and the files that they read.
    elsewhere: Vec<Elsewhere>,
}

pub(crate) fn run(path: &Path, shared: Shared, context: &CliContext) -> Result<Exit> {
    let shown = shown_name(&path.display().to_string());
    let text = fs::read_to_string(path)
        .map_err(|error| Error::input(format!("`{shown}` cannot be read")).because(error))?;
    let Content { mut spec, elsewhere } = content(path, &text)?;
    let defaults = spec.as_ref().map(defaults).unwrap_or_default();
    let origins = spec.as_ref().map(|spec| origins(spec, &defaults)).unwrap_or_default();
    let unread: Vec<String> =
        spec.iter_mut().flat_map(restrict).map(|(_, variable)| variable).collect();
    let variables = spec.as_ref().map(variables).unwrap_or_default();
    let digest = digest(&text);
    remember(context, &digest, path)?;
    if shared.json {
        let (commands, files): (Vec<_>, Vec<_>) =
            elsewhere.iter().partition(|one| matches!(one.place, Outside::Command(_)));
        let told = |one: &&Elsewhere| {
            let (key, place) = match &one.place {
                Outside::Command(command) => ("command", command),
                Outside::File(file) => ("file", file),
            };
            json!({ "connection": one.connection, "field": one.field, key: place })
        };
        printer::json(&json!({
            "file": shown, "sha256": digest, "origins": origins, "variables": variables,
            "commands": commands.iter().map(told).collect::<Vec<_>>(),
            "files": files.iter().map(told).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    let mut lines = vec![format!("{shown}: trusted until it changes")];
    lines.extend(described(&origins, &variables));
    lines.extend(
        unread.iter().map(|name| on_a_line(&format!("  it cannot read the variable {name}"))),
    );
    lines.extend(elsewhere.iter().map(|Elsewhere { connection, field, place }| {
        on_a_line(&match place {
            Outside::Command(command) => format!("  {connection}.{field} runs: {command}"),
            Outside::File(file) => format!("  {connection}.{field} is read from the file: {file}"),
        })
    }));
    printer::data(&lines.join("\n"));
    Ok(Exit::Done)
}

/// The content of a file, whatever its use. Trust depends on the content alone.
fn content(path: &Path, text: &str) -> Result<Content> {
    let shown = path.display().to_string();
    let document = Replication::parse(&shown, text);
    let has =
        |key: &str| document.as_ref().is_ok_and(|document| document.root().get(key).is_some());
    let mut elsewhere = Vec::new();
    let replication = ["source", "target", "streams"].into_iter().all(has);
    if let Ok(document) = &document {
        elsewhere.extend(elsewhere_in(&env_of(document)));
    }
    let connections = has("connections");
    if connections {
        let file = EnvFile::of_connections(PathBuf::from(path), text.to_owned())?;
        elsewhere.extend(elsewhere_in_file(&file)?);
    }
    let spec = Spec::load(&shown, text);
    let (lines, _) = EnvFile::parse(PathBuf::from(path), text, &Environment::new());
    elsewhere.extend(elsewhere_in(&lines.definitions));
    elsewhere.sort();
    elsewhere.dedup();
    let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let variables = !yaml && !lines.definitions.is_empty();
    if replication || connections || variables || spec.is_ok() {
        return Ok(Content { spec: spec.ok(), elsewhere });
    }
    Err(match (&document, spec) {
        (Err(problems), _) if yaml => problems.clone().into(),
        (_, Err(problems)) if has("base_url") => problems.into(),
        _ => {
            let shown = shown_name(&shown);
            Error::input(format!("`{shown}` is not a file that weir uses")).with_hint(
                "`weir trust` takes a spec, a replication, or a file of connections or variables",
            )
        }
    })
}

fn env_of(document: &Document) -> Environment {
    Replication::env_of(document).into_iter().collect()
}

/// The default values of the fields of a spec.
fn defaults(spec: &Spec) -> Fields {
    let set = spec.connection.iter().filter_map(|(name, field)| {
        let value = field.default.clone().filter(|_| !field.secret)?;
        Some((name.clone(), value))
    });
    Fields { open: set.collect(), ..Fields::default() }
}
