//! The tenant: which objects exist and how they hang together, derived from seed and sizes.
//!
//! Little is stored (parents, offsets); everything else follows from an object's index when asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

pub(super) use super::ids::{Kind, Ranked, SortBy, from_id, id_of};
use super::options::Options;
use super::text::{Text, below, mix, title};

/// Most children of one parent whose ids are composed from parent and number.
pub(super) const MAX_CHILDREN: usize = 512;

/// 2024-01-01 in epoch milliseconds: the first creation.
const FIRST_TIME: u64 = 1_704_067_200_000;

/// Creations spread over two years, versions over the 200 days after them; in milliseconds.
const CREATION_SPAN: u64 = 63_072_000_000;
const EDIT_SPAN: u64 = 17_280_000_000;

/// Comments of one kind, numbered container by container.
#[derive(Debug)]
pub(super) struct Comments {
    /// First comment of each container, and the end of the last.
    starts: Vec<usize>,
}

impl Comments {
    /// The comments of a page or blog post.
    pub(super) fn of(&self, container: usize) -> std::ops::Range<usize> {
        self.starts[container]..self.starts[container + 1]
    }

    /// Container of a comment, and its number there.
    pub(super) fn place(&self, comment: usize) -> (usize, usize) {
        let container = self.starts.partition_point(|start| *start <= comment) - 1;
        (container, comment - self.starts[container])
    }

    pub(super) fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }
}

/// Place of a comment in its thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    /// Answers the first comment of the container.
    OfFirst,
    /// Answers the root before it.
    Answer,
    /// Answers the answer before it.
    Deep,
}

/// A simulated tenant. Pages come first among *containers* (then blog posts), and containers first
/// among *contents* (then attachments); *nodes* are pages, then folders, one per space.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) options: Options,
    pub(super) text: &'static Text,
    page_space: Vec<usize>,
    /// Parent node of each page.
    page_parent: Vec<Option<usize>>,
    attachment_of: Vec<usize>,
    pub(super) space_pages: Vec<Vec<usize>>,
    pub(super) space_blogs: Vec<Vec<usize>>,
    /// Child nodes of each node.
    pub(super) children: Vec<Vec<usize>>,
    pub(super) attachments: Vec<Vec<usize>>,
    pub(super) footer: Comments,
    pub(super) inline: Comments,
    ranked: Mutex<HashMap<(Kind, SortBy), Arc<Ranked>>>,
    labelled: OnceLock<Vec<Vec<usize>>>,
}

impl Tenant {
    pub(super) fn new(options: Options) -> Self {
        let mut tenant = Self {
            text: Text::shared(),
            page_space: Vec::with_capacity(options.pages),
            page_parent: Vec::with_capacity(options.pages),
            attachment_of: Vec::with_capacity(options.attachments),
            space_pages: vec![Vec::new(); options.spaces],
            space_blogs: vec![Vec::new(); options.spaces],
            children: vec![Vec::new(); options.pages + options.spaces],
            attachments: vec![Vec::new(); options.pages + options.blog_posts],
            footer: Comments { starts: Vec::new() },
            inline: Comments { starts: Vec::new() },
            ranked: Mutex::default(),
            labelled: OnceLock::new(),
            options,
        };
        tenant.plant_pages();
        tenant.place_blog_posts_and_attachments();
        tenant.footer =
            tenant.count_comments(Kind::Footer, tenant.options.children.footer_comments);
        tenant.inline =
            tenant.count_comments(Kind::Inline, tenant.options.children.inline_comments);
        tenant
    }

    fn plant_pages(&mut self) {
        let (spaces, pages) = (self.options.spaces, self.options.pages);
        for page in 0..if spaces == 0 { 0 } else { pages } {
            let dice = self.dice("parent", page);
            let space = if page < spaces { page } else { below(dice >> 16, spaces) };
            let parent = (page >= spaces && self.page_status(page) != "trashed").then(|| {
                let members = &self.space_pages[space];
                match dice % 100 {
                    0..30 => space,
                    30..34 => pages + space,
                    _ => members[below(mix(dice), members.len())],
                }
            });
            self.page_space.push(space);
            self.page_parent.push(parent);
            if let Some(node) = parent {
                self.children[node].push(page);
            }
            if parent.is_some() || page < spaces {
                self.space_pages[space].push(page);
            }
        }
        self.options.pages = self.page_space.len();
        for space in 0..spaces.min(self.options.pages) {
            self.children[space].push(self.options.pages + space);
        }
        self.space_pages = vec![Vec::new(); spaces];
        for (page, space) in self.page_space.iter().enumerate() {
            self.space_pages[*space].push(page);
        }
    }

    fn place_blog_posts_and_attachments(&mut self) {
        if self.options.spaces == 0 {
            (self.options.blog_posts, self.options.custom_content) = (0, 0);
        }
        for blog in 0..self.options.blog_posts {
            let space = self.blog_space(blog);
            self.space_blogs[space].push(blog);
        }
        if self.containers() == 0 {
            (self.options.attachments, self.options.tasks) = (0, 0);
        }
        for attachment in 0..self.options.attachments {
            let container = below(self.dice("attached", attachment), self.containers());
            self.attachment_of.push(container);
            self.attachments[container].push(attachment);
        }
    }

    fn count_comments(&self, kind: Kind, mean: f64) -> Comments {
        let mut starts = vec![0];
        let mut total = 0;
        for container in 0..self.containers() {
            if self.container_status(container) != "trashed" {
                let local = container.checked_sub(self.options.pages).unwrap_or(container);
                total += self.tail(self.dice_of(kind, container), local, mean);
            }
            starts.push(total);
        }
        Comments { starts }
    }

    /// Scrambled bits for one aspect of one object.
    pub(super) fn dice(&self, aspect: &str, index: usize) -> u64 {
        let salt = aspect.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        mix(mix(self.options.seed ^ salt.rotate_left(32)) ^ index as u64)
    }

    /// Scrambled bits for an object as a whole.
    pub(super) fn dice_of(&self, kind: Kind, index: usize) -> u64 {
        mix(mix(self.options.seed ^ ((kind as u64) << 56)) ^ index as u64)
    }

    /// A long-tailed count with this mean; more than 250 for the heavy parents, whose `local`
    /// number starts from 1.
    fn tail(&self, dice: u64, local: usize, mean: f64) -> usize {
        if mean <= 0.0 {
            return 0;
        }
        if (1..=self.options.heavy_parents).contains(&local) {
            return 251 + below(dice, 50);
        }
        geometric(dice, mean).min(250)
    }

    pub(super) fn containers(&self) -> usize {
        self.options.pages + self.options.blog_posts
    }

    pub(super) fn contents(&self) -> usize {
        self.containers() + self.options.attachments
    }

    /// How many objects a kind has; composed ids (properties, permissions) are not counted.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Space => self.options.spaces,
            Kind::Page => self.options.pages,
            Kind::BlogPost => self.options.blog_posts,
            Kind::Attachment => self.options.attachments,
            Kind::Footer => self.footer.len(),
            Kind::Inline => self.inline.len(),
            Kind::Label => self.options.labels,
            Kind::Task => self.options.tasks,
            Kind::Custom => self.options.custom_content,
            Kind::Folder => self.options.pages + self.options.spaces,
            Kind::Property | Kind::SpaceProperty | Kind::Permission => 0,
        }
    }

    pub(super) fn page_space(&self, page: usize) -> usize {
        self.page_space[page]
    }

    pub(super) fn page_parent(&self, page: usize) -> Option<usize> {
        self.page_parent[page]
    }

    pub(super) fn page_status(&self, page: usize) -> &'static str {
        let local = page.checked_sub(self.options.spaces);
        match (local, self.dice("page status", page) % 20) {
            (None, _) => "current",
            (Some(3), _) | (_, 0) => "archived",
            (Some(4), _) | (_, 1) => "trashed",
            _ => "current",
        }
    }

    pub(super) fn blog_space(&self, blog: usize) -> usize {
        below(self.dice("blog space", blog), self.options.spaces)
    }

    pub(super) fn blog_status(&self, blog: usize) -> &'static str {
        let trashed = blog == 3 || self.dice("blog status", blog).is_multiple_of(20);
        if trashed { "trashed" } else { "current" }
    }

    pub(super) fn container_status(&self, container: usize) -> &'static str {
        match container.checked_sub(self.options.pages) {
            None => self.page_status(container),
            Some(blog) => self.blog_status(blog),
        }
    }

    pub(super) fn container_space(&self, container: usize) -> usize {
        match container.checked_sub(self.options.pages) {
            None => self.page_space(container),
            Some(blog) => self.blog_space(blog),
        }
    }

    pub(super) fn attachment_container(&self, attachment: usize) -> usize {
        self.attachment_of[attachment]
    }

    pub(super) fn attachment_status(&self, attachment: usize) -> &'static str {
        if self.container_status(self.attachment_container(attachment)) == "trashed" {
            return "trashed";
        }
        match self.dice("attachment status", attachment) % 20 {
            0 => "archived",
            1 => "trashed",
            _ => "current",
        }
    }

    /// Kind and index of a content.
    pub(super) fn content(&self, content: usize) -> (Kind, usize) {
        if content < self.options.pages {
            (Kind::Page, content)
        } else if content < self.containers() {
            (Kind::BlogPost, content - self.options.pages)
        } else {
            (Kind::Attachment, content - self.containers())
        }
    }

    /// The content that is the `index`-th of its kind.
    pub(super) fn content_of(&self, kind: Kind, index: usize) -> usize {
        match kind {
            Kind::Page => index,
            Kind::BlogPost => self.options.pages + index,
            _ => self.containers() + index,
        }
    }

    pub(super) fn content_status(&self, content: usize) -> &'static str {
        match self.content(content) {
            (Kind::Attachment, index) => self.attachment_status(index),
            _ => self.container_status(content),
        }
    }

    fn content_tail(&self, aspect: &str, content: usize, mean: f64) -> usize {
        self.tail(self.dice(aspect, content), self.content(content).1, mean)
    }

    /// The labels of a content.
    pub(super) fn content_labels(&self, content: usize) -> Vec<usize> {
        let all = self.options.labels;
        let count = self.content_tail("labels", content, self.options.children.labels).min(all);
        let first = below(self.dice("first label", content), all);
        (0..count).map(|number| (first + number) % all).collect()
    }

    /// Versions of a content, at least one.
    pub(super) fn versions(&self, content: usize) -> usize {
        1 + self.content_tail("versions", content, self.options.children.versions - 1.0)
    }

    /// Properties of a content, as composed indexes.
    pub(super) fn properties(&self, content: usize) -> Vec<usize> {
        let count = self.content_tail("properties", content, self.options.children.properties);
        (0..count).map(|number| content * MAX_CHILDREN + number).collect()
    }

    /// Labels of a space: only those with prefix `team` or `my`.
    pub(super) fn space_labels(&self, space: usize) -> Vec<usize> {
        let all = self.options.labels / 8 * 2;
        let mean = self.options.children.space_labels;
        let count = self.tail(self.dice("space labels", space), space, mean).min(all);
        let first = below(self.dice("first space label", space), all);
        let label = |number: usize| number / 2 * 8 + number % 2;
        (0..count).map(|number| label((first + number) % all)).collect()
    }

    /// Permissions or properties of a space, as composed indexes.
    pub(super) fn space_children(&self, kind: Kind, space: usize) -> Vec<usize> {
        let mean = match kind {
            Kind::Permission => self.options.children.space_permissions,
            _ => self.options.children.space_properties,
        };
        let count = self.tail(self.dice_of(kind, space), space, mean);
        (0..count).map(|number| space * MAX_CHILDREN + number).collect()
    }

    pub(super) fn label_prefix(label: usize) -> &'static str {
        match label % 8 {
            0 => "team",
            1 => "my",
            _ => "global",
        }
    }

    /// The contents that carry a label, trashed ones left out.
    pub(super) fn labelled(&self, label: usize) -> &[usize] {
        let all = self.labelled.get_or_init(|| {
            let mut all = vec![Vec::new(); self.options.labels];
            for content in 0..self.contents() {
                if self.content_status(content) != "trashed" {
                    for label in self.content_labels(content) {
                        all[label].push(content);
                    }
                }
            }
            all
        });
        &all[label]
    }

    pub(super) fn comments(&self, kind: Kind) -> &Comments {
        if kind == Kind::Footer { &self.footer } else { &self.inline }
    }

    /// The comment that a comment answers; `None` for a root. Threads are up to three deep; where
    /// comments crowd, half of them answer the first.
    pub(super) fn replies_to(&self, kind: Kind, comment: usize) -> Option<usize> {
        let (container, number) = self.comments(kind).place(comment);
        let (first, crowded) = (comment - number, self.comments(kind).of(container).len() > 250);
        let level = |comment| self.level(kind, comment, (first, crowded));
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

    /// Where a comment wants to hang in its thread.
    fn level(&self, kind: Kind, comment: usize, (first, crowded): (usize, bool)) -> Level {
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

    /// Creation in epoch milliseconds; rises with the index.
    pub(super) fn created(&self, kind: Kind, index: usize) -> u64 {
        let count = self.count(kind).max(1) as u64;
        let step = (CREATION_SPAN / count / 1000).max(1) * 1000;
        let dice = self.dice_of(kind, index);
        let inside = dice % step;
        let inside = if (dice >> 40).is_multiple_of(8) { inside / 1000 * 1000 } else { inside };
        FIRST_TIME + index as u64 * step + inside
    }

    /// Time of a version, from 1 for the first, in epoch milliseconds.
    pub(super) fn version_time(&self, kind: Kind, index: usize, version: usize, of: usize) -> u64 {
        let gap = EDIT_SPAN / of.max(1) as u64;
        let pace = gap / 2 + self.dice_of(kind, index) % (gap / 2 + 1);
        self.created(kind, index) + (version as u64 - 1) * pace
    }

    /// Number of the latest version of anything but a folder.
    pub(super) fn latest(&self, kind: Kind, index: usize) -> usize {
        match kind {
            Kind::Page | Kind::BlogPost | Kind::Attachment => {
                self.versions(self.content_of(kind, index))
            }
            _ => 1 + geometric(self.dice("edits", index), 0.3).min(9),
        }
    }

    pub(super) fn modified(&self, kind: Kind, index: usize) -> u64 {
        let latest = self.latest(kind, index);
        self.version_time(kind, index, latest, latest)
    }

    pub(super) fn title(&self, kind: Kind, index: usize) -> String {
        let dice = self.dice_of(kind, index);
        match kind {
            Kind::Attachment => format!("{}-{index}.{}", super::text::word(dice), media(dice).0),
            Kind::Label => format!("{}-{index}", super::text::word(dice)),
            _ => title(dice, index),
        }
    }

    /// Place of a node among its siblings, with gaps.
    pub(super) fn position(&self, node: usize) -> u64 {
        self.dice("position", node) % 100_000
    }

    /// A kind's objects in an order, computed once.
    pub(super) fn ranked(&self, kind: Kind, by: SortBy) -> Arc<Ranked> {
        let mut cache = self.ranked.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cache.entry((kind, by)).or_insert_with(|| Arc::new(self.rank(kind, by))))
    }

    fn rank(&self, kind: Kind, by: SortBy) -> Ranked {
        let count = self.count(kind);
        let node = |index: usize| match index.checked_sub(self.options.pages) {
            _ if kind != Kind::Folder => (kind, index),
            None => (Kind::Page, index),
            Some(space) => (Kind::Folder, space),
        };
        match by {
            SortBy::Id => Ranked::by(count, |at| id_of(node(at).0, node(at).1)),
            SortBy::Created => Ranked::by(count, |at| self.created(node(at).0, node(at).1)),
            SortBy::Modified => Ranked::by(count, |at| self.modified(node(at).0, node(at).1)),
            SortBy::Title => Ranked::by(count, |at| self.title(node(at).0, node(at).1)),
            SortBy::Position => Ranked::by(count, |at| self.position(at)),
        }
    }
}

/// File extension, media type and its description.
pub(super) fn media(dice: u64) -> (&'static str, &'static str, Option<&'static str>) {
    match dice % 4 {
        0 => ("png", "image/png", Some("PNG Image")),
        1 => ("pdf", "application/pdf", Some("PDF Document")),
        2 => ("csv", "text/csv", None),
        _ => ("zip", "application/zip", Some("Zip Archive")),
    }
}

/// A count with this mean and a long tail.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits of chance are plenty, and the quotient is small and not negative"
)]
fn geometric(dice: u64, mean: f64) -> usize {
    if mean <= 0.0 {
        return 0;
    }
    let chance = ((dice >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    (chance.ln() / (mean / (1.0 + mean)).ln()) as usize
}
