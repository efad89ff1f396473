//! The text of a connections file: read, edited line by line, and written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::yaml::Document;

/// Key of the entries.
pub(crate) const CONNECTIONS: &str = "connections";

/// Text of the connections file; `None` if the file does not exist.
pub fn stored(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(path, "cannot be read").because(error)),
    }
}

/// A warning if users other than its owner may read the file.
#[cfg(unix)]
pub fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o077 != 0).then(|| format!("`{shown}` can be read by other users: chmod 600 {shown}"))
}

/// A warning if users other than its owner may read the file.
#[cfg(not(unix))]
pub fn exposed(_: &Path) -> Option<String> {
    None
}

/// The content of the file.
pub(crate) fn contents(path: &str, text: &str) -> Result<Map<String, Value>> {
    let document = Document::parse_private(path, text)?;
    let mut contents: Map<String, Value> = document.read()?;
    if contents.get(CONNECTIONS).is_some_and(Value::is_null) {
        contents.insert(CONNECTIONS.to_owned(), json!({}));
    }
    Ok(contents)
}

/// The lines of a text without one entry.
pub(crate) fn without(text: &str, name: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let header =
            line.trim_start().split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']));
        if indent == 2 && header.is_some_and(|key| key.eq_ignore_ascii_case(name)) {
            inside = true;
            continue;
        }
        if inside && (line.trim().is_empty() || indent > 2) {
            continue;
        }
        inside = false;
        if line.trim_end() != "connections: {}" {
            kept.push(line.to_owned());
        }
    }
    kept
}

/// A text with these lines and one more entry.
pub(crate) fn with_entry(
    mut lines: Vec<String>,
    name: &str,
    entry: Option<&IndexMap<String, Value>>,
) -> String {
    let at = lines.iter().position(|line| line.trim_end() == "connections:");
    let at = at.map_or(lines.len(), |at| at + 1);
    let mut added = Vec::new();
    if at == lines.len() && lines.last().is_none_or(|line| line.trim_end() != "connections:") {
        added.push("connections:".to_owned());
    }
    if let Some(properties) = entry {
        added.push(format!("  {name}:"));
        for (key, value) in properties {
            // JSON is valid YAML, and quotes everything that needs quotes.
            added.push(format!("    {key}: {value}"));
        }
    }
    lines.splice(at..at, added);
    lines.join("\n") + "\n"
}

/// The text of a connections file with this content.
pub(crate) fn written(contents: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (key, value) in contents {
        match value.as_object() {
            Some(entries) if key == CONNECTIONS && !entries.is_empty() => {
                lines.push(format!("{CONNECTIONS}:"));
                for (name, entry) in entries {
                    lines.push(format!("  {}: {entry}", Value::from(name.as_str())));
                }
            }
            _ => lines.push(format!("{}: {value}", Value::from(key.as_str()))),
        }
    }
    lines.join("\n") + "\n"
}

/// Creates the folder of the file, private to its owner.
pub(crate) fn make_home(path: &Path) -> Result<()> {
    let failed = |error| wrong(path, "cannot be written").because(error);
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    if !folder.exists() {
        fs::create_dir_all(&folder).map_err(failed)?;
        private(&folder, 0o700).map_err(failed)?;
    }
    Ok(())
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |error| wrong(path, "cannot be written").because(error);
    let draft = path.with_extension("yaml.new");
    drop(fs::remove_file(&draft));
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut file = file.open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)?;
    // The file may hold the only valid refresh token, so its rename must survive a power failure.
    #[cfg(unix)]
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all()).map_err(failed)?;
    Ok(())
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn private(_: &Path, _: u32) -> std::io::Result<()> {
    Ok(())
}

pub(crate) fn wrong(path: &Path, what: &str) -> Error {
    Error::input(format!("`{}` {what}", path.display()))
}
