//! Paths as users write them: `~` is the home folder, and relative paths start at the folder of the
//! file that contains them.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::write::files::no_shell_variable;

/// The base of relative paths, and the home folder for `~`.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// Folder of the file that contains the path; empty: the current folder.
    pub folder: PathBuf,
    /// The user's home folder, if known.
    pub home: Option<PathBuf>,
}

impl Base {
    /// Resolves a path. An absolute path stays unchanged.
    ///
    /// # Errors
    /// `~` without a known home folder; the home folder of another user (`~ann`); or a `$NAME` that
    /// only a shell replaces.
    pub fn path(&self, text: &str) -> Result<PathBuf> {
        no_shell_variable(text)?;
        let Some(rest) = text.strip_prefix('~') else { return Ok(self.folder.join(text)) };
        if !rest.is_empty() && !rest.starts_with('/') {
            let what = format!("`{text}` begins with `~`, which is only supported before a `/`");
            return Err(Error::input(what).with_hint(format!("for a name with a `~`: ./{text}")));
        }
        let home = self.home.as_ref().ok_or_else(|| {
            Error::input(format!(
                "`{text}` needs your home folder, but HOME is not set or not an absolute path"
            ))
            .with_hint("set HOME, or write the full path")
        })?;
        Ok(home.join(rest.trim_start_matches('/')))
    }

    /// Resolves a path or URL. A URL stays unchanged.
    pub(super) fn place(&self, text: &str) -> Result<String> {
        if let Some((scheme, path)) = text.split_once("://") {
            if scheme == "file" {
                no_shell_variable(path)?;
                if path.trim_start_matches('/').split('/').next() == Some("~") {
                    let what = format!("`{text}`: `~` is not supported in a URL");
                    return Err(Error::input(what).with_hint("write the path without `file://`"));
                }
            }
            return Ok(text.to_owned());
        }
        Ok(self.path(text)?.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_by_its_file_and_a_tilde_is_the_home_folder() {
        let base = Base { folder: "/etc/weir".into(), home: Some("/home/ann".into()) };
        let table = [
            ("out", "/etc/weir/out"),
            ("./out", "/etc/weir/./out"),
            ("/var/out", "/var/out"),
            ("~", "/home/ann/"),
            ("~/out", "/home/ann/out"),
            ("a~b", "/etc/weir/a~b"),
            ("s3://bucket/out", "s3://bucket/out"),
        ];
        for (text, path) in table {
            assert_eq!(base.place(text).unwrap(), path, "{text}");
        }
        for text in ["$HOME/out", "data/$USER/out", "file:///$HOME/out"] {
            let error = base.place(text).unwrap_err();
            assert!(error.hint().unwrap().contains("in braces"), "{text}: {error:?}");
        }
        for text in ["cost$/out", "$1/out", "s3://bucket/$LATEST"] {
            assert!(base.place(text).is_ok(), "{text}");
        }
        assert!(base.place("file:///~/out").is_err());
        assert!(base.path("~ann/out").unwrap_err().hint().unwrap().contains("./~ann/out"));
        let homeless = Base::default();
        assert_eq!(homeless.place("out").unwrap(), "out");
        assert!(homeless.path("~/out").unwrap_err().to_string().contains("HOME"));
    }
}
