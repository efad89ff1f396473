//! The lists of v2: contents, filters and rows.

use crate::api::answer::{Asked, Reply};
use crate::api::listing::{List, SortOrder};
use crate::api::query::Query;
use crate::api::routes::Handler;
use crate::options::CUSTOM_CONTENT_TYPES;
use crate::tenant::Tenant;
use crate::tenant::content::{Shape, SpaceShape};
use crate::tenant::facts::property_key;
use crate::tenant::ids::{MAX_CHILDREN, ObjectKind, SortBy, from_id, id_of};

/// Maximum number of versions on a page with bodies.
const VERSIONS_WITH_BODY: usize = 50;

type ReplyResult = Result<Reply, Box<Reply>>;

impl Tenant {
    /// Responds to any list of v2.
    pub(crate) fn list(&self, asked: &Asked) -> ReplyResult {
        match asked.route.handler {
            Handler::Spaces => self.list_spaces(asked),
            Handler::Pages => self.list_pages(asked),
            Handler::SpacePages => self.list_pages_of_space(asked),
            Handler::BlogPosts => self.list_blogs(asked),
            Handler::SpaceBlogPosts => self.list_blogs_of_space(asked),
            Handler::Attachments => {
                self.list_attachments(asked, &List::all(self, ObjectKind::Attachment, &asked.query))
            }
            Handler::AttachmentsOf(kind) => self.list_attachments_of(asked, kind),
            Handler::Tasks => self.list_tasks(asked),
            Handler::Custom => self.list_custom(asked),
            Handler::Comments(kind) => self.list_comments(asked, kind),
            Handler::Replies(kind) => self.list_replies(asked, kind),
            Handler::RootComments(owner, kind) => self.list_roots(asked, owner, kind),
            Handler::AllLabels => self.list_labels(asked),
            Handler::Labelled(kind) => self.list_labelled(asked, kind),
            Handler::Labels(kind) => {
                let content = self.content_of(kind, self.resolve(asked, kind)?);
                self.list_labels_of(asked, self.content_labels(content))
            }
            Handler::SpaceLabels => {
                let space = self.resolve(asked, ObjectKind::Space)?;
                self.list_labels_of(asked, self.space_labels(space))
            }
            Handler::Versions(kind) => self.list_versions(asked, kind),
            Handler::Properties(kind) => {
                let content = self.content_of(kind, self.resolve(asked, kind)?);
                self.list_properties(
                    asked,
                    ObjectKind::Property,
                    self.parts(ObjectKind::Property, content),
                )
            }
            Handler::SpaceProperties => {
                let space = self.resolve(asked, ObjectKind::Space)?;
                let properties = self.parts(ObjectKind::SpaceProperty, space);
                self.list_properties(asked, ObjectKind::SpaceProperty, properties)
            }
            Handler::SpacePermissions => {
                let space = self.resolve(asked, ObjectKind::Space)?;
                let all = self.parts(ObjectKind::Permission, space);
                let order = SortOrder::ascending(SortBy::Number);
                let list = List::sorted(self, ObjectKind::Permission, all, order).with_cost(2);
                self.page(
                    asked,
                    &list,
                    |_| true,
                    |out, at| {
                        self.write_permission(out, at);
                    },
                )
            }
            Handler::Children(old) => self.list_children(asked, old),
            Handler::Single(_)
            | Handler::Groups
            | Handler::CurrentUser
            | Handler::Search
            | Handler::SearchAll
            | Handler::TenantInfo => Err(Box::new(Reply::not_found("Not Found"))),
        }
    }

    fn list_spaces(&self, asked: &Asked) -> ReplyResult {
        let query = &asked.query;
        let ids = query.ids("ids");
        let keys: Vec<String> = query.list("keys").map(str::to_lowercase).collect();
        let list = List::all(self, ObjectKind::Space, query);
        let keep = |space: usize| {
            Query::allows_id(ids.as_deref(), id_of(ObjectKind::Space, space))
                && (!query.has("keys") || keys.contains(&self.space_key(space).to_lowercase()))
                && query.text("type").is_none_or(|wanted| wanted == Self::space_type(space))
                && query.text("status").is_none_or(|wanted| wanted == self.space_status(space))
        };
        let shape = SpaceShape::of(query);
        self.page(asked, &list, keep, |out, space| {
            self.write_space(out, space, shape);
        })
    }

    fn list_pages(&self, asked: &Asked) -> ReplyResult {
        let list = self.by_ids(asked, ObjectKind::Page);
        let spaces = asked.query.ids("space-id");
        self.pages(asked, &list, |page| in_spaces(spaces.as_deref(), self.page_space(page)))
    }

    fn list_pages_of_space(&self, asked: &Asked) -> ReplyResult {
        let space = self.resolve(asked, ObjectKind::Space)?;
        let pages = self.space_pages[space].clone();
        let list =
            List::sorted(self, ObjectKind::Page, pages, SortOrder::of(&asked.query, SortBy::Id));
        let roots = asked.query.text("depth") == Some("root");
        self.pages(asked, &list, |page| {
            !roots || (self.page_parent(page).is_none() && self.page_status(page) != "trashed")
        })
    }

    fn pages(&self, asked: &Asked, list: &List, keep: impl Fn(usize) -> bool) -> ReplyResult {
        let title = asked.query.text("title").map(str::to_lowercase);
        let live = asked.query.text("subtype") == Some("live");
        let keep = |page: usize| {
            !live
                && has_status(asked, self.page_status(page), &["current", "archived"])
                && keep(page)
                && self.is_titled(ObjectKind::Page, page, title.as_deref())
        };
        let shape = Shape { body: asked.query.text("body-format"), version: true };
        self.page(asked, list, keep, |out, page| self.write_page(out, page, shape))
    }

    fn list_blogs(&self, asked: &Asked) -> ReplyResult {
        let list = self.by_ids(asked, ObjectKind::BlogPost);
        let spaces = asked.query.ids("space-id");
        self.blogs(asked, &list, |blog| in_spaces(spaces.as_deref(), self.blog_space(blog)))
    }

    fn list_blogs_of_space(&self, asked: &Asked) -> ReplyResult {
        let space = self.resolve(asked, ObjectKind::Space)?;
        let blogs = self.space_blogs[space].clone();
        let list = List::sorted(
            self,
            ObjectKind::BlogPost,
            blogs,
            SortOrder::of(&asked.query, SortBy::Id),
        );
        self.blogs(asked, &list, |_| true)
    }

    fn blogs(&self, asked: &Asked, list: &List, keep: impl Fn(usize) -> bool) -> ReplyResult {
        let title = asked.query.text("title").map(str::to_lowercase);
        let keep = |blog: usize| {
            has_status(asked, self.blog_status(blog), &["current"])
                && keep(blog)
                && self.is_titled(ObjectKind::BlogPost, blog, title.as_deref())
        };
        let shape = Shape { body: asked.query.text("body-format"), version: true };
        self.page(asked, list, keep, |out, blog| self.write_blog(out, blog, shape))
    }

    /// All objects of a kind, or those listed in `id`. Unknown IDs are silently ignored.
    fn by_ids(&self, asked: &Asked, kind: ObjectKind) -> List<'_> {
        let Some(ids) = asked.query.ids("id") else { return List::all(self, kind, &asked.query) };
        let existing = ids.into_iter().filter_map(from_id);
        let chosen = existing
            .filter(|(found, index)| *found == kind && *index < self.count(kind))
            .map(|(_, index)| index)
            .collect();
        List::sorted(self, kind, chosen, SortOrder::of(&asked.query, SortBy::Id))
    }

    fn is_titled(&self, kind: ObjectKind, index: usize, lower: Option<&str>) -> bool {
        lower.is_none_or(|lower| self.title(kind, index).to_lowercase() == lower)
    }

    fn list_attachments_of(&self, asked: &Asked, kind: ObjectKind) -> ReplyResult {
        let container = self.content_of(kind, self.resolve(asked, kind)?);
        let attachments = self.attachments.get(&container).cloned().unwrap_or_default();
        let list = List::sorted(
            self,
            ObjectKind::Attachment,
            attachments,
            SortOrder::of(&asked.query, SortBy::Id),
        );
        self.list_attachments(asked, &list)
    }

    fn list_attachments(&self, asked: &Asked, list: &List) -> ReplyResult {
        let query = &asked.query;
        let keep = |attachment: usize| {
            let dice = self.dice_of(ObjectKind::Attachment, attachment);
            has_status(asked, self.attachment_status(attachment), &["current", "archived"])
                && query
                    .text("mediaType")
                    .is_none_or(|wanted| wanted == crate::tenant::facts::media(dice).1)
                && query
                    .text("filename")
                    .is_none_or(|wanted| wanted == self.title(ObjectKind::Attachment, attachment))
        };
        self.page(asked, list, keep, |out, attachment| {
            self.write_attachment(out, attachment);
        })
    }

    fn list_tasks(&self, asked: &Asked) -> ReplyResult {
        let query = &asked.query;
        let named = |name| query.ids(name);
        let (ids, spaces) = (named("task-id"), named("space-id"));
        let (pages, blogs) = (named("page-id"), named("blogpost-id"));
        let of_people = ["created-by", "assigned-to", "completed-by"].map(|name| query.has(name));
        let keep = |task: usize| {
            let facts = self.task(task);
            let (kind, index) = self.content(facts.container);
            let (holder, other) = match kind {
                ObjectKind::Page => (pages.as_deref(), blogs.is_some()),
                _ => (blogs.as_deref(), pages.is_some()),
            };
            Query::allows_id(ids.as_deref(), id_of(ObjectKind::Task, task))
                && in_spaces(spaces.as_deref(), self.container_space(facts.container))
                && (holder.is_none() && !other
                    || holder.is_some() && Query::allows_id(holder, id_of(kind, index)))
                && query.text("status").is_none_or(|wanted| wanted == facts.status())
                && within(query, "created-at-from", "created-at-to", Some(facts.created))
                && within(query, "due-at-from", "due-at-to", facts.due)
                && within(query, "completed-at-from", "completed-at-to", facts.completed)
                && (of_people == [false; 3] || self.task_is_by(query, task))
        };
        let list = List::all(self, ObjectKind::Task, query);
        let format = query.text("body-format");
        self.page(asked, &list, keep, |out, task| self.write_task(out, task, format))
    }

    fn task_is_by(&self, query: &Query, task: usize) -> bool {
        let people = self.task_people(task);
        let names = ["created-by", "assigned-to", "completed-by"];
        names.iter().zip(people).all(|(name, person)| {
            !query.has(name) || person.is_some_and(|person| query.allows(name, &person))
        })
    }

    fn list_custom(&self, asked: &Asked) -> ReplyResult {
        let query = &asked.query;
        let wanted = query.text("type").unwrap_or_default();
        if !CUSTOM_CONTENT_TYPES.contains(&wanted) {
            let title = format!("Cannot find custom content type [{wanted}]");
            return Err(Box::new(Reply::not_found(title)));
        }
        let list = self.by_ids(asked, ObjectKind::Custom);
        let spaces = query.ids("space-id");
        let keep = |custom: usize| {
            Self::custom_type(custom) == wanted
                && in_spaces(spaces.as_deref(), self.custom_space(custom))
        };
        let format = query.text("body-format");
        self.page(asked, &list, keep, |out, custom| {
            self.write_custom(out, custom, format);
        })
    }

    fn list_comments(&self, asked: &Asked, kind: ObjectKind) -> ReplyResult {
        let list = List::all(self, kind, &asked.query);
        let replies = self.options.replies_in_global_lists;
        let keep = |comment: usize| replies || self.replies_to(kind, comment).is_none();
        self.comments_page(asked, &list, keep)
    }

    fn list_replies(&self, asked: &Asked, kind: ObjectKind) -> ReplyResult {
        let parent = self.resolve(asked, kind)?;
        let mut replies = self.comments_of(kind, self.comment_container(kind, parent));
        replies.retain(|comment| self.replies_to(kind, *comment) == Some(parent));
        let list = List::sorted(self, kind, replies, SortOrder::of(&asked.query, SortBy::Id));
        self.comments_page(asked, &list, |_| true)
    }

    fn list_roots(&self, asked: &Asked, owner: ObjectKind, kind: ObjectKind) -> ReplyResult {
        let container = self.content_of(owner, self.resolve(asked, owner)?);
        let mut roots = self.comments_of(kind, container);
        roots.retain(|comment| self.replies_to(kind, *comment).is_none());
        let list = List::sorted(self, kind, roots, SortOrder::of(&asked.query, SortBy::Id));
        self.comments_page(asked, &list, |comment| {
            asked.query.allows("status", "current")
                && (kind == ObjectKind::Footer
                    || asked.query.allows("resolution-status", self.resolution(comment)))
        })
    }

    fn comments_page(
        &self,
        asked: &Asked,
        list: &List,
        keep: impl Fn(usize) -> bool,
    ) -> ReplyResult {
        let format = asked.query.text("body-format");
        self.page(asked, list, keep, |out, comment| {
            self.write_comment(out, list.kind(), comment, format);
        })
    }

    fn list_labels(&self, asked: &Asked) -> ReplyResult {
        let ids = asked.query.ids("label-id");
        let list = List::all(self, ObjectKind::Label, &asked.query);
        let keep = |label: usize| {
            Query::allows_id(ids.as_deref(), id_of(ObjectKind::Label, label))
                && asked.query.allows("prefix", Self::label_prefix(label))
        };
        self.page(asked, &list, keep, |out, label| self.write_label(out, label))
    }

    fn list_labels_of(&self, asked: &Asked, labels: Vec<usize>) -> ReplyResult {
        let list =
            List::sorted(self, ObjectKind::Label, labels, SortOrder::of(&asked.query, SortBy::Id));
        let keep = |label: usize| asked.query.allows("prefix", Self::label_prefix(label));
        self.page(asked, &list, keep, |out, label| self.write_label(out, label))
    }

    fn list_labelled(&self, asked: &Asked, kind: ObjectKind) -> ReplyResult {
        let label = self.resolve(asked, ObjectKind::Label)?;
        let contents = self.labelled(label).iter().map(|content| self.content(*content));
        let chosen = contents.filter(|(found, _)| *found == kind).map(|(_, index)| index).collect();
        let list = List::sorted(self, kind, chosen, SortOrder::of(&asked.query, SortBy::Id));
        let spaces = asked.query.ids("space-id");
        let shape = Shape { body: asked.query.text("body-format"), version: true };
        let space = |index| match kind {
            ObjectKind::Page => self.page_space(index),
            _ => self.blog_space(index),
        };
        let keep =
            |index| kind == ObjectKind::Attachment || in_spaces(spaces.as_deref(), space(index));
        self.page(asked, &list, keep, |out, index| match kind {
            ObjectKind::Page => self.write_page(out, index, shape),
            ObjectKind::BlogPost => self.write_blog(out, index, shape),
            _ => self.write_attachment(out, index),
        })
    }

    /// Newest first by default.
    fn list_versions(&self, asked: &Asked, kind: ObjectKind) -> ReplyResult {
        let content = self.content_of(kind, self.resolve(asked, kind)?);
        let ascending = asked.query.text("sort") == Some("modified-date");
        let numbers = (1..=self.versions(content)).collect();
        let order = SortOrder::new(SortBy::Number, !ascending);
        let format = asked.query.text("body-format");
        let list = List::sorted(self, kind, numbers, order);
        let list = if format.is_some() { list.with_cap(VERSIONS_WITH_BODY) } else { list };
        self.page(
            asked,
            &list,
            |_| true,
            |out, number| {
                self.write_content_version(out, content, number, format);
            },
        )
    }

    fn list_properties(
        &self,
        asked: &Asked,
        kind: ObjectKind,
        properties: Vec<usize>,
    ) -> ReplyResult {
        let sort = asked.query.text("sort");
        let key = |property: usize| property_key(property % MAX_CHILDREN);
        let by = if sort.is_some() { SortBy::Key } else { SortBy::Number };
        let list = List::sorted(self, kind, properties, SortOrder::new(by, sort == Some("-key")));
        let wanted = asked.query.text("key");
        let keep = |property| wanted.is_none_or(|wanted| wanted == key(property));
        self.page(asked, &list, keep, |out, property| {
            self.write_property(out, kind, property);
        })
    }

    fn list_children(&self, asked: &Asked, old: bool) -> ReplyResult {
        let page = self.resolve(asked, ObjectKind::Page)?;
        let nodes = self.child_nodes(page);
        let order = SortOrder::of(&asked.query, SortBy::Position);
        let list = List::sorted(self, ObjectKind::Folder, nodes, order);
        let keep = |node| !old || self.node(node).0 == ObjectKind::Page;
        self.page(asked, &list, keep, |out, node| self.write_child(out, node, old))
    }
}

fn in_spaces(spaces: Option<&[u64]>, space: usize) -> bool {
    Query::allows_id(spaces, id_of(ObjectKind::Space, space))
}

fn has_status(asked: &Asked, status: &str, default: &[&str]) -> bool {
    if asked.query.has("status") {
        asked.query.allows("status", status)
    } else {
        default.contains(&status)
    }
}

/// Whether a time is between the bounds that two parameters set. Both are optional, inclusive, and in epoch
/// milliseconds.
fn within(query: &Query, from: &str, to: &str, time: Option<u64>) -> bool {
    let (from, to) = (query.number(from), query.number(to));
    let inside = |time: u64| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time <= to);
    (from.is_none() && to.is_none()) || time.is_some_and(inside)
}
