//! Architecture invariants as tests: module docs, file length, and who may import whom.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Layers from the bottom up. A module imports from layers below its own, never beside or above.
const LAYERS: &[&[&str]] = &[
    &["secret"],
    &["error", "hash"],
    &["certificates", "ledger", "path", "report", "schema", "state", "template", "yaml"],
    &["decode"],
    &["fetch", "spec", "write"],
    &["replication"],
    &["connection", "paginate", "quota", "respond", "throttle"],
    &["auth"],
    &["plan"],
    &["engine", "sim"],
    &["sync"],
    &["cli"],
];

/// Lines of a file up to its tests.
const MAX_LINES: usize = 500;

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{}: start with a `//!` line", path.display());
    }
}

#[test]
fn no_file_outgrows_its_idea() {
    for (path, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = code.lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines; split it by idea", path.display());
    }
}

#[test]
fn imports_point_down() {
    for (path, text) in sources() {
        let Some(module) = module_of(&path) else { continue };
        let own = layer_of(&module).unwrap_or_else(|| panic!("`{module}` is in no layer"));
        for import in imports(&text) {
            let allowed = import == module || layer_of(&import).is_some_and(|layer| layer < own);
            assert!(allowed, "{}: `{module}` must not import `{import}`", path.display());
        }
        assert!(!text.contains("super::super"), "{}: name the module: `crate::…`", path.display());
    }
}

/// Top-level modules named by `crate::…` paths in code (comments and doc links aside).
///
/// Reads one `use crate::module::…;` per module, the form the style asks for: `use crate::{…}`
/// yields an empty name, which no layer holds.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let ident =
        |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code.flat_map(|line| line.split("crate::").skip(1).map(ident).collect::<Vec<String>>())
        .collect()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// `src/paginate/link.rs` → `paginate`; the crate roots belong to no layer.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(src()).ok()?;
    let first = inside.iter().next()?.to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(first.as_str(), "lib" | "main")).then_some(first)
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
