//! Entries removed from a tree because they do not fit, and problems caused by their removal.

use super::node::{Node, NodeValue};
use super::place::Place;
use super::problem::Finding;

/// A removed entry.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// Place of the mapping or list that held it.
    pub(super) hole: Place,
    /// Keys and positions that led to it.
    path: Vec<String>,
    /// Keys and texts of the entry, its own key included.
    words: Vec<String>,
}

/// Removes the entry at a path of positions; `None` if there is none.
pub(super) fn cut(tree: &mut Node, way: &[usize]) -> Option<Cut> {
    let (last, before) = way.split_last()?;
    let mut at = tree;
    let mut path = Vec::new();
    for index in before {
        at = match &mut at.value {
            NodeValue::Map(entries) => {
                let (key, _, node) = entries.get_mut(*index)?;
                path.push(key.clone());
                node
            }
            NodeValue::List(items) => {
                path.push(index.to_string());
                items.get_mut(*index)?
            }
            _ => return None,
        };
    }
    let mut words = Vec::new();
    match &mut at.value {
        NodeValue::Map(entries) if *last < entries.len() => {
            let (key, _, node) = entries.remove(*last);
            words.push(key.clone());
            path.push(key);
            collect(&node, &mut words);
        }
        NodeValue::List(items) if *last < items.len() => {
            path.push(last.to_string());
            collect(&items.remove(*last), &mut words);
        }
        _ => return None,
    }
    Some(Cut { hole: at.place, path, words })
}

fn collect(node: &Node, words: &mut Vec<String>) {
    match &node.value {
        NodeValue::Text(text) => words.push(text.clone()),
        NodeValue::List(items) => items.iter().for_each(|item| collect(item, words)),
        NodeValue::Map(entries) => {
            for (key, _, node) in entries {
                words.push(key.clone());
                collect(node, words);
            }
        }
        _ => {}
    }
}

impl Cut {
    /// Whether this removal may have caused a finding: it concerns the mapping or list of the
    /// entry, or a missing name that the entry may have defined.
    pub(super) fn explains(&self, finding: &Finding) -> bool {
        let names = finding.missing.as_ref();
        self.path.starts_with(&finding.path)
            || names.is_some_and(|name| self.words.iter().any(|word| word.contains(name.as_str())))
    }
}
