//! Changes of the connections file: adds and removes entries without changing the others.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::connection::saved::file::{
    CONNECTIONS, contents, make_home, stored, with_entry, without, write, written,
};
use crate::connection::saved::property::lock_waiting;
use crate::error::{Error, Result};

/// Adds an entry, or replaces the entry with its name. The file is private to its owner.
///
/// # Errors
/// The file is not valid YAML (it then stays unchanged), or cannot be written.
pub fn save(path: &Path, name: &str, properties: &IndexMap<String, Value>) -> Result<()> {
    edit(path, name, Some(properties)).map(|_| ())
}

/// Removes an entry; `false` if there is none with this name.
pub fn remove(path: &Path, name: &str) -> Result<bool> {
    edit(path, name, None)
}

/// Replaces or removes an entry. Returns whether there was one with its name.
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
    // Editing lines keeps comments and formatting. If the layout of the file is not supported, the
    // whole file is rewritten.
    let edited = with_entry(without(&text, name), name, entry);
    let same = contents(&shown, &edited).is_ok_and(|found| found == wanted);
    write(path, &if same { edited } else { written(&wanted) })?;
    Ok(known)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::connection::saved::file::exposed;

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
