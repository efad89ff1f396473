//! Names of files and folders, made of texts that may hold any character.

use crate::hash;

/// Folder for staged rows, below a local root or the prefix of an object store. Hidden from programs that
/// look for data files.
pub(crate) const STAGES: &str = ".weir/stage";

/// A run's id as part of a file name.
pub(crate) fn label(run_id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    run_id.chars().map(safe).collect()
}

/// A name for a file or a folder that no other text has.
pub(crate) fn unique(text: &str) -> String {
    let hash = hash::fnv(text.bytes());
    let readable: String = label(text).chars().take(80).collect();
    format!("{readable}-{hash:016x}")
}
