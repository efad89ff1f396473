//! Local disk: paths that must stay below a root, and errors of files.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use crate::error::{Error, Result};

/// Refuses a path that leads out of the root, because it or one of its folders is a symbolic link.
pub(crate) fn inside(root: &Path, path: &Path) -> Result<()> {
    let there = path.ancestors().find(|path| path.symlink_metadata().is_ok());
    let (Some(there), Ok(whole)) = (there, root.canonicalize()) else { return Ok(()) };
    let real = there.canonicalize().map_err(|error| failed("look up", there, &error))?;
    if real.starts_with(&whole) {
        return Ok(());
    }
    let (shown, root) = (there.display(), root.display());
    Err(Error::input(format!("`{shown}` is a link that leads out of `{root}`"))
        .because(format!("it leads to `{}`", real.display()))
        .with_hint("replace it by a folder, or use its destination as the connection's `url`"))
}

/// The error of an operation on a path, with a hint about its cause. `what` is a verb: `read`, `write to`.
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "give the user that runs weir permission to write there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space and run again: the run resumes from its last checkpoint"
        }
        ErrorKind::ReadOnlyFilesystem => "choose a folder on a writable filesystem",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "choose a folder, not a file",
        ErrorKind::CrossesDevices => "the whole root must be on one filesystem",
        _ => "check the folder and the disk",
    };
    Error::target(format!("cannot {what} `{}`", path.display()))
        .because(error.to_string())
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_root_are_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::os::unix::fs::symlink(&other, root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("in")).unwrap();
        for (path, is_inside) in [
            ("a", true),
            ("a/b/c", true),
            ("new/file", true),
            ("in/file", true),
            ("out", false),
            ("out/file", false),
        ] {
            assert_eq!(inside(&root, &root.join(path)).is_ok(), is_inside, "{path}");
        }
    }

    #[test]
    fn the_hint_fits_the_cause() {
        for (kind, hint) in [
            (ErrorKind::PermissionDenied, "permission"),
            (ErrorKind::StorageFull, "free some space"),
            (ErrorKind::NotADirectory, "not a file"),
            (ErrorKind::Other, "check the folder"),
        ] {
            let error = failed("write", Path::new("out"), &kind.into());
            assert_eq!(error.to_string(), "cannot write `out`");
            assert!(error.hint().unwrap().contains(hint), "{error:?}");
        }
    }
}
