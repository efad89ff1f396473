//! The documentation as files: where it is, and whether a test is to write it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Environment variable that makes the tests write generated pages and transcripts instead of comparing them.
pub(crate) const UPDATE: &str = "UPDATE_DOCS";

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether pages are to be written.
pub(crate) fn updates() -> bool {
    std::env::var_os(UPDATE).is_some()
}

/// Compares a page with what it should be, or writes it.
#[track_caller]
pub(crate) fn expect_page(path: &Path, text: &str) {
    if updates() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let mut lines = found.lines().zip(text.lines()).enumerate();
    let differ = lines.find(|(_, (is, should))| is != should);
    assert!(
        found == text,
        "{} is out of date; run the tests with {UPDATE}=1 to write it. First difference: {differ:?}",
        path.display()
    );
}

/// Files below a folder, sorted; what git does not keep is left out.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", ".git", "book"].contains(&name) {
                folders.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The Markdown files that people read: those at the top of the repository, and the book.
pub(crate) fn pages() -> Vec<PathBuf> {
    let is_page = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "md");
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = top.filter(is_page).collect();
    pages.extend(files(&root().join("docs")).into_iter().filter(is_page));
    pages.sort();
    pages
}
