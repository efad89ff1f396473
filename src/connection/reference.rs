//! References to values: `${NAME}`, `file:/path`, `command:…`.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::connection::env_file::Environment;
use crate::connection::origin::Context;
use crate::error::{Error, Result};

/// Timeout of a `command:`, and the interval at which it is checked.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
/// Maximum size of a file or of a command's output, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// A reference to a value outside the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The content of a file.
    File(PathBuf),
    /// The output of a command.
    Command(String),
}

impl Reference {
    /// Reads the file or runs the command.
    pub(super) fn fetch(&self) -> Result<String> {
        match self {
            Self::File(path) => from_file(path),
            Self::Command(command) => from_command(command),
        }
    }
}

/// What a text refers to as written, before substitution of variables. Only this decides which
/// commands weir runs and which files it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written<'text> {
    /// `command:…`
    Command(&'text str),
    /// `file:…`, before substitution of its variables.
    File(&'text str),
    /// The value itself.
    Plain,
}

pub(super) fn written(text: &str) -> Written<'_> {
    if let Some(command) = text.strip_prefix("command:") {
        return Written::Command(command);
    }
    let file = text.strip_prefix("file:").filter(|path| !path.starts_with("//"));
    file.map_or(Written::Plain, Written::File)
}

/// The value of a property's text after substitution, and its reference, if it is one. The text as
/// written decides whether it is a reference, so the value of a variable never becomes a command or
/// a part of one.
pub(super) fn meant(text: &str, context: &Context<'_>) -> Result<(String, Option<Reference>)> {
    if ["command:", "file:"].contains(&text.trim()) {
        let what = format!("`{}` needs a value after the colon", text.trim());
        return Err(Error::input(what)
            .with_hint("write `command:pass show wiki` or `file:/run/secrets/token`"));
    }
    let filled = || interpolated(text, context.variables).map_err(Error::input);
    match written(text) {
        Written::Command(command) => {
            Ok((text.to_owned(), Some(Reference::Command(command.to_owned()))))
        }
        Written::File(_) => {
            let text = filled()?;
            let path = text.strip_prefix("file:").unwrap_or_default();
            let file = Reference::File(context.base.path(path)?);
            Ok((text, Some(file)))
        }
        Written::Plain => Ok((filled()?, None)),
    }
}

/// Whether a property's text is a reference to a value outside the definition.
pub(super) fn is_reference(text: &str) -> bool {
    text.contains("${") || written(text) != Written::Plain
}

/// A text with each `${NAME}` replaced by the variable's value; `$${` is an escaped `${`.
///
/// # Errors
/// A clause that names the variable that is not set.
pub fn interpolated(text: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, tail) = after.split_once('}').ok_or("`${` without its `}`")?;
        let value = environment.get(name);
        let value = value.ok_or_else(|| format!("the variable `{name}` is not set"))?;
        out.push_str(before);
        out.push_str(value);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn from_file(path: &Path) -> Result<String> {
    let shown = path.display();
    let wrong = |error| Error::input(format!("`{shown}` cannot be read")).because(error);
    let mut text = String::new();
    fs::File::open(path)
        .map_err(wrong)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(wrong)?;
    Ok(text.trim().to_owned())
}

/// Runs a command and returns its output. Its error output is not shown, because it may contain
/// secrets.
fn from_command(command: &str) -> Result<String> {
    let wrong = |what: &str| {
        Error::input(format!("a `command:` {what}")).with_hint("run it in a shell to see why")
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| wrong("cannot be run").because(error))?;
    let mut waited = Duration::ZERO;
    let status = loop {
        if let Some(status) =
            child.try_wait().map_err(|error| wrong("cannot be waited for").because(error))?
        {
            break status;
        }
        if waited >= PATIENCE {
            // The command may have ended in the meantime; then there is nothing to stop.
            drop(child.kill());
            return Err(wrong("took longer than 30 s"));
        }
        wait(STEP);
        waited += STEP;
    };
    if !status.success() {
        return Err(wrong(&match status.code() {
            Some(code) => format!("failed with exit code {code}"),
            None => "was ended by a signal".to_owned(),
        }));
    }
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        output
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| wrong("did not print any text").because(error))?;
    }
    Ok(text.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "connections are read before an async runtime exists"
)]
fn wait(step: Duration) {
    std::thread::sleep(step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::origin::Origin;
    use crate::connection::place::Base;

    #[test]
    fn references_are_followed_once_they_are_needed() {
        let environment = [("A", "1"), ("C", "command:touch x"), ("F", "file:/etc/passwd")];
        let environment: Environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let context = Context {
            origin: Origin::Environment,
            file: None,
            base: Base::default(),
            variables: &environment,
        };
        let at = |text: &str| match meant(text, &context)? {
            (_, Some(reference)) => reference.fetch(),
            (text, None) => Ok(text),
        };
        assert_eq!(at("x${A}y${A}").unwrap(), "x1y1");
        assert_eq!(at("$${A}").unwrap(), "${A}");
        assert_eq!(at("command:printf ' secret '").unwrap(), "secret");
        assert_eq!(at("command:A=2; printf ${A}").unwrap(), "2");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "token\n").unwrap();
        assert_eq!(at(&format!("file:{}", file.path().display())).unwrap(), "token");
        assert_eq!(at("file:///tmp/out").unwrap(), "file:///tmp/out");
        assert_eq!(at("${C}").unwrap(), "command:touch x");
        assert_eq!(at("${F}").unwrap(), "file:/etc/passwd");
        assert!(at("${B}").is_err());
        assert!(at("${A").is_err());
        assert!(at("command:exit 3").is_err());
        assert!(at("file:/no/such/file").is_err());
    }
}
