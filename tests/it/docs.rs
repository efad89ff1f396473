//! The documentation holds together: links lead somewhere, files that are named exist, and the book's contents
//! list every page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use crate::support::book::{files, pages, root};

/// Endings of files whose name in a text is checked.
const ENDINGS: [&str; 6] = [".rs", ".yaml", ".toml", ".md", ".sh", ".py"];

/// Folders at the top of the repository: a path that begins with one of them names a file in it.
const FOLDERS: [&str; 10] = [
    "src/",
    "tests/",
    "docs/",
    "specs/",
    "benches/",
    "examples/",
    "replications/",
    "scripts/",
    ".ci/",
    "crates/",
];

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if let Some(why) = broken_link(&page, &link) {
                broken.push(format!("{}: {link}: {why}", shown(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_that_is_named_exists() {
    let known: Vec<String> = files(&root()).iter().map(|path| shown(path)).collect();
    let mut missing = Vec::new();
    let mut look = |place: &Path, text: &str| {
        for name in spans(text).filter(|span| is_path(span)) {
            let name = name.trim_start_matches("./").trim_end_matches('/');
            let exists = root().join(name).exists()
                || known.iter().any(|path| path.ends_with(&format!("/{name}")));
            if !exists {
                missing.push(format!("{}: `{name}`", shown(place)));
            }
        }
    };
    // The changelog names what was there at its time.
    for page in pages().iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        look(page, &prose(&fs::read_to_string(page).unwrap()));
    }
    let sources = ["src", "tests", "benches", "crates"].map(|folder| files(&root().join(folder)));
    for source in sources.concat().iter().filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        let text = fs::read_to_string(source).unwrap();
        let comments = text.lines().map(str::trim_start);
        let comments = comments
            .filter_map(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix("///")));
        look(source, &comments.collect::<Vec<_>>().join("\n"));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_contents_list_every_page() {
    let book = root().join("docs/src");
    let contents = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = links(&contents).map(|link| book.join(link)).collect();
    let pages: BTreeSet<PathBuf> = files(&book).into_iter().collect();
    let pages = pages.into_iter().filter(|page| !page.ends_with("SUMMARY.md"));
    let missing: Vec<String> =
        pages.filter(|page| !listed.contains(page)).map(|page| shown(&page)).collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {}", missing.join(", "));
    let once: BTreeSet<&PathBuf> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "a page is listed twice");
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 180, "{lines} lines; move what does not fit into docs/");
}

/// Path below the repository's root.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// A text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Code spans of a text.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a code span names a file of the repository.
fn is_path(span: &str) -> bool {
    let plain = span.chars().all(|sign| sign.is_ascii_alphanumeric() || "_-./".contains(sign));
    let inside = FOLDERS.iter().any(|folder| span.starts_with(folder));
    let is_source = span.strip_suffix(".rs").is_some_and(|name| !name.is_empty());
    plain
        && (is_source || inside && (span.ends_with('/') || !span.contains('.') || has_ending(span)))
}

fn has_ending(span: &str) -> bool {
    ENDINGS.iter().any(|ending| span.ends_with(ending))
}

/// Targets of a page's links, those in code left out.
fn links(text: &str) -> impl Iterator<Item = String> {
    let prose = prose(text);
    let without_code: Vec<&str> = prose.split('`').step_by(2).collect();
    let text = without_code.join("`");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect::<Vec<_>>().into_iter()
}

/// Why a link leads nowhere.
fn broken_link(page: &Path, link: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.to_owned(),
        _ => normal(&page.parent().unwrap().join(path)),
    };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let book = root().join("docs/src");
    if page.starts_with(&book) && !target.starts_with(&book) {
        return Some("the book links only to its own pages; name the file instead".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let headings = prose(&fs::read_to_string(&target).unwrap());
    let headings = headings.lines().filter(|line| line.starts_with('#')).map(anchor_of);
    let found = headings.collect::<BTreeSet<_>>().contains(anchor);
    (!found).then(|| "there is no such heading".to_owned())
}

/// Removes `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// The anchor that mdBook and GitHub give a heading.
fn anchor_of(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect()
}
