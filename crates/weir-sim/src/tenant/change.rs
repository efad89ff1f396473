//! Changes of a tenant, as made by its users while an extractor runs or between two runs.

use std::sync::OnceLock;

use crate::api::single::printed_id;
use crate::error::{Error, Result};
use crate::tenant::Tenant;
use crate::tenant::ids::{MAX_CHILDREN, ObjectKind, from_id};
use crate::tenant::overlay::{Edit, TaskState};
use crate::tenant::text::mix;

/// A change. IDs are as printed by the API; IDs of groups are UUIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantChange {
    /// Creates an object.
    Create {
        /// The kind of object.
        what: New,
        /// ID of its container; see [`New`]. Empty for a group.
        under: String,
    },
    /// Creates a new version of a page, blog post, attachment, comment, custom content or property, with
    /// the next number, the current time and another body (file, value).
    Edit {
        /// ID of the object.
        id: String,
        /// Whether the title also changes, if the object has one.
        retitle: bool,
    },
    /// Moves a page with its descendants, possibly to another space. Creates no version.
    Move {
        /// ID of the page.
        id: String,
        /// ID of the new parent page, or of a space: below its home page.
        to: String,
    },
    /// Moves a page, blog post or attachment to the trash. It is listed as trashed and still available by
    /// ID. Its attachments are trashed, too, and its comments are hidden. The children of a page move up.
    Trash {
        /// ID of the object.
        id: String,
    },
    /// Restores a page, blog post or attachment from the trash, or a space or page from the archive. A page
    /// from the trash becomes a child of the home page.
    Restore {
        /// ID of the object.
        id: String,
    },
    /// Archives a space or page.
    Archive {
        /// ID of the object.
        id: String,
    },
    /// Permanently deletes any object except a label or folder, with its contents: pages of a space;
    /// attachments, comments, tasks and custom content of a page; replies to a comment. The children of a
    /// page move up. Home pages are deleted only with their spaces.
    Delete {
        /// ID of the object.
        id: String,
    },
    /// Adds a label to a page, blog post, attachment or space (spaces: only `my` or `team`).
    AddLabel {
        /// ID of the object.
        id: String,
        /// The label.
        label: String,
    },
    /// Removes a label.
    RemoveLabel {
        /// ID of the object.
        id: String,
        /// The label.
        label: String,
    },
    /// Completes or reopens a task.
    Toggle {
        /// ID of the task.
        id: String,
    },
}

/// Kinds of objects that can be created, with their possible containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum New {
    /// Under a page or space.
    Page,
    /// In a space.
    BlogPost,
    /// On a page or blog post.
    Attachment,
    /// On a page or blog post, or as a reply to a footer comment.
    FooterComment,
    /// On a page or blog post, or as a reply to an inline comment.
    InlineComment,
    /// On a page or blog post.
    Task,
    /// Of a page, blog post, attachment or space.
    Property,
    /// Of a space.
    Permission,
    /// Of the site.
    Group,
}

impl Tenant {
    /// Makes a change and returns the ID of the created or changed object. `at` is in epoch milliseconds.
    ///
    /// # Errors
    /// The change is not possible. Nothing has changed.
    pub(crate) fn apply(&mut self, change: &TenantChange, at: u64) -> Result<String> {
        let (kind, index) = match change {
            TenantChange::Create { what, under } => self.create(*what, under, at)?,
            TenantChange::Edit { id, retitle } => self.edit(id, *retitle, at)?,
            TenantChange::Move { id, to } => self.move_page(id, to)?,
            TenantChange::Trash { id } => self.trash(id)?,
            TenantChange::Restore { id } => self.restore(id)?,
            TenantChange::Archive { id } => self.archive(id)?,
            TenantChange::Delete { id } => self.delete(id)?,
            TenantChange::AddLabel { id, label } => self.relabel(id, label, true)?,
            TenantChange::RemoveLabel { id, label } => self.relabel(id, label, false)?,
            TenantChange::Toggle { id } => self.toggle(id, at)?,
        };
        self.labelled = OnceLock::new();
        Ok(self.printed(kind, index))
    }

    /// The ID of an object, as printed by the API.
    pub(crate) fn printed(&self, kind: ObjectKind, index: usize) -> String {
        if kind == ObjectKind::Group { self.group_id(index) } else { printed_id(kind, index) }
    }

    fn find(&self, id: &str) -> Result<(ObjectKind, usize)> {
        let number = id.strip_prefix("att").unwrap_or(id).parse().ok();
        let found = match number.and_then(from_id) {
            Some((
                kind @ (ObjectKind::Property | ObjectKind::SpaceProperty | ObjectKind::Permission),
                index,
            )) => {
                let owner = index / MAX_CHILDREN;
                let (owner_kind, at) = if kind == ObjectKind::Property {
                    self.content(owner)
                } else {
                    (ObjectKind::Space, owner)
                };
                let known = at < self.count(owner_kind) && self.exists(kind, index);
                (known && self.parts(kind, owner).contains(&index)).then_some((kind, index))
            }
            Some((kind, index)) => {
                (index < self.count(kind) && self.exists(kind, index)).then_some((kind, index))
            }
            None => {
                let groups =
                    (0..self.count(ObjectKind::Group)).map(|group| (ObjectKind::Group, group));
                let mut groups = groups.filter(|(kind, group)| self.exists(*kind, *group));
                groups.find(|(_, group)| self.group_id(*group) == id)
            }
        };
        found.ok_or_else(|| refusal(id, "is not in the tenant"))
    }

    /// A page, blog post or attachment that is not in the trash.
    fn find_content(&self, id: &str) -> Result<(ObjectKind, usize)> {
        let (kind, index) = self.find(id)?;
        match kind {
            ObjectKind::Page | ObjectKind::BlogPost | ObjectKind::Attachment => {
                let trashed = self.content_status(self.content_of(kind, index)) == "trashed";
                if trashed { Err(refusal(id, "is in the trash")) } else { Ok((kind, index)) }
            }
            _ => Err(refusal(id, "is neither a page nor a blog post nor an attachment")),
        }
    }

    /// A page or blog post that is not in the trash.
    fn find_container(&self, id: &str) -> Result<usize> {
        match self.find_content(id)? {
            (ObjectKind::Attachment, _) => {
                Err(refusal(id, "is an attachment, and nothing is on those"))
            }
            (kind, index) => Ok(self.content_of(kind, index)),
        }
    }

    fn create(&mut self, what: New, under: &str, at: u64) -> Result<(ObjectKind, usize)> {
        let kind = match what {
            New::Page => return self.create_page(under, at),
            New::Property | New::Permission => return self.create_part(what, under, at),
            New::BlogPost => ObjectKind::BlogPost,
            New::Attachment => ObjectKind::Attachment,
            New::FooterComment => ObjectKind::Footer,
            New::InlineComment => ObjectKind::Inline,
            New::Task => ObjectKind::Task,
            New::Group => ObjectKind::Group,
        };
        let index = self.count(kind);
        let (mut place, mut answers) = (None, None);
        match kind {
            ObjectKind::BlogPost => {
                let space = self.find_space(under)?;
                self.space_blogs[space].push(index);
                place = Some(space);
            }
            ObjectKind::Footer | ObjectKind::Inline => {
                let container = match self.find(under)? {
                    (found, comment) if found == kind => {
                        answers = Some(comment);
                        self.comment_container(kind, comment)
                    }
                    _ => self.find_container(under)?,
                };
                self.overlay.comments.entry((kind, container)).or_default().push(index);
                place = Some(container);
            }
            ObjectKind::Attachment => {
                let container = self.find_container(under)?;
                self.attachment_of.push(container);
                self.attachments.entry(container).or_default().push(index);
            }
            ObjectKind::Task => place = Some(self.find_container(under)?),
            _ => {}
        }
        self.note_new(kind, index, at);
        let patch = self.overlay.patch_mut(kind, index);
        (patch.place, patch.answers) = (place, answers);
        Ok((kind, index))
    }

    fn create_page(&mut self, under: &str, at: u64) -> Result<(ObjectKind, usize)> {
        let (space, parent) = self.place_for_page(under)?;
        let page = self.count(ObjectKind::Page);
        self.page_space.push(space);
        self.page_parent.push(None);
        self.space_pages[space].push(page);
        self.note_new(ObjectKind::Page, page, at);
        self.hang(page, parent);
        Ok((ObjectKind::Page, page))
    }

    fn create_part(&mut self, what: New, under: &str, at: u64) -> Result<(ObjectKind, usize)> {
        let (kind, owner) = match self.find(under)? {
            (ObjectKind::Space, space) if what == New::Permission => {
                (ObjectKind::Permission, space)
            }
            (ObjectKind::Space, space) => (ObjectKind::SpaceProperty, space),
            _ if what == New::Permission => return Err(refusal(under, "is not a space")),
            _ => {
                let (kind, index) = self.find_content(under)?;
                (ObjectKind::Property, self.content_of(kind, index))
            }
        };
        let number = self.next_part(kind, owner);
        if number >= MAX_CHILDREN {
            return Err(refusal(under, "has had all the parts it can have"));
        }
        *self.overlay.parts.entry((kind, owner)).or_default() += 1;
        let part = owner * MAX_CHILDREN + number;
        self.overlay.patch_mut(kind, part).created = Some(at);
        Ok((kind, part))
    }

    fn note_new(&mut self, kind: ObjectKind, index: usize, at: u64) {
        self.overlay.add(kind);
        let patch = self.overlay.patch_mut(kind, index);
        patch.created = Some(at);
        if matches!(kind, ObjectKind::Page | ObjectKind::BlogPost | ObjectKind::Attachment) {
            patch.status = Some("current");
        }
        self.forget_order(kind);
    }

    fn forget_order(&mut self, kind: ObjectKind) {
        let ranked = self.ranked.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        ranked.retain(|(known, _), _| *known != kind);
    }

    fn find_space(&self, id: &str) -> Result<usize> {
        match self.find(id)? {
            (ObjectKind::Space, space) => Ok(space),
            _ => Err(refusal(id, "is not a space")),
        }
    }

    /// Space and parent node of a new page below this page or space.
    fn place_for_page(&self, under: &str) -> Result<(usize, Option<usize>)> {
        match self.find(under)? {
            (ObjectKind::Space, space) => Ok((space, self.home(space))),
            (ObjectKind::Page, page) if self.page_status(page) == "trashed" => {
                Err(refusal(under, "is in the trash"))
            }
            (ObjectKind::Page, page) => Ok((self.page_space(page), Some(self.node_of(page)))),
            _ => Err(refusal(under, "is neither a page nor a space")),
        }
    }

    /// The home page of a space, which is also its root node.
    fn home(&self, space: usize) -> Option<usize> {
        (space < self.options.pages).then_some(space)
    }

    pub(crate) fn is_home(&self, page: usize) -> bool {
        page < self.options.spaces.min(self.options.pages)
    }

    fn hang(&mut self, page: usize, parent: Option<usize>) {
        let node = self.node_of(page);
        if let Some(old) = self.page_parent[page] {
            self.children.entry(old).or_default().retain(|child| *child != node);
        }
        self.page_parent[page] = parent;
        if let Some(parent) = parent {
            self.children.entry(parent).or_default().push(node);
        }
    }

    /// Removes a page from the tree. Its children move up to its parent.
    fn uproot(&mut self, page: usize) {
        let parent = self.page_parent[page].or(self.home(self.page_space[page]));
        for child in self.child_nodes(page) {
            if let (ObjectKind::Page, child) = self.node(child) {
                self.hang(child, parent);
            }
        }
        self.hang(page, None);
    }

    fn edit(&mut self, id: &str, retitle: bool, at: u64) -> Result<(ObjectKind, usize)> {
        let (kind, index) = match self.find(id)? {
            (ObjectKind::Page | ObjectKind::BlogPost | ObjectKind::Attachment, _) => {
                self.find_content(id)?
            }
            found @ (
                ObjectKind::Footer
                | ObjectKind::Inline
                | ObjectKind::Custom
                | ObjectKind::Property
                | ObjectKind::SpaceProperty,
                _,
            ) => found,
            _ => return Err(refusal(id, "has no versions")),
        };
        let title = retitle.then(|| mix(self.dice_of(kind, index) ^ at));
        self.overlay.patch_mut(kind, index).edits.push(Edit { at, title });
        self.forget_order(kind);
        Ok((kind, index))
    }

    fn move_page(&mut self, id: &str, to: &str) -> Result<(ObjectKind, usize)> {
        let (space, parent) = self.place_for_page(to)?;
        let (ObjectKind::Page, page) = self.find_content(id)? else {
            return Err(refusal(id, "is not a page"));
        };
        if self.is_home(page) {
            return Err(refusal(id, "is a home page"));
        }
        let tree = self.tree(page);
        if parent.is_some_and(|parent| tree.contains(&parent)) {
            return Err(refusal(id, "cannot hang below itself"));
        }
        for node in tree {
            let (_, below) = self.node(node);
            let old = std::mem::replace(&mut self.page_space[below], space);
            if old != space {
                self.space_pages[old].retain(|one| *one != below);
                self.space_pages[space].push(below);
            }
        }
        self.hang(page, parent);
        Ok((ObjectKind::Page, page))
    }

    /// A page and all nodes below it.
    fn tree(&self, page: usize) -> Vec<usize> {
        let mut tree = vec![self.node_of(page)];
        let mut at = 0;
        while let Some(node) = tree.get(at) {
            tree.extend(self.children.get(node).into_iter().flatten());
            at += 1;
        }
        tree
    }

    fn trash(&mut self, id: &str) -> Result<(ObjectKind, usize)> {
        let (kind, index) = self.find_content(id)?;
        if kind == ObjectKind::Page {
            if self.is_home(index) {
                return Err(refusal(id, "is a home page"));
            }
            self.uproot(index);
        }
        self.overlay.patch_mut(kind, index).status = Some("trashed");
        Ok((kind, index))
    }

    fn restore(&mut self, id: &str) -> Result<(ObjectKind, usize)> {
        let (kind, index) = self.find(id)?;
        let status = match kind {
            ObjectKind::Space => self.space_status(index),
            ObjectKind::Page => self.page_status(index),
            ObjectKind::BlogPost => self.blog_status(index),
            ObjectKind::Attachment => {
                let container = self.attachment_container(index);
                if self.container_status(container) == "trashed" {
                    return Err(refusal(id, "is on something in the trash"));
                }
                self.attachment_status(index)
            }
            _ => return Err(refusal(id, "has no status")),
        };
        if status == "current" {
            return Err(refusal(id, "is neither in the trash nor in the archive"));
        }
        if status == "trashed" && kind == ObjectKind::Page {
            let home = self.home(self.page_space[index]);
            self.hang(index, home);
        }
        self.overlay.patch_mut(kind, index).status = Some("current");
        Ok((kind, index))
    }

    fn archive(&mut self, id: &str) -> Result<(ObjectKind, usize)> {
        let (kind, index) = self.find(id)?;
        let current = match kind {
            ObjectKind::Space => self.space_status(index) == "current",
            ObjectKind::Page => self.page_status(index) == "current" && !self.is_home(index),
            _ => return Err(refusal(id, "is neither a space nor a page")),
        };
        if !current {
            return Err(refusal(id, "is not one to be archived"));
        }
        self.overlay.patch_mut(kind, index).status = Some("archived");
        Ok((kind, index))
    }

    fn delete(&mut self, id: &str) -> Result<(ObjectKind, usize)> {
        let (kind, index) = self.find(id)?;
        match kind {
            ObjectKind::Label | ObjectKind::Folder => return Err(refusal(id, "cannot be deleted")),
            ObjectKind::Page if self.is_home(index) => return Err(refusal(id, "is a home page")),
            ObjectKind::Page => self.uproot(index),
            ObjectKind::Footer | ObjectKind::Inline => self.delete_replies(kind, index),
            _ => {}
        }
        self.overlay.patch_mut(kind, index).gone = true;
        Ok((kind, index))
    }

    /// Replies have higher indexes than the comments they reply to, so one pass finds all of them.
    fn delete_replies(&mut self, kind: ObjectKind, comment: usize) {
        let mut thread = vec![comment];
        for later in self.comments_of(kind, self.comment_container(kind, comment)) {
            if self.replies_to(kind, later).is_some_and(|answered| thread.contains(&answered)) {
                thread.push(later);
                self.overlay.patch_mut(kind, later).gone = true;
            }
        }
    }

    fn relabel(&mut self, id: &str, label: &str, on: bool) -> Result<(ObjectKind, usize)> {
        let (ObjectKind::Label, label_index) = self.find(label)? else {
            return Err(refusal(label, "is not a label"));
        };
        let (kind, index, mut labels) = if let (ObjectKind::Space, space) = self.find(id)? {
            if on && Self::label_prefix(label_index) == "global" {
                return Err(refusal(label, "is not a label for spaces"));
            }
            (ObjectKind::Space, space, self.space_labels(space))
        } else {
            let (kind, index) = self.find_content(id)?;
            (kind, index, self.content_labels(self.content_of(kind, index)))
        };
        if labels.contains(&label_index) == on {
            return Err(refusal(id, if on { "has the label" } else { "lacks the label" }));
        }
        if on {
            labels.push(label_index);
        } else {
            labels.retain(|one| *one != label_index);
        }
        self.overlay.labels.insert((kind, index), labels);
        Ok((kind, index))
    }

    fn toggle(&mut self, id: &str, at: u64) -> Result<(ObjectKind, usize)> {
        let (ObjectKind::Task, task) = self.find(id)? else {
            return Err(refusal(id, "is not a task"));
        };
        let completed = self.task(task).completed.is_none().then_some(at);
        self.overlay.patch_mut(ObjectKind::Task, task).task =
            Some(TaskState { completed, updated: at });
        Ok((ObjectKind::Task, task))
    }
}

fn refusal(id: &str, why: &str) -> Error {
    Error::Invalid(format!("the change cannot be made: `{id}` {why}"))
}
