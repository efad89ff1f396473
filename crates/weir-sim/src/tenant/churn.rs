//! Random changes, determined by a seed.

use crate::churn_options::{Happening, Happening as H};
use crate::tenant::Tenant;
use crate::tenant::change::{Change, New};
use crate::tenant::ids::{Kind, id_of};
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
    ) -> Option<(Change, String)> {
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
    fn can_happen(&self, kind: Happening, change: &Change) -> bool {
        match (kind, change) {
            // `Restore` would also restore archived objects, but this kind means the trash.
            (H::PageRestored, Change::Restore { id }) => {
                let index =
                    id.parse().ok().and_then(crate::tenant::ids::from_id).map_or(0, |(_, at)| at);
                self.page_status(index) == "trashed"
            }
            _ => true,
        }
    }

    fn propose(&self, kind: Happening, dice: u64) -> Option<Change> {
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
                Change::Edit { id: self.any(subject(kind, dice), dice)?, retitle }
            }
            H::PageTrashed | H::BlogPostTrashed | H::AttachmentTrashed => {
                Change::Trash { id: self.any(subject(kind, dice), dice)? }
            }
            H::PageRestored | H::BlogPostRestored | H::AttachmentRestored | H::SpaceRestored => {
                Change::Restore { id: self.any(subject(kind, dice), dice)? }
            }
            H::PageArchived | H::SpaceArchived => {
                Change::Archive { id: self.any(subject(kind, dice), dice)? }
            }
            H::TaskToggled => Change::Toggle { id: self.any(Kind::Task, dice)? },
            H::PagePurged
            | H::BlogPostPurged
            | H::AttachmentPurged
            | H::CommentDeleted
            | H::TaskDeleted
            | H::CustomContentDeleted
            | H::GroupDeleted
            | H::SpaceDeleted => Change::Delete { id: self.any(subject(kind, dice), dice)? },
        };
        Some(change)
    }

    fn propose_new(&self, kind: Happening, dice: u64) -> Option<Change> {
        let reply = (dice >> 51).is_multiple_of(2);
        let comment = subject(kind, dice);
        let (what, under) = match kind {
            H::PageCreated if reply => (New::Page, self.any(Kind::Space, dice)?),
            H::PageCreated => (New::Page, self.any(Kind::Page, dice)?),
            H::BlogPostCreated => (New::BlogPost, self.any(Kind::Space, dice)?),
            H::AttachmentCreated => (New::Attachment, self.any_container(dice)?),
            H::TaskCreated => (New::Task, self.any_container(dice)?),
            H::CommentCreated => {
                let what =
                    if comment == Kind::Footer { New::FooterComment } else { New::InlineComment };
                let on = if reply { self.any(comment, dice) } else { self.any_container(dice) };
                (what, on?)
            }
            H::PropertyCreated => (New::Property, self.any_owner(dice)?),
            H::PermissionCreated => (New::Permission, self.any(Kind::Space, dice)?),
            _ => (New::Group, String::new()),
        };
        Some(Change::Create { what, under })
    }

    /// An existing property or permission, to be edited or deleted.
    fn propose_part(&self, kind: Happening, dice: u64) -> Option<Change> {
        let owner = owner_kind(dice);
        let index =
            self.any_index(if kind == H::PermissionDeleted { Kind::Space } else { owner }, dice)?;
        let (part, owner) = match (kind, owner) {
            (H::PermissionDeleted, _) => (Kind::Permission, index),
            (_, Kind::Space) => (Kind::SpaceProperty, index),
            _ => (Kind::Property, self.content_of(owner, index)),
        };
        let parts = self.parts(part, owner);
        let id = id_of(part, *parts.get(below(dice >> 13, parts.len()))?).to_string();
        Some(match kind {
            H::PropertyEdited => Change::Edit { id, retitle: false },
            _ => Change::Delete { id },
        })
    }

    fn propose_label(&self, added: bool, dice: u64) -> Option<Change> {
        let owner = owner_kind(dice);
        let index = self.any_index(owner, dice)?;
        let id = self.printed(owner, index);
        if added {
            return Some(Change::AddLabel { id, label: self.any(Kind::Label, mix(dice))? });
        }
        let labels = match owner {
            Kind::Space => self.space_labels(index),
            _ => self.content_labels(self.content_of(owner, index)),
        };
        let label = *labels.get(below(dice >> 13, labels.len()))?;
        Some(Change::RemoveLabel { id, label: self.printed(Kind::Label, label) })
    }

    /// Target of a move. Three of four moves stay within the space.
    fn propose_move(&self, dice: u64) -> Option<Change> {
        let page = self.any_index(Kind::Page, dice)?;
        let id = self.printed(Kind::Page, page);
        if (dice >> 51).is_multiple_of(4) {
            return Some(Change::Move { id, to: self.any(Kind::Space, mix(dice))? });
        }
        let near = &self.space_pages[self.page_space(page)];
        let to = *near.get(below(mix(dice), near.len()))?;
        let stays = self.page_parent(page) == Some(self.node_of(to));
        (!stays).then(|| Change::Move { id, to: self.printed(Kind::Page, to) })
    }

    fn any_index(&self, kind: Kind, dice: u64) -> Option<usize> {
        let index = below(mix(dice ^ 0x0A17), self.count(kind));
        (index < self.count(kind) && self.exists(kind, index)).then_some(index)
    }

    fn any(&self, kind: Kind, dice: u64) -> Option<String> {
        Some(self.printed(kind, self.any_index(kind, dice)?))
    }

    fn any_container(&self, dice: u64) -> Option<String> {
        let kind = if (dice >> 44).is_multiple_of(4) { Kind::BlogPost } else { Kind::Page };
        self.any(kind, dice)
    }

    /// An object that can have labels and properties.
    fn any_owner(&self, dice: u64) -> Option<String> {
        self.any(owner_kind(dice), dice)
    }
}

fn owner_kind(dice: u64) -> Kind {
    match (dice >> 44) % 8 {
        0..4 => Kind::Page,
        4 | 5 => Kind::BlogPost,
        6 => Kind::Attachment,
        _ => Kind::Space,
    }
}

/// The kind of object that a change affects.
fn subject(kind: Happening, dice: u64) -> Kind {
    match kind {
        H::BlogPostEdited | H::BlogPostTrashed | H::BlogPostRestored | H::BlogPostPurged => {
            Kind::BlogPost
        }
        H::AttachmentEdited
        | H::AttachmentTrashed
        | H::AttachmentRestored
        | H::AttachmentPurged => Kind::Attachment,
        H::CommentCreated | H::CommentEdited | H::CommentDeleted => {
            if (dice >> 45).is_multiple_of(3) { Kind::Inline } else { Kind::Footer }
        }
        H::TaskDeleted => Kind::Task,
        H::CustomContentEdited | H::CustomContentDeleted => Kind::Custom,
        H::GroupDeleted => Kind::Group,
        H::SpaceArchived | H::SpaceRestored | H::SpaceDeleted => Kind::Space,
        _ => Kind::Page,
    }
}
