//! The references in the connections of a file: lists the commands and files of their values
//! without running, reading or substituting anything.

use serde::de::IgnoredAny;

use crate::connection::entry::{fields_of, scalar};
use crate::connection::env_file::{EnvFile, Environment};
use crate::connection::find::entries;
use crate::connection::kind::kind_of_url;
use crate::connection::reference::{Written, written};
use crate::error::Result;
use crate::yaml::{Document, Node, NodeValue};

/// A field whose value is a reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elsewhere {
    /// Name of the connection.
    pub connection: String,
    /// Name of the field.
    pub field: String,
    /// The command or the file.
    pub place: Outside,
}

/// The place of a referenced value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// The output of a command.
    Command(String),
    /// The content of a file; the path as written.
    File(String),
}

/// The references in definitions of connections, given as variables.
pub fn elsewhere_in(definitions: &Environment) -> Vec<Elsewhere> {
    let mut all = Vec::new();
    for (name, text) in definitions {
        let text = text.trim();
        // weir never uses an invalid definition, so it resolves no reference in it.
        let Ok(document) = Document::parse_private(name, text) else { continue };
        if kind_of_url(text).is_none() && document.read::<IgnoredAny>().is_ok() {
            all.extend(of_node(name, document.root()));
        }
    }
    all
}

/// The references in the entries of a connections file.
///
/// # Errors
/// It is not a connections file.
pub fn elsewhere_in_file(file: &EnvFile) -> Result<Vec<Elsewhere>> {
    let all = entries(file)?;
    Ok(all.iter().flat_map(|(name, node)| of_node(name, node)).collect())
}

fn of_node(name: &str, node: &Node) -> Vec<Elsewhere> {
    let NodeValue::Map(entries) = &node.value else { return Vec::new() };
    let fields = fields_of(name, entries).unwrap_or_default();
    let named = fields.into_iter().filter_map(|(field, value)| {
        let text = scalar(&value)?;
        let place = match written(&text) {
            Written::Command(command) => Outside::Command(command.to_owned()),
            Written::File(path) => Outside::File(path.to_owned()),
            Written::Plain => return None,
        };
        Some(Elsewhere { connection: name.to_owned(), field, place })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_run_and_read_is_told_however_it_is_written() {
        let run =
            |field: &str, command: &str| (field.to_owned(), Outside::Command(command.to_owned()));
        let read = |field: &str, path: &str| (field.to_owned(), Outside::File(path.to_owned()));
        let table = [
            (r#"{type: api, token: "\x63ommand:touch x"}"#, vec![run("token", "touch x")]),
            (
                "token: |-\n  command:a\n  b\nspec: 'file:s'",
                vec![run("token", "a\nb"), read("spec", "s")],
            ),
            ("{secrets: {a: 'file:${HOME}/k'}}", vec![read("a", "${HOME}/k")]),
            ("{secrets: '{a: \"command:c\"}'}", vec![run("a", "c")]),
            ("{base: &b {x: 1}, a: 'file:///tmp/x', b: ${C}, url: 'command:d'}", Vec::new()),
            ("postgres://u:p@h/d", Vec::new()),
            ("command:x", Vec::new()),
        ];
        for (text, expected) in table {
            let definitions = BTreeMap::from([("X".to_owned(), text.to_owned())]);
            let found: Vec<_> =
                elsewhere_in(&definitions).into_iter().map(|one| (one.field, one.place)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
