//! The manifest `_weir.json`: the files in a folder of parts that are weir's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the manifest in a folder of parts. Readers know it: it must not change.
pub(crate) const NAME: &str = "_weir.json";

/// The files of a folder of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Id of the run that wrote it.
    pub(crate) run_id: String,
    /// Names of the parts that make up the table.
    pub(crate) files: Vec<String>,
    /// Names of files that are not part of the table: parts that are being published, or about to be deleted.
    /// Readers skip them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) leftovers: Vec<String>,
}

impl Manifest {
    /// Parses a manifest; `shown` is how messages name its folder.
    pub(crate) fn parse(bytes: &[u8], shown: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::target(format!("`{shown}/{NAME}` is not a weir manifest"))
                .because(error)
                .with_hint("move it away if it is not weir's, or restore it")
        })
    }

    /// The file's content.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest of names is JSON");
        text.push(b'\n');
        text
    }

    /// Refuses a folder with a file that the manifest does not name: another program wrote it.
    pub(crate) fn refuse_foreign(&self, names: &[String], shown: &str) -> Result<()> {
        let own: BTreeSet<&str> =
            self.files.iter().chain(&self.leftovers).map(String::as_str).collect();
        let foreign: Vec<&String> =
            names.iter().filter(|name| *name != NAME && !own.contains(name.as_str())).collect();
        let Some(first) = foreign.first() else { return Ok(()) };
        let more = match foreign.len() {
            1 => String::new(),
            many => format!(" and {} more", many - 1),
        };
        let message =
            format!("the folder `{shown}` contains `{first}`{more}, which weir did not write");
        Err(Error::target(message)
            .with_hint("move such files elsewhere, or give the stream a folder of its own"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_the_manifest_does_not_name_are_refused() {
        let manifest = Manifest {
            run_id: "r".to_owned(),
            files: vec!["a".to_owned()],
            leftovers: vec!["b".to_owned()],
        };
        let read = Manifest::parse(&manifest.bytes(), "p").unwrap();
        assert_eq!(read, manifest);
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        read.refuse_foreign(&names(&["a", "b", NAME]), "p").unwrap();
        let error = read.refuse_foreign(&names(&["a", "x", "y"]), "p").unwrap_err();
        assert!(error.chain().contains("`x` and 1 more"), "{error:?}");
    }
}
