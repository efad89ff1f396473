//! What has changed in a tenant since it began, as maps beside the function that it is.
//!
//! Only changed objects take room. What is gone keeps its index, so that no id is ever used twice.

use std::collections::HashMap;

use crate::tenant::ids::Kind;

/// What is different about one object; nothing, unless said.
#[derive(Debug, Default)]
pub(crate) struct Patch {
    pub(crate) gone: bool,
    pub(crate) status: Option<&'static str>,
    /// Space of a blog post, container of a comment or task.
    pub(crate) place: Option<usize>,
    /// The comment that a comment answers.
    pub(crate) answers: Option<usize>,
    /// Creation of what was not there at first, in epoch milliseconds.
    pub(crate) created: Option<u64>,
    /// Versions beyond those there were at first.
    pub(crate) edits: Vec<Edit>,
    pub(crate) task: Option<TaskState>,
}

/// A later version of an object.
#[derive(Debug)]
pub(crate) struct Edit {
    /// Epoch milliseconds.
    pub(crate) at: u64,
    /// What the new title is made from; `None`: the old one stays.
    pub(crate) title: Option<u64>,
}

/// A task that was ticked or opened again; in epoch milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskState {
    pub(crate) completed: Option<u64>,
    pub(crate) updated: u64,
}

/// All that changed.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    patches: HashMap<(Kind, usize), Patch>,
    /// Objects created, by kind.
    added: HashMap<Kind, usize>,
    /// Properties and permissions created, by kind and owner.
    pub(crate) parts: HashMap<(Kind, usize), usize>,
    /// The labels of what had labels added or removed.
    pub(crate) labels: HashMap<(Kind, usize), Vec<usize>>,
    /// Comments created, by kind and container.
    pub(crate) comments: HashMap<(Kind, usize), Vec<usize>>,
}

impl Overlay {
    pub(crate) fn patch(&self, kind: Kind, index: usize) -> Option<&Patch> {
        self.patches.get(&(kind, index))
    }

    pub(crate) fn patch_mut(&mut self, kind: Kind, index: usize) -> &mut Patch {
        self.patches.entry((kind, index)).or_default()
    }

    pub(crate) fn added(&self, kind: Kind) -> usize {
        self.added.get(&kind).copied().unwrap_or(0)
    }

    /// Counts one more object of a kind.
    pub(crate) fn add(&mut self, kind: Kind) {
        *self.added.entry(kind).or_default() += 1;
    }

    pub(crate) fn edits(&self, kind: Kind, index: usize) -> &[Edit] {
        self.patch(kind, index).map_or(&[], |patch| &patch.edits)
    }

    pub(crate) fn is_gone(&self, kind: Kind, index: usize) -> bool {
        self.patch(kind, index).is_some_and(|patch| patch.gone)
    }
}
