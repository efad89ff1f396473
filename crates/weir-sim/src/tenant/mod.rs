//! The tenant: its objects and their relations, derived from seed and sizes.
//!
//! Only parents, offsets and changes are stored. Everything else is computed from an object's index on
//! demand.

pub(crate) mod change;
pub(crate) mod churn;
pub(crate) mod clock;
pub(crate) mod content;
pub(crate) mod existence;
pub(crate) mod facts;
pub(crate) mod ids;
pub(crate) mod overlay;
pub(crate) mod parts;
pub(crate) mod text;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use crate::options::Options;
use crate::tenant::ids::{ObjectKind, SortBy};
use crate::tenant::overlay::Overlay;
use crate::tenant::text::{Text, below, mix};

/// The kinds of contents, in index order.
const CONTENTS: [ObjectKind; 3] = [ObjectKind::Page, ObjectKind::BlogPost, ObjectKind::Attachment];

/// Comments of one kind, numbered by container.
#[derive(Debug, Default)]
pub(crate) struct Comments {
    /// First comment of each container, and the end of the last container.
    starts: Vec<usize>,
}

impl Comments {
    /// The initial comments of a page or blog post; none for a container created later.
    pub(crate) fn of(&self, container: usize) -> std::ops::Range<usize> {
        match (self.starts.get(container), self.starts.get(container + 1)) {
            (Some(start), Some(end)) => *start..*end,
            _ => 0..0,
        }
    }

    /// Container of a comment, and the comment's number in it.
    pub(crate) fn place(&self, comment: usize) -> (usize, usize) {
        let container = self.starts.partition_point(|start| *start <= comment) - 1;
        (container, comment - self.starts[container])
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }
}

/// The objects of a kind in an order.
type Orders = HashMap<(ObjectKind, SortBy), Arc<Vec<usize>>>;

/// A simulated tenant. *Containers* are pages, then blog posts. *Contents* are containers, then attachments.
/// *Nodes* are pages, then folders, one per space. Objects that are created later have higher numbers than
/// all initial objects.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// The initial options. The counts do not grow.
    pub(crate) options: Options,
    pub(crate) text: &'static Text,
    /// Space of each page.
    pub(crate) page_space: Vec<usize>,
    /// Parent node of each page.
    pub(crate) page_parent: Vec<Option<usize>>,
    /// Container of each attachment.
    pub(crate) attachment_of: Vec<usize>,
    pub(crate) space_pages: Vec<Vec<usize>>,
    pub(crate) space_blogs: Vec<Vec<usize>>,
    /// Child nodes of a node.
    pub(crate) children: HashMap<usize, Vec<usize>>,
    /// Attachments of a container.
    pub(crate) attachments: HashMap<usize, Vec<usize>>,
    /// The initial comments.
    pub(crate) footer: Comments,
    pub(crate) inline: Comments,
    pub(crate) overlay: Overlay,
    /// Cached objects of a kind in an order; removed when the order changes.
    pub(crate) ranked: Mutex<Orders>,
    /// Cached contents of each label; removed when they change.
    pub(crate) labelled: OnceLock<Vec<Vec<usize>>>,
}

impl Tenant {
    pub(crate) fn new(options: Options) -> Self {
        let mut tenant = Self {
            text: Text::shared(),
            page_space: Vec::with_capacity(options.pages),
            page_parent: Vec::with_capacity(options.pages),
            attachment_of: Vec::with_capacity(options.attachments),
            space_pages: vec![Vec::new(); options.spaces],
            space_blogs: vec![Vec::new(); options.spaces],
            children: HashMap::new(),
            attachments: HashMap::new(),
            footer: Comments::default(),
            inline: Comments::default(),
            overlay: Overlay::default(),
            ranked: Mutex::default(),
            labelled: OnceLock::new(),
            options,
        };
        tenant.plant_pages();
        tenant.place_blog_posts_and_attachments();
        tenant.footer =
            tenant.count_comments(ObjectKind::Footer, tenant.options.children.footer_comments);
        tenant.inline =
            tenant.count_comments(ObjectKind::Inline, tenant.options.children.inline_comments);
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
                self.children.entry(node).or_default().push(page);
            }
            if parent.is_some() || page < spaces {
                self.space_pages[space].push(page);
            }
        }
        self.options.pages = self.page_space.len();
        for space in 0..spaces.min(self.options.pages) {
            self.children.entry(space).or_default().push(self.options.pages + space);
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
            self.attachments.entry(container).or_default().push(attachment);
        }
    }

    fn count_comments(&self, kind: ObjectKind, mean: f64) -> Comments {
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
    pub(crate) fn dice(&self, aspect: &str, index: usize) -> u64 {
        let salt = aspect.bytes().fold(17_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        mix(mix(self.options.seed ^ salt.rotate_left(32)) ^ index as u64)
    }

    /// Scrambled bits for an object as a whole.
    pub(crate) fn dice_of(&self, kind: ObjectKind, index: usize) -> u64 {
        mix(mix(self.options.seed ^ ((kind as u64) << 56)) ^ index as u64)
    }

    /// A long-tailed count with this mean; more than 250 for the heavy parents, whose `local`
    /// number starts from 1.
    pub(crate) fn tail(&self, dice: u64, local: usize, mean: f64) -> usize {
        if mean <= 0.0 {
            return 0;
        }
        if (1..=self.options.heavy_parents).contains(&local) {
            return 251 + below(dice, 50);
        }
        geometric(dice, mean).min(250)
    }

    /// Number of initial containers.
    pub(crate) fn containers(&self) -> usize {
        self.options.pages + self.options.blog_posts
    }

    /// Number of initial contents.
    fn contents(&self) -> usize {
        self.containers() + self.options.attachments
    }

    /// All contents, including deleted ones.
    pub(crate) fn all_contents(&self) -> impl Iterator<Item = usize> {
        let of_kind =
            move |kind| (0..self.count(kind)).map(move |index| self.content_of(kind, index));
        CONTENTS.into_iter().flat_map(of_kind)
    }

    /// Initial number of objects of a kind. Kinds with composed IDs (properties, permissions) are not
    /// counted.
    pub(crate) fn initial(&self, kind: ObjectKind) -> usize {
        match kind {
            ObjectKind::Space => self.options.spaces,
            ObjectKind::Page => self.options.pages,
            ObjectKind::BlogPost => self.options.blog_posts,
            ObjectKind::Attachment => self.options.attachments,
            ObjectKind::Footer => self.footer.len(),
            ObjectKind::Inline => self.inline.len(),
            ObjectKind::Label => self.options.labels,
            ObjectKind::Task => self.options.tasks,
            ObjectKind::Custom => self.options.custom_content,
            ObjectKind::Folder => self.options.pages + self.options.spaces,
            ObjectKind::Group => self.options.groups,
            ObjectKind::Property | ObjectKind::SpaceProperty | ObjectKind::Permission => 0,
        }
    }

    /// Number of objects of a kind, including deleted ones, which keep their index.
    pub(crate) fn count(&self, kind: ObjectKind) -> usize {
        self.initial(kind) + self.overlay.added(kind)
    }

    /// Kind and index of a content.
    pub(crate) fn content(&self, content: usize) -> (ObjectKind, usize) {
        if content < self.options.pages {
            (ObjectKind::Page, content)
        } else if content < self.containers() {
            (ObjectKind::BlogPost, content - self.options.pages)
        } else if content < self.contents() {
            (ObjectKind::Attachment, content - self.containers())
        } else {
            let later = content - self.contents();
            let kind = CONTENTS[later % CONTENTS.len()];
            (kind, self.initial(kind) + later / CONTENTS.len())
        }
    }

    /// The content that is the `index`-th of its kind.
    pub(crate) fn content_of(&self, kind: ObjectKind, index: usize) -> usize {
        let (first, place) = match kind {
            ObjectKind::Page => (0, 0),
            ObjectKind::BlogPost => (self.options.pages, 1),
            _ => (self.containers(), 2),
        };
        match index.checked_sub(self.initial(kind)) {
            None => first + index,
            Some(later) => self.contents() + later * CONTENTS.len() + place,
        }
    }

    /// Kind and index of a node.
    pub(crate) fn node(&self, node: usize) -> (ObjectKind, usize) {
        let (pages, spaces) = (self.options.pages, self.options.spaces);
        if node < pages {
            (ObjectKind::Page, node)
        } else if node < pages + spaces {
            (ObjectKind::Folder, node - pages)
        } else {
            (ObjectKind::Page, node - spaces)
        }
    }

    /// The node of a page.
    pub(crate) fn node_of(&self, page: usize) -> usize {
        if page < self.options.pages { page } else { page + self.options.spaces }
    }
}

/// A count with this mean and a long tail.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits of chance are plenty, and the quotient is small and not negative"
)]
pub(crate) fn geometric(dice: u64, mean: f64) -> usize {
    if mean <= 0.0 {
        return 0;
    }
    let chance = ((dice >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    (chance.ln() / (mean / (1.0 + mean)).ln()) as usize
}
