//! What has changed in a tenant since it began, as maps beside the function that it is.
//!
//! Only changed objects take room. What is gone keeps its index, so that no id is ever used twice.

use std::collections::HashMap;

use super::tenant::{Kind, MAX_CHILDREN, Tenant};

/// What is different about one object; nothing, unless said.
#[derive(Debug, Default)]
pub(super) struct Patch {
    pub(super) gone: bool,
    pub(super) status: Option<&'static str>,
    /// Space of a blog post, container of a comment or task.
    pub(super) place: Option<usize>,
    /// The comment that a comment answers.
    pub(super) answers: Option<usize>,
    /// Creation of what was not there at first, in epoch milliseconds.
    pub(super) created: Option<u64>,
    /// Versions beyond those there were at first.
    pub(super) edits: Vec<Edit>,
    pub(super) task: Option<TaskState>,
}

/// A later version of an object.
#[derive(Debug)]
pub(super) struct Edit {
    /// Epoch milliseconds.
    pub(super) at: u64,
    /// What the new title is made from; `None`: the old one stays.
    pub(super) title: Option<u64>,
}

/// A task that was ticked or opened again; in epoch milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskState {
    pub(super) completed: Option<u64>,
    pub(super) updated: u64,
}

/// All that changed.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    patches: HashMap<(Kind, usize), Patch>,
    /// Objects created, by kind.
    added: HashMap<Kind, usize>,
    /// Properties and permissions created, by kind and owner.
    pub(super) parts: HashMap<(Kind, usize), usize>,
    /// The labels of what had labels added or removed.
    pub(super) labels: HashMap<(Kind, usize), Vec<usize>>,
    /// Comments created, by kind and container.
    pub(super) comments: HashMap<(Kind, usize), Vec<usize>>,
}

impl Overlay {
    pub(super) fn patch(&self, kind: Kind, index: usize) -> Option<&Patch> {
        self.patches.get(&(kind, index))
    }

    pub(super) fn patch_mut(&mut self, kind: Kind, index: usize) -> &mut Patch {
        self.patches.entry((kind, index)).or_default()
    }

    pub(super) fn added(&self, kind: Kind) -> usize {
        self.added.get(&kind).copied().unwrap_or(0)
    }

    /// Counts one more object of a kind.
    pub(super) fn add(&mut self, kind: Kind) {
        *self.added.entry(kind).or_default() += 1;
    }

    pub(super) fn edits(&self, kind: Kind, index: usize) -> &[Edit] {
        self.patch(kind, index).map_or(&[], |patch| &patch.edits)
    }

    fn is_gone(&self, kind: Kind, index: usize) -> bool {
        self.patch(kind, index).is_some_and(|patch| patch.gone)
    }
}

impl Tenant {
    /// Whether an object is there, be it in the trash. Without its container nothing is, and a
    /// comment is not while its container is in the trash.
    pub(super) fn exists(&self, kind: Kind, index: usize) -> bool {
        if self.overlay.is_gone(kind, index) {
            return false;
        }
        match kind {
            Kind::Page => self.exists(Kind::Space, self.page_space(index)),
            Kind::BlogPost => self.exists(Kind::Space, self.blog_space(index)),
            Kind::Attachment => self.content_exists(self.attachment_container(index)),
            Kind::Footer | Kind::Inline => {
                let container = self.comment_container(kind, index);
                self.content_exists(container) && self.container_status(container) != "trashed"
            }
            Kind::Task => self.content_exists(self.task(index).container),
            Kind::Custom => match self.custom_container(index) {
                Some(container) => self.content_exists(container),
                None => self.exists(Kind::Space, self.custom_space(index)),
            },
            Kind::Property => self.content_exists(index / MAX_CHILDREN),
            Kind::SpaceProperty | Kind::Permission => {
                self.exists(Kind::Space, index / MAX_CHILDREN)
            }
            Kind::Space | Kind::Label | Kind::Folder | Kind::Group => true,
        }
    }

    pub(super) fn content_exists(&self, content: usize) -> bool {
        let (kind, index) = self.content(content);
        self.exists(kind, index)
    }

    /// The properties or permissions of a content or space, as composed indexes.
    pub(super) fn parts(&self, kind: Kind, owner: usize) -> Vec<usize> {
        let all = (0..self.next_part(kind, owner)).map(|number| owner * MAX_CHILDREN + number);
        all.filter(|part| !self.overlay.is_gone(kind, *part)).collect()
    }

    /// Number of the next property or permission of an owner.
    pub(super) fn next_part(&self, kind: Kind, owner: usize) -> usize {
        let more = self.overlay.parts.get(&(kind, owner)).copied().unwrap_or(0);
        self.initial_parts(kind, owner) + more
    }
}
