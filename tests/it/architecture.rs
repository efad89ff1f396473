//! Architecture invariants as tests: module docs, file length, and who may import whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Layers from the bottom up. A module imports from layers below its own, never beside or above.
const LAYERS: &[&[&str]] = &[
    &["secret"],
    &["error", "hash"],
    &["certificates", "path", "report", "schema", "state", "template", "yaml"],
    &["decode", "quota"],
    &["spec", "write"],
    &["replication"],
    &["connection", "http"],
    &["plan"],
    &["progress"],
    &["queue"],
    &["planner"],
    &["extract"],
    &["run"],
    &["sync"],
    &["cli"],
];

/// Files of a folder, folders aside.
const MAX_FILES: usize = 14;

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

#[test]
fn folders_are_rooms() {
    for folder in folders() {
        let files = fs::read_dir(&folder).unwrap().filter(|entry| {
            entry.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "rs")
        });
        let count = files.count();
        assert!(count <= MAX_FILES || folder == src(), "{}: {count} files", folder.display());
    }
}

#[test]
fn files_import_each_other_in_no_circle() {
    for root in [src(), crates().join("weir-sim/src")] {
        let graph = imports_between_files(&root);
        // A file in no circle imports only such files, or only such files import it.
        let mut rest: BTreeSet<&str> = graph.keys().map(String::as_str).collect();
        let imports =
            |file: &str, other: &str| graph.get(file).is_some_and(|all| all.contains(other));
        while let Some(free) = rest.iter().copied().find(|file| {
            !rest.iter().any(|other| imports(file, other))
                || !rest.iter().any(|other| imports(other, file))
        }) {
            rest.remove(free);
        }
        let rest: Vec<String> = rest
            .iter()
            .map(|file| {
                let named: Vec<&str> =
                    rest.iter().copied().filter(|other| imports(file, other)).collect();
                format!("{file} → {}", named.join(", "))
            })
            .collect();
        assert!(rest.is_empty(), "files that import each other in a circle:\n{}", rest.join("\n"));
    }
}

/// The files of a crate by module path (`http::client`), each with those that it names outside its tests.
fn imports_between_files(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let texts: BTreeMap<String, (String, bool)> = files(root)
        .into_iter()
        .filter_map(|(path, text)| {
            let is_mod = path.file_name().is_some_and(|name| name == "mod.rs");
            Some((module_path(root, &path)?, (text, is_mod)))
        })
        .collect();
    let resolve = |path: &str| {
        let mut path = path;
        loop {
            if texts.contains_key(path) {
                return Some(path.to_owned());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    texts
        .iter()
        .map(|(own, (text, is_mod))| {
            let code = code_of(text);
            let children: Vec<&str> = code
                .lines()
                .filter_map(|line| line.split_once("mod ")?.1.trim_end().strip_suffix(';'))
                .filter(|_| *is_mod)
                .collect();
            let parent = own.rsplit_once("::").map_or("", |(parent, _)| parent);
            let absolute = |path: &str| {
                let (first, rest) = path.split_once("::").unwrap_or((path, ""));
                let join = |base: &str| format!("{base}::{rest}").trim_matches(':').to_owned();
                match first {
                    "crate" => Some(rest.to_owned()),
                    "super" => Some(join(parent)),
                    "self" => Some(join(own)),
                    child if children.contains(&child) => Some(format!("{own}::{path}")),
                    _ => None,
                }
            };
            let named = named_paths(&code, &children);
            let imports = named.iter().filter_map(|path| resolve(&absolute(path)?));
            (own.clone(), imports.filter(|import| import != own).collect())
        })
        .collect()
}

/// Code without comments and tests.
fn code_of(text: &str) -> String {
    let code = text.split("\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every path of a `use`, its groups spread out, and every path in the code that begins with `crate`, `super`,
/// `self` or the name of a child module.
fn named_paths(code: &str, children: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = String::new();
    let mut left = code;
    while let Some((before, after)) = left.split_once("use ") {
        rest.push_str(before);
        let is_statement = before.rsplit('\n').next().is_some_and(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with("pub")
        });
        let Some((tree, then)) = after.split_once(';').filter(|_| is_statement) else {
            left = after;
            continue;
        };
        spread("", tree, &mut paths);
        left = then;
    }
    rest.push_str(left);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in rest.match_indices("::") {
        let (before, after) = rest.split_at(at);
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        let first = before.get(start..).unwrap_or_default();
        let inside = before.get(..start).unwrap_or_default().ends_with([':', '.']);
        let begins = ["crate", "super", "self"].contains(&first) || children.contains(&first);
        if begins && !inside {
            let tail: String = after.chars().take_while(|c| is_word(*c) || *c == ':').collect();
            paths.push(format!("{first}{}", tail.trim_end_matches(':')));
        }
    }
    paths
}

/// Spreads `a::{b, c::{d, e}}` out into `a::b`, `a::c::d` and `a::c::e`.
fn spread(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let join = |name: &str| match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}::{name}"),
    };
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(join(path.strip_suffix("::self").unwrap_or(path)));
        return;
    };
    let base = join(head.trim().trim_end_matches(':'));
    let (mut depth, mut from) = (0, 0);
    let inner = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner.get(from..at).unwrap_or_default();
                if !part.trim().is_empty() {
                    spread(&base, part, paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

#[test]
fn use_trees_are_spread_out() {
    let code = "use crate::a::{self, b, c::{D, e as f}};\npub use child::G;\nfn x() { super::y::z(); child::k() }";
    let named = named_paths(code, &["child"]);
    let expected = [
        "crate::a::self",
        "crate::a::b",
        "crate::a::c::D",
        "crate::a::c::e",
        "child::G",
        "super::y::z",
        "child::k",
    ];
    assert_eq!(named, expected);
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

/// `src/http/pagination/link.rs` → `http`; the crate roots belong to no layer.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(src()).ok()?;
    let first = inside.iter().next()?.to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(first.as_str(), "lib" | "main")).then_some(first)
}

/// `src/http/client.rs` → `http::client`; `None` for the crate roots.
fn module_path(root: &Path, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root).ok()?.with_extension("");
    let mut parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    if parts.last() == Some(&"mod") {
        parts.pop();
    }
    (!matches!(parts.as_slice(), ["lib" | "main"])).then(|| parts.join("::"))
}

/// Every file of the program and of the crates beside it.
fn sources() -> Vec<(PathBuf, String)> {
    let mut all = files(&src());
    all.extend(files(&crates()));
    all
}

fn folders() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        sources().iter().filter_map(|(path, _)| Some(path.parent()?.to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

fn files(root: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
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

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")
}
