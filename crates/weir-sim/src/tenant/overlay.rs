//! Changes of a tenant since its start, as maps beside the computed facts.
//!
//! Only changed objects need memory. Deleted objects keep their index, so that no ID is used twice.

use std::collections::HashMap;

use crate::tenant::ids::ObjectKind;

/// Changes of one object. Empty by default.
#[derive(Debug, Default)]
pub(crate) struct Patch {
    pub(crate) gone: bool,
    pub(crate) status: Option<&'static str>,
    /// Space of a blog post, container of a comment or task.
    pub(crate) place: Option<usize>,
    /// The comment that a comment replies to.
    pub(crate) answers: Option<usize>,
    /// Creation time of an object that was created later, in epoch milliseconds.
    pub(crate) created: Option<u64>,
    /// Versions in addition to the initial ones.
    pub(crate) edits: Vec<Edit>,
    pub(crate) task: Option<TaskState>,
}

/// A later version of an object.
#[derive(Debug)]
pub(crate) struct Edit {
    /// Epoch milliseconds.
    pub(crate) at: u64,
    /// Seed of the new title; `None` if the title is unchanged.
    pub(crate) title: Option<u64>,
}

/// A task that was completed or reopened; in epoch milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskState {
    pub(crate) completed: Option<u64>,
    pub(crate) updated: u64,
}

/// All changes.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    patches: HashMap<(ObjectKind, usize), Patch>,
    /// Objects created, by kind.
    added: HashMap<ObjectKind, usize>,
    /// Properties and permissions created, by kind and owner.
    pub(crate) parts: HashMap<(ObjectKind, usize), usize>,
    /// The labels of objects whose labels changed.
    pub(crate) labels: HashMap<(ObjectKind, usize), Vec<usize>>,
    /// Comments created, by kind and container.
    pub(crate) comments: HashMap<(ObjectKind, usize), Vec<usize>>,
}

impl Overlay {
    pub(crate) fn patch(&self, kind: ObjectKind, index: usize) -> Option<&Patch> {
        self.patches.get(&(kind, index))
    }

    pub(crate) fn patch_mut(&mut self, kind: ObjectKind, index: usize) -> &mut Patch {
        self.patches.entry((kind, index)).or_default()
    }

    pub(crate) fn added(&self, kind: ObjectKind) -> usize {
        self.added.get(&kind).copied().unwrap_or(0)
    }

    /// Counts one more object of a kind.
    pub(crate) fn add(&mut self, kind: ObjectKind) {
        *self.added.entry(kind).or_default() += 1;
    }

    pub(crate) fn edits(&self, kind: ObjectKind, index: usize) -> &[Edit] {
        self.patch(kind, index).map_or(&[], |patch| &patch.edits)
    }

    pub(crate) fn is_gone(&self, kind: ObjectKind, index: usize) -> bool {
        self.patch(kind, index).is_some_and(|patch| patch.gone)
    }
}
