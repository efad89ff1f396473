//! The context of a command: environment variables, `.env` files and the connections file.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::cli::args::Shared;
use crate::cli::output::printer;
use crate::connection::{Connections, EnvFile, Environment, exposed, stored};
use crate::error::{Error, Result};

/// The environment and the files that define connections.
pub(crate) struct CliContext {
    pub(crate) connections: Connections,
    /// weir's own folder: `$WEIR_HOME`, by default `~/.weir`; `None` if neither is known.
    home: Option<PathBuf>,
}

impl CliContext {
    /// Reads the environment, the files `named` on the command line, the `.env` files beside the
    /// `replication` and in the current folder, and the connections file in weir's own folder.
    pub(crate) fn read(
        shared: Shared,
        named: &[PathBuf],
        replication: Option<&Path>,
    ) -> Result<Self> {
        let environment: Environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        // A relative HOME would be a different folder for each working directory.
        let home = set("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let mut connections = Connections { home, ..Connections::default() };
        let here = connections.base(None);
        let home = match (set("WEIR_HOME"), &connections.home) {
            (Some(home), _) => Some(here.path(home)?),
            (None, home) => home.as_ref().map(|home| home.join(".weir")),
        };
        connections.environment = environment;
        for path in named {
            let path = here.path(&path.to_string_lossy())?;
            if !add_file(&mut connections, path.clone(), shared)? {
                let what = format!("`{}` does not exist", path.display());
                return Err(Error::input(what).with_hint(
                    "`--env-file` takes the path of a file of variables or connections",
                ));
            }
        }
        let beside = replication.map(|path| path.with_file_name(".env"));
        let current = PathBuf::from(".env");
        let same = beside
            .as_ref()
            .is_none_or(|one| one.canonicalize().ok() == current.canonicalize().ok());
        for path in beside.into_iter().chain((!same).then_some(current.clone())) {
            add_file(&mut connections, path, shared)?;
        }
        if replication.is_none() {
            add_file(&mut connections, current, shared)?;
        }
        let context = Self { connections, home };
        context.with_own_file(shared)
    }

    /// Adds the connections of the connections file.
    fn with_own_file(mut self, shared: Shared) -> Result<Self> {
        let Ok(file) = self.file() else { return Ok(self) };
        if let Some(warning) = exposed(&file) {
            printer::note(shared, &warning);
        }
        if let Some(text) = stored(&file)? {
            self.connections.files.push(EnvFile::of_connections(file, text)?);
        }
        Ok(self)
    }

    /// The path of the connections file, whether or not the file exists.
    ///
    /// # Errors
    /// weir's own folder is unknown. weir does not store secrets in the current folder.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        self.home().map(|home| home.join("connections.yaml"))
    }

    /// weir's own folder.
    pub(crate) fn home(&self) -> Result<&Path> {
        self.home.as_deref().ok_or_else(|| {
            Error::input(
                "weir has no folder for its files: neither WEIR_HOME nor an absolute HOME is set",
            )
            .with_hint("set one: export WEIR_HOME=/var/lib/weir")
        })
    }
}

/// Adds the definitions of a file of variables or connections (`.yaml`). Returns `false` if the file
/// does not exist. An unreadable file causes only a note, because the command may not need it.
fn add_file(connections: &mut Connections, path: PathBuf, shared: Shared) -> Result<bool> {
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            printer::note(shared, &format!("`{}` cannot be read: {error}", path.display()));
            return Ok(true);
        }
    };
    if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
        connections.files.push(EnvFile::of_connections(path, text)?);
        return Ok(true);
    }
    let (file, warnings) = EnvFile::parse(path, &text, &connections.environment);
    for warning in warnings {
        printer::note(shared, &warning);
    }
    connections.files.push(file);
    Ok(true)
}
