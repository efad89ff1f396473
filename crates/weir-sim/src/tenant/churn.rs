//! Random changes, determined by a seed.

use crate::churn_options::{Happening, Happening as H};
use crate::tenant::Tenant;
use crate::tenant::change::{New, TenantChange};
use crate::tenant::ids::{ObjectKind, id_of};
use crate::tenant::text::{below, mix};

/// Maximum number of attempts at one change. A small tenant may have no suitable object.
const ATTEMPTS: u64 = 400;

/// Number of attempts before another kind of change is chosen.
const ATTEMPTS_OF_A_KIND: u64 = 40;

impl Tenant {
    /// Makes one random change; `None` if no object can be changed. `at` is in epoch milliseconds.
    pub(crate) fn stir(
        &mut self,
        dice: u64,
        kinds: &[Happening],
        at: u64,
    ) -> Option<(TenantChange, String)> {
        for attempt in 0..ATTEMPTS {
            let choice = mix(dice ^ (attempt / ATTEMPTS_OF_A_KIND) << 32);
            let kind = kinds.get(below(choice, kinds.len()))?;
            let Some(change) = self.propose(*kind, mix(choice ^ attempt)) else { continue };
            if self.can_happen(*kind, &change)
                && let Ok(id) = self.apply(&change, at)
            {
                return Some((change, id));
            }
        }
        None
    }

    /// Rejects changes that are possible but do not fit the chosen kind.
    fn can_happen(&self, kind: Happening, change: &TenantChange) -> bool {
        match (kind, change) {
            // `Restore` would also restore archived objects, but this kind means the trash.
            (H::PageRestored, TenantChange::Restore { id }) => {
                let index =
                    id.parse().ok().and_then(crate::tenant::ids::from_id).map_or(0, |(_, at)| at);
                self.page_status(index) == "trashed"
            }
            _ => true,
        }
    }

    fn propose(&self, kind: Happening, dice: u64) -> Option<TenantChange> {
        let change = match kind {
            H::PageCreated
            | H::BlogPostCreated
            | H::AttachmentCreated
            | H::CommentCreated
            | H::PropertyCreated
            | H::TaskCreated
            | H::PermissionCreated
            | H::GroupCreated => {
                return self.propose_new(kind, dice);
            }
            H::PropertyEdited | H::PropertyDeleted | H::PermissionDeleted => {
                return self.propose_part(kind, dice);
            }
            H::LabelAdded | H::LabelRemoved => {
                return self.propose_label(kind == H::LabelAdded, dice);
            }
            H::PageMoved => self.propose_move(dice)?,
            H::PageEdited
            | H::BlogPostEdited
            | H::AttachmentEdited
            | H::CommentEdited
            | H::CustomContentEdited => {
                let retitle = (dice >> 50).is_multiple_of(3) && kind != H::CommentEdited;
                TenantChange::Edit { id: self.any(subject(kind, dice), dice)?, retitle }
            }
            H::PageTrashed | H::BlogPostTrashed | H::AttachmentTrashed => {
                TenantChange::Trash { id: self.any(subject(kind, dice), dice)? }
            }
            H::PageRestored | H::BlogPostRestored | H::AttachmentRestored | H::SpaceRestored => {
                TenantChange::Restore { id: self.any(subject(kind, dice), dice)? }
            }
            H::PageArchived | H::SpaceArchived => {
                TenantChange::Archive { id: self.any(subject(kind, dice), dice)? }
            }
            H::TaskToggled => TenantChange::Toggle { id: self.any(ObjectKind::Task, dice)? },
            H::PagePurged
            | H::BlogPostPurged
            | H::AttachmentPurged
            | H::CommentDeleted
            | H::TaskDeleted
            | H::CustomContentDeleted
            | H::GroupDeleted
            | H::SpaceDeleted => TenantChange::Delete { id: self.any(subject(kind, dice), dice)? },
        };
        Some(change)
    }

    fn propose_new(&self, kind: Happening, dice: u64) -> Option<TenantChange> {
        let reply = (dice >> 51).is_multiple_of(2);
        let comment = subject(kind, dice);
        let (what, under) = match kind {
            H::PageCreated if reply => (New::Page, self.any(ObjectKind::Space, dice)?),
            H::PageCreated => (New::Page, self.any(ObjectKind::Page, dice)?),
            H::BlogPostCreated => (New::BlogPost, self.any(ObjectKind::Space, dice)?),
            H::AttachmentCreated => (New::Attachment, self.any_container(dice)?),
            H::TaskCreated => (New::Task, self.any_container(dice)?),
            H::CommentCreated => {
                let what = if comment == ObjectKind::Footer {
                    New::FooterComment
                } else {
                    New::InlineComment
                };
                let on = if reply { self.any(comment, dice) } else { self.any_container(dice) };
                (what, on?)
            }
            H::PropertyCreated => (New::Property, self.any_owner(dice)?),
            H::PermissionCreated => (New::Permission, self.any(ObjectKind::Space, dice)?),
            _ => (New::Group, String::new()),
        };
        Some(TenantChange::Create { what, under })
    }

    /// An existing property or permission, to be edited or deleted.
    fn propose_part(&self, kind: Happening, dice: u64) -> Option<TenantChange> {
        let owner = owner_kind(dice);
        let index = self.any_index(
            if kind == H::PermissionDeleted { ObjectKind::Space } else { owner },
            dice,
        )?;
        let (part, owner) = match (kind, owner) {
            (H::PermissionDeleted, _) => (ObjectKind::Permission, index),
            (_, ObjectKind::Space) => (ObjectKind::SpaceProperty, index),
            _ => (ObjectKind::Property, self.content_of(owner, index)),
        };
        let parts = self.parts(part, owner);
        let id = id_of(part, *parts.get(below(dice >> 13, parts.len()))?).to_string();
        Some(match kind {
            H::PropertyEdited => TenantChange::Edit { id, retitle: false },
            _ => TenantChange::Delete { id },
        })
    }

    fn propose_label(&self, added: bool, dice: u64) -> Option<TenantChange> {
        let owner = owner_kind(dice);
        let index = self.any_index(owner, dice)?;
        let id = self.printed(owner, index);
        if added {
            return Some(TenantChange::AddLabel {
                id,
                label: self.any(ObjectKind::Label, mix(dice))?,
            });
        }
        let labels = match owner {
            ObjectKind::Space => self.space_labels(index),
            _ => self.content_labels(self.content_of(owner, index)),
        };
        let label = *labels.get(below(dice >> 13, labels.len()))?;
        Some(TenantChange::RemoveLabel { id, label: self.printed(ObjectKind::Label, label) })
    }

    /// Target of a move. Three of four moves stay within the space.
    fn propose_move(&self, dice: u64) -> Option<TenantChange> {
        let page = self.any_index(ObjectKind::Page, dice)?;
        let id = self.printed(ObjectKind::Page, page);
        if (dice >> 51).is_multiple_of(4) {
            return Some(TenantChange::Move { id, to: self.any(ObjectKind::Space, mix(dice))? });
        }
        let near = &self.space_pages[self.page_space(page)];
        let to = *near.get(below(mix(dice), near.len()))?;
        let stays = self.page_parent(page) == Some(self.node_of(to));
        (!stays).then(|| TenantChange::Move { id, to: self.printed(ObjectKind::Page, to) })
    }

    fn any_index(&self, kind: ObjectKind, dice: u64) -> Option<usize> {
        let index = below(mix(dice ^ 0x0A17), self.count(kind));
        (index < self.count(kind) && self.exists(kind, index)).then_some(index)
    }

    fn any(&self, kind: ObjectKind, dice: u64) -> Option<String> {
        Some(self.printed(kind, self.any_index(kind, dice)?))
    }

    fn any_container(&self, dice: u64) -> Option<String> {
        let kind =
            if (dice >> 44).is_multiple_of(4) { ObjectKind::BlogPost } else { ObjectKind::Page };
        self.any(kind, dice)
    }

    /// An object that can have labels and properties.
    fn any_owner(&self, dice: u64) -> Option<String> {
        self.any(owner_kind(dice), dice)
    }
}

fn owner_kind(dice: u64) -> ObjectKind {
    match (dice >> 44) % 8 {
        0..4 => ObjectKind::Page,
        4 | 5 => ObjectKind::BlogPost,
        6 => ObjectKind::Attachment,
        _ => ObjectKind::Space,
    }
}

/// The kind of object that a change affects.
fn subject(kind: Happening, dice: u64) -> ObjectKind {
    match kind {
        H::BlogPostEdited | H::BlogPostTrashed | H::BlogPostRestored | H::BlogPostPurged => {
            ObjectKind::BlogPost
        }
        H::AttachmentEdited
        | H::AttachmentTrashed
        | H::AttachmentRestored
        | H::AttachmentPurged => ObjectKind::Attachment,
        H::CommentCreated | H::CommentEdited | H::CommentDeleted => {
            if (dice >> 45).is_multiple_of(3) { ObjectKind::Inline } else { ObjectKind::Footer }
        }
        H::TaskDeleted => ObjectKind::Task,
        H::CustomContentEdited | H::CustomContentDeleted => ObjectKind::Custom,
        H::GroupDeleted => ObjectKind::Group,
        H::SpaceArchived | H::SpaceRestored | H::SpaceDeleted => ObjectKind::Space,
        _ => ObjectKind::Page,
    }
}
