//! Names of files and folders for texts with any characters.

use crate::hash;

/// Folder for staged rows, below a local root or the prefix of an object store. Hidden from programs that
/// look for data files.
pub(crate) const STAGES: &str = ".weir/stage";

/// A text as part of a file name: every character other than ASCII letters, digits and `_` becomes `-`.
pub(crate) fn label(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    text.chars().map(safe).collect()
}

/// A name for a file or a folder that is different for every text: readable characters and a hash. Names are
/// stored, so they must not change.
pub(crate) fn unique(text: &str) -> String {
    let hash = hash::fnv(text.bytes());
    let readable: String = label(text).chars().take(80).collect();
    format!("{readable}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_differ() {
        for (text, start) in [
            ("nightly", "nightly-"),
            ("wiki/pages.parquet", "wiki-pages-parquet-"),
            ("ä b", "--b-"),
        ] {
            let name = unique(text);
            assert!(name.starts_with(start), "{name}");
            assert_eq!(name.len(), start.len() + 16);
        }
        assert_ne!(unique("a/b"), unique("a-b"));
        assert_eq!(unique(&"x".repeat(500)).len(), 80 + 1 + 16);
    }
}
