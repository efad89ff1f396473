//! Facts about a tenant's objects, derived from their indexes unless the overlay contains a change.

use std::sync::{Arc, PoisonError};

use crate::tenant::ids::{MAX_CHILDREN, ObjectKind, SortBy, SortKey, id_of};
use crate::tenant::text::{below, title, word};
use crate::tenant::{Comments, Tenant, geometric};

/// 2024-01-01 in epoch milliseconds: the earliest creation.
const FIRST_TIME: u64 = 1_704_067_200_000;

/// Creations are spread over two years, and versions over the 200 days after them; in milliseconds.
const CREATION_SPAN: u64 = 63_072_000_000;
const EDIT_SPAN: u64 = 17_280_000_000;

/// 2026-08-01 in epoch milliseconds: later than all initial objects.
pub(crate) const AFTER_ALL: u64 = 1_785_542_400_000;

/// Position of a comment in its thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    /// Reply to the first comment of the container.
    OfFirst,
    /// Reply to the previous root comment.
    Answer,
    /// Reply to the previous reply.
    Deep,
}

impl Tenant {
    pub(crate) fn page_space(&self, page: usize) -> usize {
        self.page_space[page]
    }

    pub(crate) fn page_parent(&self, page: usize) -> Option<usize> {
        self.page_parent[page]
    }

    /// The status that a change has set, if any.
    fn patched_status(&self, kind: ObjectKind, index: usize) -> Option<&'static str> {
        self.overlay.patch(kind, index).and_then(|patch| patch.status)
    }

    pub(crate) fn space_status(&self, space: usize) -> &'static str {
        let initial = if space % 10 == 3 { "archived" } else { "current" };
        self.patched_status(ObjectKind::Space, space).unwrap_or(initial)
    }

    pub(crate) fn page_status(&self, page: usize) -> &'static str {
        if let Some(status) = self.patched_status(ObjectKind::Page, page) {
            return status;
        }
        let local = page.checked_sub(self.options.spaces);
        match (local, self.dice("page status", page) % 20) {
            (None, _) => "current",
            (Some(3), _) | (_, 0) => "archived",
            (Some(4), _) | (_, 1) => "trashed",
            _ => "current",
        }
    }

    pub(crate) fn blog_space(&self, blog: usize) -> usize {
        let moved = self.overlay.patch(ObjectKind::BlogPost, blog).and_then(|patch| patch.place);
        moved.unwrap_or_else(|| below(self.dice("blog space", blog), self.options.spaces))
    }

    pub(crate) fn blog_status(&self, blog: usize) -> &'static str {
        if let Some(status) = self.patched_status(ObjectKind::BlogPost, blog) {
            return status;
        }
        let trashed = blog == 3 || self.dice("blog status", blog).is_multiple_of(20);
        if trashed { "trashed" } else { "current" }
    }

    pub(crate) fn container_status(&self, container: usize) -> &'static str {
        match self.content(container) {
            (ObjectKind::Page, page) => self.page_status(page),
            (_, blog) => self.blog_status(blog),
        }
    }

    pub(crate) fn container_space(&self, container: usize) -> usize {
        match self.content(container) {
            (ObjectKind::Page, page) => self.page_space(page),
            (_, blog) => self.blog_space(blog),
        }
    }

    pub(crate) fn attachment_container(&self, attachment: usize) -> usize {
        self.attachment_of[attachment]
    }

    pub(crate) fn attachment_status(&self, attachment: usize) -> &'static str {
        if self.container_status(self.attachment_container(attachment)) == "trashed" {
            return "trashed";
        }
        if let Some(status) = self.patched_status(ObjectKind::Attachment, attachment) {
            return status;
        }
        match self.dice("attachment status", attachment) % 20 {
            0 => "archived",
            1 => "trashed",
            _ => "current",
        }
    }

    pub(crate) fn content_status(&self, content: usize) -> &'static str {
        match self.content(content) {
            (ObjectKind::Attachment, index) => self.attachment_status(index),
            _ => self.container_status(content),
        }
    }

    /// The child nodes of a page.
    pub(crate) fn child_nodes(&self, page: usize) -> Vec<usize> {
        self.children.get(&self.node_of(page)).cloned().unwrap_or_default()
    }

    fn content_tail(&self, aspect: &str, content: usize, mean: f64) -> usize {
        self.tail(self.dice(aspect, content), self.content(content).1, mean)
    }

    /// The labels of a content.
    pub(crate) fn content_labels(&self, content: usize) -> Vec<usize> {
        if let Some(labels) = self.overlay.labels.get(&self.content(content)) {
            return labels.clone();
        }
        let all = self.options.labels;
        let count = self.content_tail("labels", content, self.options.children.labels).min(all);
        let first = below(self.dice("first label", content), all);
        (0..count).map(|number| (first + number) % all).collect()
    }

    /// Number of versions of a content; at least one.
    pub(crate) fn versions(&self, content: usize) -> usize {
        let (kind, index) = self.content(content);
        self.latest(kind, index)
    }

    /// Labels of a space: only those with prefix `team` or `my`.
    pub(crate) fn space_labels(&self, space: usize) -> Vec<usize> {
        if let Some(labels) = self.overlay.labels.get(&(ObjectKind::Space, space)) {
            return labels.clone();
        }
        let all = self.options.labels / 8 * 2;
        let mean = self.options.children.space_labels;
        let count = self.tail(self.dice("space labels", space), space, mean).min(all);
        let first = below(self.dice("first space label", space), all);
        let label = |number: usize| number / 2 * 8 + number % 2;
        (0..count).map(|number| label((first + number) % all)).collect()
    }

    /// Initial number of properties (of contents or spaces) or permissions of an owner.
    pub(crate) fn initial_parts(&self, kind: ObjectKind, owner: usize) -> usize {
        let means = &self.options.children;
        match kind {
            ObjectKind::Property => self.content_tail("properties", owner, means.properties),
            ObjectKind::Permission => {
                self.tail(self.dice_of(kind, owner), owner, means.space_permissions)
            }
            _ => self.tail(self.dice_of(kind, owner), owner, means.space_properties),
        }
    }

    pub(crate) fn label_prefix(label: usize) -> &'static str {
        match label % 8 {
            0 => "team",
            1 => "my",
            _ => "global",
        }
    }

    /// The current contents with a label. The documentation does not specify the statuses in the lists below
    /// a label, so only current contents are listed.
    pub(crate) fn labelled(&self, label: usize) -> &[usize] {
        let all = self.labelled.get_or_init(|| {
            let mut all = vec![Vec::new(); self.options.labels];
            for content in self.all_contents() {
                if self.content_exists(content) && self.content_status(content) == "current" {
                    for label in self.content_labels(content) {
                        all[label].push(content);
                    }
                }
            }
            all
        });
        &all[label]
    }

    fn comments(&self, kind: ObjectKind) -> &Comments {
        if kind == ObjectKind::Footer { &self.footer } else { &self.inline }
    }

    /// The comments of a page or blog post.
    pub(crate) fn comments_of(&self, kind: ObjectKind, container: usize) -> Vec<usize> {
        let later = self.overlay.comments.get(&(kind, container)).map_or(&[][..], Vec::as_slice);
        let all = self.comments(kind).of(container).chain(later.iter().copied());
        all.filter(|comment| self.exists(kind, *comment)).collect()
    }

    /// The page or blog post of a comment.
    pub(crate) fn comment_container(&self, kind: ObjectKind, comment: usize) -> usize {
        let later = self.overlay.patch(kind, comment).and_then(|patch| patch.place);
        later.unwrap_or_else(|| self.comments(kind).place(comment).0)
    }

    /// The comment that a comment replies to; `None` for a root comment. Threads are up to three levels deep.
    /// In crowded containers, half of the comments reply to the first.
    pub(crate) fn replies_to(&self, kind: ObjectKind, comment: usize) -> Option<usize> {
        if comment >= self.initial(kind) {
            return self.overlay.patch(kind, comment)?.answers;
        }
        let (container, number) = self.comments(kind).place(comment);
        let (first, crowded) = (comment - number, self.comments(kind).of(container).len() > 250);
        let level = |comment| self.level(kind, comment, first, crowded);
        match level(comment) {
            Level::Root => None,
            Level::OfFirst => Some(first),
            Level::Answer => (first..comment).rev().find(|earlier| level(*earlier) == Level::Root),
            Level::Deep => {
                let answers = [Level::Answer, Level::OfFirst];
                let above =
                    (first..comment).rev().find(|earlier| answers.contains(&level(*earlier)));
                above.or(Some(first))
            }
        }
    }

    /// The preferred position of a comment in its thread.
    fn level(&self, kind: ObjectKind, comment: usize, first: usize, crowded: bool) -> Level {
        let dice = self.dice_of(kind, comment);
        if comment == first {
            return Level::Root;
        }
        if crowded && (dice >> 32).is_multiple_of(2) {
            return Level::OfFirst;
        }
        match dice % 6 {
            0..3 => Level::Root,
            3 | 4 => Level::Answer,
            _ => Level::Deep,
        }
    }

    /// Creation time in epoch milliseconds; increases with the index.
    pub(crate) fn created(&self, kind: ObjectKind, index: usize) -> u64 {
        if let Some(created) = self.overlay.patch(kind, index).and_then(|patch| patch.created) {
            return created;
        }
        let count = self.initial(kind).max(1) as u64;
        let step = (CREATION_SPAN / count / 1000).max(1) * 1000;
        let dice = self.dice_of(kind, index);
        let inside = dice % step;
        let inside = if (dice >> 40).is_multiple_of(8) { inside / 1000 * 1000 } else { inside };
        FIRST_TIME + index as u64 * step + inside
    }

    /// Time of a version, from 1 for the first, in epoch milliseconds.
    pub(crate) fn version_time(&self, kind: ObjectKind, index: usize, version: usize) -> u64 {
        let initial = self.initial_versions(kind, index);
        let later = version.checked_sub(initial + 1);
        let edit = later.and_then(|later| self.overlay.edits(kind, index).get(later));
        if let Some(edit) = edit {
            return edit.at;
        }
        let gap = EDIT_SPAN / initial as u64;
        let pace = gap / 2 + self.dice_of(kind, index) % (gap / 2 + 1);
        self.created(kind, index) + (version as u64 - 1) * pace
    }

    /// Initial number of versions of an object other than a folder; at least one.
    pub(crate) fn initial_versions(&self, kind: ObjectKind, index: usize) -> usize {
        if index >= self.initial(kind) {
            return 1;
        }
        match kind {
            ObjectKind::Page | ObjectKind::BlogPost | ObjectKind::Attachment => {
                let (content, mean) =
                    (self.content_of(kind, index), self.options.children.versions - 1.0);
                1 + self.content_tail("versions", content, mean)
            }
            _ => 1 + geometric(self.dice("edits", index), 0.3).min(9),
        }
    }

    /// Number of the latest version of an object other than a folder.
    pub(crate) fn latest(&self, kind: ObjectKind, index: usize) -> usize {
        self.initial_versions(kind, index) + self.overlay.edits(kind, index).len()
    }

    pub(crate) fn modified(&self, kind: ObjectKind, index: usize) -> u64 {
        self.version_time(kind, index, self.latest(kind, index))
    }

    pub(crate) fn title(&self, kind: ObjectKind, index: usize) -> String {
        self.title_at(kind, index, usize::MAX)
    }

    /// The title of an object in a version.
    pub(crate) fn title_at(&self, kind: ObjectKind, index: usize, version: usize) -> String {
        let edits = self.overlay.edits(kind, index);
        let dice = if edits.is_empty() {
            None
        } else {
            let known = version.saturating_sub(self.initial_versions(kind, index));
            edits.iter().take(known).rev().find_map(|edit| edit.title)
        };
        let dice = dice.unwrap_or_else(|| self.dice_of(kind, index));
        match kind {
            ObjectKind::Attachment => {
                let extension = media(self.dice_of(kind, index)).0;
                format!("{}-{index}.{extension}", word(dice))
            }
            ObjectKind::Label => format!("{}-{index}", word(dice)),
            _ => title(dice, index),
        }
    }

    /// Position of a node among its siblings, with gaps.
    pub(crate) fn position(&self, node: usize) -> u64 {
        self.dice("position", node) % 100_000
    }

    /// All objects of a kind in an order; cached until the order changes.
    pub(crate) fn ranked(&self, kind: ObjectKind, by: SortBy) -> Arc<Vec<usize>> {
        let mut cache = self.ranked.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = || {
            let mut order: Vec<usize> = (0..self.count(kind)).collect();
            order.sort_by_cached_key(|index| (self.sort_key(kind, by, *index), *index));
            Arc::new(order)
        };
        Arc::clone(cache.entry((kind, by)).or_insert_with(rank))
    }

    /// The position of an object in an order. For folders, the index is that of a node.
    pub(crate) fn sort_key(&self, kind: ObjectKind, by: SortBy, index: usize) -> SortKey {
        let (real, at) = if kind == ObjectKind::Folder { self.node(index) } else { (kind, index) };
        match by {
            SortBy::Id => SortKey::Number(id_of(real, at)),
            SortBy::Created => SortKey::Number(self.created(real, at)),
            SortBy::Modified => SortKey::Number(self.modified(real, at)),
            SortBy::Title => SortKey::Text(self.title(real, at)),
            SortBy::Position => SortKey::Number(self.position(index)),
            SortBy::Number => SortKey::Number(index as u64),
            SortBy::Key if kind == ObjectKind::Space => SortKey::Text(self.space_key(index)),
            SortBy::Key => SortKey::Text(crate::tenant::facts::property_key(index % MAX_CHILDREN)),
        }
    }
}

/// File extension, media type and its description.
pub(crate) fn media(dice: u64) -> (&'static str, &'static str, Option<&'static str>) {
    match dice % 4 {
        0 => ("png", "image/png", Some("PNG Image")),
        1 => ("pdf", "application/pdf", Some("PDF Document")),
        2 => ("csv", "text/csv", None),
        _ => ("zip", "application/zip", Some("Zip Archive")),
    }
}

/// Keys of properties; later ones are numbered.
const PROPERTY_KEYS: &[&str] = &[
    "content-appearance-published",
    "editor",
    "content-appearance-draft",
    "emoji-title-published",
];

/// The key of a property, by its number at its owner.
pub(crate) fn property_key(number: usize) -> String {
    match PROPERTY_KEYS.get(number) {
        Some(key) => (*key).to_owned(),
        None => format!("app-property-{number}"),
    }
}
