//! Paths merged into a trie, so that a JSON value is matched against all of them at once.

use crate::path::PathStep;

/// The use of a value at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueUse {
    /// A column's value; among several paths of one column, the lowest rank wins.
    Column { index: usize, rank: u8 },
    /// A value returned as text.
    Tap(usize),
    /// A value outside the records.
    Capture(usize),
    /// The records of this level.
    Records(usize),
    /// The value is dropped.
    Ignore,
}

#[derive(Debug, Default)]
pub(super) struct TrieNode {
    /// Name of its field; empty for the root and for list items.
    pub(super) name: String,
    pub(super) fields: Vec<(String, usize)>,
    pub(super) items: Vec<(usize, usize)>,
    pub(super) targets: Vec<ValueUse>,
}

impl TrieNode {
    pub(super) fn is_leaf(&self) -> bool {
        self.fields.is_empty() && self.items.is_empty()
    }

    pub(super) fn field(&self, name: &str) -> Option<usize> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, node)| *node)
    }

    pub(super) fn item(&self, position: usize) -> Option<usize> {
        self.items.iter().find(|(item, _)| *item == position).map(|(_, node)| *node)
    }
}

/// Nodes by index; 0 is the root.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<TrieNode>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![TrieNode::default()] }
    }
}

impl Trie {
    pub(super) fn node(&self, number: usize) -> Option<&TrieNode> {
        self.nodes.get(number)
    }

    /// Whether the records are below a node.
    pub(super) fn leads_to_records(&self, number: usize) -> bool {
        let Some(node) = self.node(number) else { return false };
        let below = node.fields.iter().map(|(_, child)| child);
        let below = below.chain(node.items.iter().map(|(_, child)| child));
        node.targets.iter().any(|target| matches!(target, ValueUse::Records(_)))
            || below.copied().any(|child| self.leads_to_records(child))
    }

    /// The columns with values inside the value of a node.
    pub(super) fn columns_below(&self, number: usize) -> Vec<usize> {
        let mut columns = Vec::new();
        let mut left = vec![number];
        while let Some(node) = left.pop().and_then(|number| self.nodes.get(number)) {
            let inner = node.fields.iter().map(|(_, inner)| *inner);
            for inner in inner.chain(node.items.iter().map(|(_, inner)| *inner)) {
                left.push(inner);
                let targets = self.nodes.get(inner).into_iter().flat_map(|node| &node.targets);
                columns.extend(targets.filter_map(|target| match target {
                    ValueUse::Column { index, .. } => Some(*index),
                    _ => None,
                }));
            }
        }
        columns
    }

    pub(super) fn add(&mut self, steps: &[PathStep], target: ValueUse) {
        let mut at = 0;
        for step in steps {
            let known = self.nodes.get(at).and_then(|node| match step {
                PathStep::Key(name) => node.field(name),
                PathStep::Index(position) => node.item(*position),
                PathStep::Each | PathStep::Up => None,
            });
            at = known.unwrap_or_else(|| self.grow(at, step));
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.targets.push(target);
        }
    }

    fn grow(&mut self, parent: usize, step: &PathStep) -> usize {
        let number = self.nodes.len();
        let mut node = TrieNode::default();
        if let Some(parent) = self.nodes.get_mut(parent) {
            match step {
                PathStep::Key(name) => {
                    node.name.clone_from(name);
                    parent.fields.push((name.clone(), number));
                }
                PathStep::Index(position) => parent.items.push((*position, number)),
                PathStep::Each | PathStep::Up => {}
            }
        }
        self.nodes.push(node);
        number
    }
}
