//! The connections file: entries added and removed without touching the others.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use super::property::lock_waiting;
use super::{Document, Environment};
use crate::error::{Error, Result};

/// The key that holds the entries.
pub(super) const CONNECTIONS: &str = "connections";

/// Text of the connections file; `None` when there is none.
pub fn stored(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(path, "cannot be read").because(error)),
    }
}

/// The `variables` of a connections file, which `${NAME}` may name.
///
/// # Errors
/// The file is not valid YAML.
pub(super) fn variables_of(path: &Path, text: &str) -> Result<Environment> {
    let all = contents(&path.display().to_string(), text)?;
    let entries = all.get("variables").and_then(Value::as_object).into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(entries.map(|(name, value)| (name.clone(), text(value))).collect())
}

/// Adds an entry or replaces the one of its name. The file is private to its owner.
///
/// # Errors
/// The file is not valid YAML (it is left as it is), or cannot be written.
pub fn save(path: &Path, name: &str, properties: &IndexMap<String, Value>) -> Result<()> {
    edit(path, name, Some(properties)).map(|_| ())
}

/// Removes an entry; `false` when there is none of its name.
pub fn remove(path: &Path, name: &str) -> Result<bool> {
    edit(path, name, None)
}

/// A warning when others than its owner may read the file.
#[cfg(unix)]
pub fn exposed(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & 0o077 != 0)
        .then(|| format!("`{shown}` can be read by others than you: chmod 600 {shown}"))
}

/// A warning when others than its owner may read the file.
#[cfg(not(unix))]
pub fn exposed(_: &Path) -> Option<String> {
    None
}

/// Replaces or removes an entry; tells whether there was one of its name.
fn edit(path: &Path, name: &str, entry: Option<&IndexMap<String, Value>>) -> Result<bool> {
    if entry.is_some() {
        make_home(path)?;
    }
    let _lock = match path.parent() {
        Some(home) if !home.exists() => None,
        _ => Some(lock_waiting(path)?),
    };
    let text = stored(path)?.unwrap_or_default();
    let shown = path.display().to_string();
    let mut wanted = contents(&shown, &text)?;
    let slot = wanted.entry(CONNECTIONS).or_insert(Value::Null);
    if slot.is_null() {
        *slot = json!({});
    }
    let Some(entries) = slot.as_object_mut() else {
        return Err(Error::input(format!("`{shown}` has no mapping `{CONNECTIONS}`")));
    };
    let before = entries.len();
    entries.retain(|known, _| !known.eq_ignore_ascii_case(name));
    let known = entries.len() < before;
    if let Some(properties) = entry {
        entries.insert(name.to_owned(), json!(properties));
    } else if !known {
        return Ok(false);
    }
    // Editing lines keeps comments and spelling. Where the file is written in a way that this does
    // not understand, it is written anew.
    let edited = with_entry(without(&text, name), name, entry);
    let same = contents(&shown, &edited).is_ok_and(|found| found == wanted);
    write(path, &if same { edited } else { written(&wanted) })?;
    Ok(known)
}

/// The whole file as data; nothing where it has an empty mapping.
pub(super) fn contents(path: &str, text: &str) -> Result<Map<String, Value>> {
    let document = Document::parse_private(path, text)?;
    let mut contents: Map<String, Value> = document.read()?;
    if contents.get(CONNECTIONS).is_some_and(Value::is_null) {
        contents.insert(CONNECTIONS.to_owned(), json!({}));
    }
    Ok(contents)
}

/// Lines of a text without an entry.
pub(super) fn without(text: &str, name: &str) -> Vec<String> {
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

/// A text of these lines and an entry.
pub(super) fn with_entry(
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
            // JSON is YAML too, and quotes whatever must be quoted.
            added.push(format!("    {key}: {value}"));
        }
    }
    lines.splice(at..at, added);
    lines.join("\n") + "\n"
}

/// The text of a file with this content.
pub(super) fn written(contents: &Map<String, Value>) -> String {
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

/// Makes the folder of the file, private to its owner.
fn make_home(path: &Path) -> Result<()> {
    let failed = |error| wrong(path, "cannot be written").because(error);
    let folder = path.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    if !folder.exists() {
        fs::create_dir_all(&folder).map_err(failed)?;
        private(&folder, 0o700).map_err(failed)?;
    }
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
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
    // What replaces a dead refresh token must outlast a power cut: the name, too.
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

pub(super) fn wrong(path: &Path, what: &str) -> Error {
    Error::input(format!("`{}` {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> IndexMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
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
    fn no_way_of_writing_the_file_loses_an_entry() {
        let table = [
            "connections: { PG: { url: \"postgres://x\" } }\n",
            "connections:\n    PG:\n        url: postgres://x\n",
            "connections:   # mine\n  PG: postgres://x\n",
            "connections:\n\n  # the warehouse\n  PG: { url: 'postgres://x' }\nother: 1\n",
            "base: &b { url: postgres://x }\nconnections:\n  PG: *b\n",
            "connections:\n  PG:\n    url: |\n      postgres://x\n  Wiki:\n    type: api\n",
            "{ connections: { PG: postgres://x } }",
            "connections:\n",
            "",
        ];
        for text in table {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("connections.yaml");
            fs::write(&path, text).unwrap();
            let read = || contents("x", &fs::read_to_string(&path).unwrap()).unwrap();
            let mut wanted = read();
            save(&path, "WIKI", &properties(&[("type", "api"), ("spec", "wiki")])).unwrap();
            let slot = wanted.entry(CONNECTIONS).or_insert(json!({}));
            slot.as_object_mut().unwrap().remove("Wiki");
            slot["WIKI"] = json!({ "type": "api", "spec": "wiki" });
            assert_eq!(read(), wanted, "{text}");
            assert!(remove(&path, "wiki").unwrap());
            wanted[CONNECTIONS].as_object_mut().unwrap().remove("WIKI");
            assert_eq!(read(), wanted, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connections.yaml");
        save(&path, "X", &properties(&[("url", "out")])).unwrap();
        assert_eq!(exposed(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(exposed(&path).unwrap().contains("chmod 600"));
    }

    #[test]
    fn a_broken_file_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connections.yaml");
        for text in ["connections: {", "connections: []\n", "connections:\n  A: x\n  A: y\n"] {
            fs::write(&path, text).unwrap();
            assert!(save(&path, "X", &properties(&[])).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
