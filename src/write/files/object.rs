//! The `object` of a table: a path below the root. It names a file or a folder of parts, and their format.

use crate::error::{Error, Result};
use crate::write::formats::format::{EXTENSIONS, Format};
use crate::write::target::SAMPLE;

/// The files of a table, below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Path of the file, or of the folder of the parts.
    pub(crate) path: String,
    /// What precedes and follows the `*` in the names of parts; `None` for a single file.
    pub(crate) parts: Option<(String, String)>,
    pub(crate) format: Format,
}

impl Object {
    /// Reads an object.
    ///
    /// # Errors
    /// It is no path below the root, has no known extension, or has a misplaced `*`.
    pub(crate) fn parse(object: &str) -> Result<Self> {
        let segments: Vec<&str> = object.split('/').collect();
        let odd =
            |part: &&str| part.is_empty() || matches!(*part, "." | "..") || part.contains('\\');
        if segments.iter().any(odd) || segments.iter().any(|part| part.starts_with(".weir")) {
            return Err(wrong(object, "is not a path below the target's root")
                .with_hint("write it like `wiki/pages.parquet`, without `..` or a leading `/`"));
        }
        if segments.first().is_some_and(|first| first.starts_with('~')) {
            return Err(wrong(object, "begins with `~`, but is a path below the target's root")
                .with_hint("name the home folder as the `url` of a connection of type files"));
        }
        no_shell_variable(object)?;
        let (name, folders) = segments.split_last().unwrap_or((&object, &[]));
        let format = Format::of_name(name).ok_or_else(|| {
            let known: Vec<String> = EXTENSIONS.iter().map(|(ext, _)| format!("`{ext}`")).collect();
            wrong(object, "has no extension of a known format")
                .with_hint(format!("let it end with one of {}", known.join(", ")))
        })?;
        if folders.iter().any(|folder| folder.contains('*')) || name.matches('*').count() > 1 {
            return Err(wrong(object, "has a misplaced `*`")
                .with_hint("one `*` in the file name is allowed, as in `pages/*.parquet`"));
        }
        let Some((before, after)) = name.split_once('*') else {
            return Ok(Self { path: object.to_owned(), parts: None, format });
        };
        if folders.is_empty() {
            return Err(wrong(object, "has no folder of its own for its parts")
                .with_hint(format!("put one before it, as in `pages/{name}`")));
        }
        Ok(Self {
            path: folders.join("/"),
            parts: Some((before.to_owned(), after.to_owned())),
            format,
        })
    }

    /// Name of a run's part, numbered from 0; for a single file, its own name.
    pub(crate) fn part_name(&self, run_id: &str, number: usize) -> String {
        match &self.parts {
            Some((before, after)) => format!("{before}{run_id}-{number:05}{after}"),
            None => self.path.rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether this run wrote the part with this name.
    pub(crate) fn is_of_run(&self, name: &str, run_id: &str) -> bool {
        let Some((before, after)) = &self.parts else { return false };
        let inner =
            name.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(after.as_str()));
        inner.and_then(|inner| inner.strip_prefix(run_id)).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// The object for a sample of an object: `wiki/pages.parquet` → `wiki/pages__sample.parquet`,
/// `pages/*.parquet` → `pages__sample/*.parquet`.
pub(crate) fn beside(object: &str) -> String {
    let (folders, name) = object.rsplit_once('/').unwrap_or(("", object));
    if name.contains('*') {
        return format!("{folders}{SAMPLE}/{name}");
    }
    let mut stem = name;
    for (extension, _) in EXTENSIONS {
        stem = name.strip_suffix(extension).filter(|cut| cut.len() < stem.len()).unwrap_or(stem);
    }
    let extension = name.strip_prefix(stem).unwrap_or_default();
    let folders = if folders.is_empty() { String::new() } else { format!("{folders}/") };
    format!("{folders}{stem}{SAMPLE}{extension}")
}

fn wrong(object: &str, why: &str) -> Error {
    Error::input(format!("the object `{object}` {why}"))
}

/// Refuses a path with a shell variable (`$HOME`), which would become the name of a folder.
///
/// # Errors
/// A segment of the path is a shell variable.
pub fn no_shell_variable(path: &str) -> Result<()> {
    let is_variable = |part: &&str| {
        let first = part.strip_prefix('$').and_then(|name| name.chars().next());
        first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
    };
    let Some(part) = path.split('/').find(is_variable) else { return Ok(()) };
    let name = part.trim_start_matches('$');
    Err(Error::input(format!("`{path}` has `{part}`, but weir only fills in `${{{name}}}`"))
        .with_hint(format!("write `${{{name}}}`, in braces")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::formats::format::Compression;
    use crate::write::staging::names::label;

    #[test]
    fn the_extension_names_the_format_and_a_star_makes_a_folder() {
        let single = |path: &str, format| Object { path: path.to_owned(), parts: None, format };
        let parts = |path: &str, before: &str, after: &str, format| Object {
            path: path.to_owned(),
            parts: Some((before.to_owned(), after.to_owned())),
            format,
        };
        let cases = [
            ("pages.parquet", single("pages.parquet", Format::Parquet)),
            ("a/b.jsonl", single("a/b.jsonl", Format::Jsonl(Compression::Plain))),
            ("b.ndjson.gz", single("b.ndjson.gz", Format::Jsonl(Compression::Gzip))),
            ("p/*.parquet", parts("p", "", ".parquet", Format::Parquet)),
            (
                "a/p/x-*.jsonl.zst",
                parts("a/p", "x-", ".jsonl.zst", Format::Jsonl(Compression::Zstd)),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Object::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_malformed_object_is_refused_with_a_hint() {
        let cases = [
            ("pages", "`.jsonl.zst`"),
            ("pages.json", "`.jsonl`"),
            ("pages/", "without `..`"),
            ("/pages.parquet", "without `..`"),
            ("../pages.parquet", "without `..`"),
            (".weir/pages.parquet", "without `..`"),
            (".parquet", "`.parquet`"),
            ("*/pages.parquet", "one `*`"),
            ("p/*-*.parquet", "one `*`"),
            ("*.parquet", "`pages/*.parquet`"),
            ("~/pages.parquet", "`url`"),
            ("~ann/pages.parquet", "`url`"),
            ("$HOME/pages.parquet", "in braces"),
        ];
        for (text, hint) in cases {
            let error = Object::parse(text).unwrap_err();
            assert!(error.hint().is_some_and(|it| it.contains(hint)), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_sample_is_beside_its_object_and_of_the_same_format() {
        for (object, sample) in [
            ("pages.parquet", "pages__sample.parquet"),
            ("a.b/pages.jsonl.gz", "a.b/pages__sample.jsonl.gz"),
            ("a/pages/x-*.parquet", "a/pages__sample/x-*.parquet"),
        ] {
            assert_eq!(beside(object), sample);
        }
    }

    #[test]
    fn parts_carry_run_and_number() {
        let object = Object::parse("p/x-*.jsonl").unwrap();
        assert_eq!(object.part_name("r1", 7), "x-r1-00007.jsonl");
        assert_eq!(label("2026:a/b"), "2026-a-b");
    }
}
