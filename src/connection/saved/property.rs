//! One property of an entry in the connections file, read and replaced under a lock.
//!
//! It is a file lock of the operating system on a file beside the connections file. It ends with
//! the process that holds it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::connection::reference::is_reference;
use crate::connection::saved::file::{
    CONNECTIONS, contents, stored, with_entry, without, write, written, wrong,
};
use crate::error::{Error, Result};

/// The lock of a connections file; dropping it releases the lock.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _lock: File,
}

/// Locks the connections file; `None` if another process holds the lock.
///
/// # Errors
/// The file's folder is not writable.
pub fn lock(path: &Path) -> Result<Option<FileLock>> {
    let lock = lock_file(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(FileLock { path: path.to_owned(), _lock: lock })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(wrong(path, "cannot be locked").because(error)),
    }
}

/// Locks the connections file and waits for the lock. A process holds it at most for one request to
/// a token server.
pub(crate) fn lock_waiting(path: &Path) -> Result<FileLock> {
    let lock = lock_file(path)?;
    lock.lock().map_err(|error| wrong(path, "cannot be locked").because(error))?;
    Ok(FileLock { path: path.to_owned(), _lock: lock })
}

fn lock_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(path.with_extension("yaml.lock"));
    opened.map_err(|error| wrong(path, "cannot be locked").because(error))
}

impl FileLock {
    /// A property of an entry as written; `None` if it is absent or refers to another place
    /// (`${VARIABLE}`, `file:`, `command:`).
    pub fn property(&self, name: &str, key: &str) -> Result<Option<String>> {
        let text = stored(&self.path)?.unwrap_or_default();
        let mut all = contents(&self.path.display().to_string(), &text)?;
        let value = entry_of(&mut all, name).and_then(|entry| entry.get(key)?.as_str());
        Ok(value.filter(|value| !value.is_empty() && !is_reference(value)).map(str::to_owned))
    }

    /// Replaces the value of a property atomically and durably. Everything else stays.
    pub fn replace(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let text = stored(&self.path)?.unwrap_or_default();
        let shown = self.path.display().to_string();
        let mut wanted = contents(&shown, &text)?;
        let Some(entry) = entry_of(&mut wanted, name) else {
            return Err(Error::input(format!("`{shown}` no longer has an entry `{name}`")));
        };
        entry.insert(key.to_owned(), Value::from(value));
        let properties: IndexMap<String, Value> =
            entry.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let is_wanted =
            |edited: &String| contents(&shown, edited).is_ok_and(|found| found == wanted);
        let in_place = Some(with_line(&text, name, key, value)).filter(is_wanted);
        let anew =
            || Some(with_entry(without(&text, name), name, Some(&properties))).filter(is_wanted);
        write(&self.path, &in_place.or_else(anew).unwrap_or_else(|| written(&wanted)))
    }
}

fn entry_of<'a>(all: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let entries = all.get_mut(CONNECTIONS)?.as_object_mut()?;
    let found = entries.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    found.1.as_object_mut()
}

/// The text with a new value of a property, if the property has a line of its own.
fn with_line(text: &str, name: &str, key: &str, value: &str) -> String {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let (before, after) = line.split_once(':').unwrap_or((line, ""));
        let header = before.trim().trim_matches(['"', '\'']);
        if indent <= 2 && !line.trim().is_empty() {
            let bare = after.trim().is_empty() || after.trim_start().starts_with('#');
            inside = indent == 2 && header.eq_ignore_ascii_case(name) && bare;
        }
        if inside && indent > 2 && header == key {
            lines.push(format!("{before}: {}", Value::from(value)));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_property_is_replaced_and_all_else_stays() {
        let table = [
            "# mine\nconnections:\n  WIKI:   # the site\n    type: api\n    token: \"old\"\n    # note\n  PG: postgres://x\n",
            "# mine\nconnections:\n  wiki:\n    type: api # an API\n    token: old\n  PG: { token: old }\n",
            "connections: { WIKI: { type: api, token: old }, PG: postgres://x }\n",
            "connections:\n  PG: postgres://x\n  Wiki: { type: api, token: old }\n",
            "connections:\n    WIKI:\n        token: >-\n          old\n        type: api\n        port: 7\n",
        ];
        for text in table {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("connections.yaml");
            fs::write(&path, text).unwrap();
            let read = || contents("x", &fs::read_to_string(&path).unwrap()).unwrap();
            let mut wanted = read();
            entry_of(&mut wanted, "WIKI").unwrap().insert("token".to_owned(), "n\"e: w".into());
            let held = lock(&path).unwrap().unwrap();
            assert_eq!(held.property("WIKI", "token").unwrap().as_deref(), Some("old"), "{text}");
            held.replace("WIKI", "token", "n\"e: w").unwrap();
            assert_eq!(read(), wanted, "{text}");
            assert_eq!(held.property("WIKI", "token").unwrap().as_deref(), Some("n\"e: w"));
            if text.contains("mine") {
                let kept = fs::read_to_string(&path).unwrap();
                let comments = |text: &str| text.matches('#').count();
                assert_eq!(comments(&kept), comments(text), "{kept}");
            }
        }
    }

    #[test]
    fn one_at_a_time_holds_the_lock_and_values_elsewhere_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connections.yaml");
        let entry = "{ a: '${A}', b: 'file:/x', c: 'command:x', d: '', e: 'file:///x' }";
        fs::write(&path, format!("connections:\n  X: {entry}\n")).unwrap();
        let held = lock(&path).unwrap().unwrap();
        assert!(lock(&path).unwrap().is_none());
        for key in ["a", "b", "c", "d", "f"] {
            assert_eq!(held.property("X", key).unwrap(), None, "{key}");
        }
        assert!(held.property("X", "e").unwrap().is_some());
        assert_eq!(held.property("Y", "a").unwrap(), None);
        assert!(held.replace("Y", "a", "1").is_err());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
    }
}
