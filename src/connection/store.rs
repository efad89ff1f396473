//! The connections file: entries added and removed without touching the others.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;

use super::Document;
use crate::error::{Error, Result};

/// Text of the connections file; `None` when there is none.
pub fn stored(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(path, "cannot be read").because(error)),
    }
}

/// Adds an entry or replaces the one of its name. The file is private to its owner.
///
/// # Errors
/// The file is not valid YAML (it is left as it is), or cannot be written.
pub fn save(path: &Path, name: &str, properties: &IndexMap<String, String>) -> Result<()> {
    let mut lines = without(path, name)?.0;
    let at = lines.iter().position(|line| line.trim_end() == "connections:");
    let at = at.map_or_else(
        || {
            lines.push("connections:".to_owned());
            lines.len()
        },
        |at| at + 1,
    );
    let mut entry = vec![format!("  {name}:")];
    for (key, value) in properties {
        // JSON strings are YAML too, and quote whatever must be quoted.
        entry.push(format!("    {key}: {}", serde_json::Value::from(value.as_str())));
    }
    lines.splice(at..at, entry);
    write(path, &lines)
}

/// Removes an entry; `false` when there is none of its name.
pub fn remove(path: &Path, name: &str) -> Result<bool> {
    let (mut lines, removed) = without(path, name)?;
    if removed {
        if lines.last().is_some_and(|line| line.trim_end() == "connections:") {
            lines.pop();
            lines.push("connections: {}".to_owned());
        }
        write(path, &lines)?;
    }
    Ok(removed)
}

/// Lines of the file without an entry, and whether the entry was there.
fn without(path: &Path, name: &str) -> Result<(Vec<String>, bool)> {
    let text = stored(path)?.unwrap_or_default();
    Document::parse_private(&path.display().to_string(), &text)?;
    let mut kept = Vec::new();
    let mut removed = false;
    let mut inside = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let header =
            line.trim_start().split_once(':').map(|(key, _)| key.trim_matches(['"', '\'']));
        if indent == 2 && header.is_some_and(|key| key.eq_ignore_ascii_case(name)) {
            inside = true;
            removed = true;
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
    Ok((kept, removed))
}

fn write(path: &Path, lines: &[String]) -> Result<()> {
    let failed = |error| wrong(path, "cannot be written").because(error);
    let text = lines.join("\n") + "\n";
    // What is written must be readable again, or the old file stays.
    Document::parse_private(&path.display().to_string(), &text)?;
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    if !folder.exists() {
        fs::create_dir_all(&folder).map_err(failed)?;
        private(&folder, 0o700).map_err(failed)?;
    }
    let draft = path.with_extension("yaml.new");
    drop(fs::remove_file(&draft));
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    let mut file = file.open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)
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

fn wrong(path: &Path, what: &str) -> Error {
    Error::input(format!("`{}` {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn entries_come_and_go_and_leave_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/connections.yaml");
        save(&path, "WIKI", &properties(&[("type", "api"), ("api_token", "a: \"b\" #c")])).unwrap();
        save(&path, "PG", &properties(&[("url", "postgres://x")])).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("# mine\n{text}")).unwrap();
        save(&path, "wiki", &properties(&[("type", "api")])).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "# mine\nconnections:\n  wiki:\n    type: \"api\"\n  PG:\n    url: \"postgres://x\"\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(remove(&path, "PG").unwrap());
        assert!(!remove(&path, "PG").unwrap());
        assert!(remove(&path, "WIKI").unwrap());
        save(&path, "NEW", &properties(&[("type", "files")])).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("NEW"));
    }

    #[test]
    fn a_broken_file_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connections.yaml");
        fs::write(&path, "connections: {").unwrap();
        assert!(save(&path, "X", &properties(&[])).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "connections: {");
    }
}
