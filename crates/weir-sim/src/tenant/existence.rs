//! Which objects exist now.
use crate::tenant::Tenant;
use crate::tenant::ids::{MAX_CHILDREN, ObjectKind};

impl Tenant {
    /// Whether an object exists, possibly in the trash. An object does not exist without its container, and
    /// a comment does not exist while its container is in the trash.
    pub(crate) fn exists(&self, kind: ObjectKind, index: usize) -> bool {
        if self.overlay.is_gone(kind, index) {
            return false;
        }
        match kind {
            ObjectKind::Page => self.exists(ObjectKind::Space, self.page_space(index)),
            ObjectKind::BlogPost => self.exists(ObjectKind::Space, self.blog_space(index)),
            ObjectKind::Attachment => self.content_exists(self.attachment_container(index)),
            ObjectKind::Footer | ObjectKind::Inline => {
                let container = self.comment_container(kind, index);
                self.content_exists(container) && self.container_status(container) != "trashed"
            }
            ObjectKind::Task => self.content_exists(self.task(index).container),
            ObjectKind::Custom => match self.custom_container(index) {
                Some(container) => self.content_exists(container),
                None => self.exists(ObjectKind::Space, self.custom_space(index)),
            },
            ObjectKind::Property => self.content_exists(index / MAX_CHILDREN),
            ObjectKind::SpaceProperty | ObjectKind::Permission => {
                self.exists(ObjectKind::Space, index / MAX_CHILDREN)
            }
            ObjectKind::Space | ObjectKind::Label | ObjectKind::Folder | ObjectKind::Group => true,
        }
    }

    pub(crate) fn content_exists(&self, content: usize) -> bool {
        let (kind, index) = self.content(content);
        self.exists(kind, index)
    }

    /// The properties or permissions of a content or space, as composed indexes.
    pub(crate) fn parts(&self, kind: ObjectKind, owner: usize) -> Vec<usize> {
        let all = (0..self.next_part(kind, owner)).map(|number| owner * MAX_CHILDREN + number);
        all.filter(|part| !self.overlay.is_gone(kind, *part)).collect()
    }

    /// Number of the next property or permission of an owner.
    pub(crate) fn next_part(&self, kind: ObjectKind, owner: usize) -> usize {
        let more = self.overlay.parts.get(&(kind, owner)).copied().unwrap_or(0);
        self.initial_parts(kind, owner) + more
    }
}
