//! JSON of top-level objects: spaces, pages, blog posts, attachments, custom content.
//!
//! `open_…` writes an object up to its `_links` and `close_…` writes the rest, so that included
//! collections can be written in between.

use crate::api::out::{Out, civil};
use crate::api::query::Query;
use crate::options::CUSTOM_CONTENT_TYPES;
use crate::tenant::Tenant;
use crate::tenant::facts::media;
use crate::tenant::ids::{ObjectKind, id_of};
use crate::tenant::text::{below, mix, uuid, write_slug};

/// The requested shape of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    /// Representation of the body; `None` leaves it empty.
    pub(crate) body: Option<&'a str>,
    /// Whether the current version is shown.
    pub(crate) version: bool,
}

/// The requested shape of a space.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpaceShape<'a> {
    /// Representation of the description; `None` leaves it out.
    description: Option<&'a str>,
    /// Whether the icon is shown.
    icon: bool,
}

impl<'a> SpaceShape<'a> {
    pub(crate) fn of(query: &'a Query) -> Self {
        let icon = query.flag("include-icon", false);
        Self { description: query.text("description-format"), icon }
    }
}

/// The owner and the length of a body.
pub(crate) struct BodyFacts<'a> {
    pub(crate) dice: u64,
    pub(crate) bytes: usize,
    pub(crate) heading: &'a str,
}

/// The attributes of a version.
pub(crate) struct VersionFacts {
    /// Determines its author.
    pub(crate) dice: u64,
    pub(crate) message: &'static str,
    pub(crate) minor: bool,
}

impl Tenant {
    pub(crate) fn write_space(&self, out: &mut Out, space: usize, shape: SpaceShape) {
        self.open_space(out, space, shape);
        out.raw(",\"currentActiveAlias\":\"").raw(&self.space_key(space)).raw("\"");
        self.close_space(out, space, None);
    }

    pub(crate) fn open_space(&self, out: &mut Out, space: usize, shape: SpaceShape) {
        let dice = self.dice_of(ObjectKind::Space, space);
        let (key, owner) = (self.space_key(space), mix(dice));
        out.raw("{\"id\":").id(id_of(ObjectKind::Space, space)).raw(",\"key\":\"").raw(&key);
        out.raw("\",\"name\":").string(&self.title(ObjectKind::Space, space));
        out.raw(",\"type\":\"").raw(Self::space_type(space));
        out.raw("\",\"status\":\"").raw(self.space_status(space));
        out.raw("\",\"authorId\":");
        self.write_user(out, dice);
        out.raw(",\"spaceOwnerId\":");
        self.write_user(out, owner);
        out.raw(",\"createdAt\":")
            .time(self.created(ObjectKind::Space, space))
            .raw(",\"homepageId\":");
        if space < self.options.pages {
            out.id(id_of(ObjectKind::Page, space));
        } else {
            out.raw("null");
        }
        self.write_icon_and_description(out, space, shape);
    }

    fn write_icon_and_description(&self, out: &mut Out, space: usize, shape: SpaceShape) {
        out.raw(",\"icon\":");
        if shape.icon {
            let key = self.space_key(space);
            out.raw("{\"path\":\"/wiki/aa-avatar/").raw(&key);
            out.raw("\",\"apiDownloadLink\":\"/wiki/rest/api/space/").raw(&key).raw("/icon\"}");
        } else {
            out.raw("null");
        }
        let dice = self.dice("description", space);
        match shape.description {
            Some(format) if !dice.is_multiple_of(3) => {
                let (head, tail) = self.text.plain(dice, 80);
                out.raw(",\"description\":{\"").raw(format).raw("\":{\"value\":\"").raw(head);
                out.raw(tail).raw("\",\"representation\":\"").raw(format).raw("\"}}");
            }
            _ => _ = out.raw(",\"description\":null"),
        }
    }

    pub(crate) fn close_space(&self, out: &mut Out, space: usize, base: Option<&str>) {
        out.raw(",\"_links\":{\"webui\":\"/spaces/").raw(&self.space_key(space));
        close_links(out.raw("\""), base);
    }

    pub(crate) fn space_key(&self, space: usize) -> String {
        match space {
            0 => format!("~{:012x}", self.dice("person", 0) >> 16),
            1 => "ENG".to_owned(),
            _ => format!("S{space}"),
        }
    }

    pub(crate) fn space_type(space: usize) -> &'static str {
        match space % 16 {
            0 if space == 0 => "personal",
            5 => "knowledge_base",
            6 => "collaboration",
            _ => "global",
        }
    }

    pub(crate) fn write_page(&self, out: &mut Out, page: usize, shape: Shape) {
        self.open_page(out, page, shape);
        self.close_page(out, page, None);
    }

    pub(crate) fn open_page(&self, out: &mut Out, page: usize, shape: Shape) {
        let dice = self.dice_of(ObjectKind::Page, page);
        let (status, title) = (self.page_status(page), self.title(ObjectKind::Page, page));
        out.raw("{\"id\":").id(id_of(ObjectKind::Page, page)).raw(",\"status\":\"").raw(status);
        out.raw("\",\"title\":").string(&title).raw(",\"spaceId\":");
        out.id(id_of(ObjectKind::Space, self.page_space(page)));
        self.write_parent(out, page);
        out.raw(",\"authorId\":");
        self.write_user(out, dice);
        out.raw(",\"ownerId\":");
        self.write_user(out, mix(dice));
        out.raw(",\"lastOwnerId\":");
        if dice.is_multiple_of(5) {
            self.write_user(out, dice >> 7);
        } else {
            out.raw("null");
        }
        out.raw(",\"createdAt\":").time(self.created(ObjectKind::Page, page));
        if shape.version {
            self.write_version(out.raw(",\"version\":"), ObjectKind::Page, page);
        }
        self.write_body(out, shape.body, &self.content_body(ObjectKind::Page, page, &title));
    }

    fn write_parent(&self, out: &mut Out, page: usize) {
        match self.page_parent(page).map(|node| self.node(node)) {
            Some((kind, index)) => {
                let typed = if kind == ObjectKind::Page { "page" } else { "folder" };
                out.raw(",\"parentId\":").id(id_of(kind, index));
                out.raw(",\"parentType\":\"").raw(typed);
                out.raw("\",\"position\":").num(self.position(self.node_of(page)));
            }
            None => _ = out.raw(",\"parentId\":null,\"parentType\":null,\"position\":null"),
        }
    }

    pub(crate) fn close_page(&self, out: &mut Out, page: usize, base: Option<&str>) {
        let (id, key) = (id_of(ObjectKind::Page, page), self.space_key(self.page_space(page)));
        out.raw(",\"_links\":{\"webui\":\"/spaces/").raw(&key);
        if self.is_home(page) {
            out.raw("/overview");
        } else {
            out.raw("/pages/").num(id).raw("/");
            write_slug(out, &self.title(ObjectKind::Page, page));
        }
        out.raw("\",\"editui\":\"/pages/resumedraft.action?draftId=").num(id);
        out.raw("\",\"edituiv2\":\"/spaces/").raw(&key).raw("/pages/edit-v2/").num(id);
        out.raw("\",\"tinyui\":\"/x/").num(id);
        close_links(out.raw("\""), base);
    }

    pub(crate) fn write_blog(&self, out: &mut Out, blog: usize, shape: Shape) {
        self.open_blog(out, blog, shape);
        self.close_blog(out, blog, None);
    }

    pub(crate) fn open_blog(&self, out: &mut Out, blog: usize, shape: Shape) {
        let title = self.title(ObjectKind::BlogPost, blog);
        out.raw("{\"id\":").id(id_of(ObjectKind::BlogPost, blog)).raw(",\"status\":\"");
        out.raw(self.blog_status(blog)).raw("\",\"title\":").string(&title);
        out.raw(",\"spaceId\":").id(id_of(ObjectKind::Space, self.blog_space(blog)));
        out.raw(",\"authorId\":");
        self.write_user(out, self.dice_of(ObjectKind::BlogPost, blog));
        out.raw(",\"createdAt\":").time(self.created(ObjectKind::BlogPost, blog));
        if shape.version {
            self.write_version(out.raw(",\"version\":"), ObjectKind::BlogPost, blog);
        }
        self.write_body(out, shape.body, &self.content_body(ObjectKind::BlogPost, blog, &title));
    }

    pub(crate) fn close_blog(&self, out: &mut Out, blog: usize, base: Option<&str>) {
        let (id, key) = (id_of(ObjectKind::BlogPost, blog), self.space_key(self.blog_space(blog)));
        let (year, month, day) = civil(self.created(ObjectKind::BlogPost, blog) / 86_400_000);
        out.raw(",\"_links\":{\"webui\":\"/spaces/").raw(&key).raw("/blog/").num(year).raw("/");
        out.padded(month, 2).raw("/").padded(day, 2).raw("/").num(id).raw("/");
        write_slug(out, &self.title(ObjectKind::BlogPost, blog));
        out.raw("\",\"editui\":\"/pages/resumedraft.action?draftId=").num(id);
        out.raw("\",\"edituiv2\":\"/spaces/").raw(&key).raw("/blog/edit-v2/").num(id);
        out.raw("\",\"tinyui\":\"/x/").num(id);
        close_links(out.raw("\""), base);
    }

    pub(crate) fn write_attachment(&self, out: &mut Out, attachment: usize) {
        self.open_attachment(out, attachment, true);
        self.close_attachment(out, attachment, None);
    }

    pub(crate) fn open_attachment(&self, out: &mut Out, attachment: usize, version: bool) {
        let dice = self.dice_of(ObjectKind::Attachment, attachment);
        let (_, media_type, description) = media(dice);
        out.raw("{\"id\":\"att")
            .num(id_of(ObjectKind::Attachment, attachment))
            .raw("\",\"status\":\"");
        out.raw(self.attachment_status(attachment)).raw("\",\"title\":");
        out.string(&self.title(ObjectKind::Attachment, attachment)).raw(",\"createdAt\":");
        out.time(self.created(ObjectKind::Attachment, attachment)).raw(",");
        self.write_container(out, self.attachment_container(attachment));
        out.raw(",\"mediaType\":\"").raw(media_type).raw("\",\"mediaTypeDescription\":");
        match description {
            Some(text) => out.string(text),
            None => out.raw("null"),
        };
        let file = self.edited(ObjectKind::Attachment, attachment, dice);
        out.raw(",\"comment\":\"\",\"fileId\":\"").raw(&uuid(file)).raw("\",\"fileSize\":");
        out.num(100 + file % 9_000_000).raw(",\"webuiLink\":");
        self.write_attachment_links(out, attachment, ",\"downloadLink\":");
        if version {
            self.write_version(out.raw(",\"version\":"), ObjectKind::Attachment, attachment);
        }
    }

    pub(crate) fn close_attachment(&self, out: &mut Out, attachment: usize, base: Option<&str>) {
        out.raw(",\"_links\":{\"webui\":");
        self.write_attachment_links(out, attachment, ",\"download\":");
        close_links(out, base);
    }

    fn write_attachment_links(&self, out: &mut Out, attachment: usize, between: &str) {
        let (kind, index) = self.content(self.attachment_container(attachment));
        let container = id_of(kind, index);
        let title = self.title(ObjectKind::Attachment, attachment);
        out.raw("\"/pages/viewpageattachments.action?pageId=").num(container);
        out.raw("&preview=%2F")
            .num(container)
            .raw("%2F")
            .num(id_of(ObjectKind::Attachment, attachment));
        out.raw("%2F").raw(&title).raw("\"").raw(between).raw("\"/download/attachments/");
        out.num(container).raw("/").raw(&title).raw("?version=");
        out.int(self.latest(ObjectKind::Attachment, attachment)).raw("&modificationDate=");
        out.num(self.modified(ObjectKind::Attachment, attachment)).raw("&cacheVersion=1&api=v2\"");
    }

    /// `"pageId":"…"` or `"blogPostId":"…"`.
    pub(crate) fn write_container(&self, out: &mut Out, container: usize) {
        let (kind, index) = self.content(container);
        out.raw(if kind == ObjectKind::Page { "\"pageId\":" } else { "\"blogPostId\":" });
        out.id(id_of(kind, index));
    }

    pub(crate) fn write_custom(&self, out: &mut Out, custom: usize, body: Option<&str>) {
        let title = self.title(ObjectKind::Custom, custom);
        out.raw("{\"id\":").id(id_of(ObjectKind::Custom, custom)).raw(",\"type\":\"");
        out.raw(Self::custom_type(custom)).raw("\",\"status\":\"current\",\"title\":");
        out.string(&title)
            .raw(",\"spaceId\":")
            .id(id_of(ObjectKind::Space, self.custom_space(custom)));
        if let Some(container) = self.custom_container(custom) {
            self.write_container(out.raw(","), container);
        }
        out.raw(",\"authorId\":");
        self.write_user(out, self.dice_of(ObjectKind::Custom, custom));
        out.raw(",\"createdAt\":")
            .time(self.created(ObjectKind::Custom, custom))
            .raw(",\"version\":");
        self.write_version(out, ObjectKind::Custom, custom);
        let dice = self.edited(ObjectKind::Custom, custom, self.dice("custom body", custom));
        self.write_body(out, body, &BodyFacts { dice, bytes: 200, heading: &title });
        out.raw(",\"_links\":{\"webui\":\"/custom/")
            .num(id_of(ObjectKind::Custom, custom))
            .raw("\"}}");
    }

    pub(crate) fn custom_type(custom: usize) -> &'static str {
        CUSTOM_CONTENT_TYPES[custom % (CUSTOM_CONTENT_TYPES.len() - 1)]
    }

    /// Page or blog post of a custom content; `None` if its container is a space.
    pub(crate) fn custom_container(&self, custom: usize) -> Option<usize> {
        let dice = self.dice("custom", custom);
        let held = !dice.is_multiple_of(4) && self.containers() > 0;
        held.then(|| below(dice >> 8, self.containers()))
    }

    pub(crate) fn custom_space(&self, custom: usize) -> usize {
        match self.custom_container(custom) {
            Some(container) => self.container_space(container),
            None => below(self.dice("custom space", custom), self.options.spaces),
        }
    }

    /// Random bits that differ after every edit.
    pub(crate) fn edited(&self, kind: ObjectKind, index: usize, dice: u64) -> u64 {
        match self.overlay.edits(kind, index).len() {
            0 => dice,
            edits => mix(dice ^ edits as u64),
        }
    }

    pub(crate) fn content_body<'a>(
        &self,
        kind: ObjectKind,
        index: usize,
        heading: &'a str,
    ) -> BodyFacts<'a> {
        let dice = mix(self.dice_of(kind, index) ^ self.latest(kind, index) as u64);
        let mean = self.options.body_bytes;
        BodyFacts { dice, bytes: mean / 2 + below(dice >> 20, mean + 1), heading }
    }

    /// `,"body":{…}`; empty without a format.
    pub(crate) fn write_body(&self, out: &mut Out, format: Option<&str>, body: &BodyFacts) {
        let Some(format) = format else {
            out.raw(",\"body\":{}");
            return;
        };
        out.raw(",\"body\":{\"").raw(format).raw("\":{\"representation\":\"").raw(format);
        out.raw("\",\"value\":\"");
        let wanted = body.bytes.saturating_sub(body.heading.len() + 9);
        if format == "atlas_doc_format" {
            let (head, tail) = self.text.plain(body.dice, wanted);
            out.raw(r#"{\"type\":\"doc\",\"version\":1,\"content\":[{\"type\":\"paragraph\",\"#);
            out.raw(r#""content\":[{\"type\":\"text\",\"text\":\""#).raw(head).raw(tail);
            out.raw(r#"\"}]}]}"#);
        } else {
            let (head, tail) = self.text.storage(body.dice, wanted);
            let heading = body.heading.replace('&', "&amp;");
            out.raw("<h1>").escaped(&heading).raw("</h1>").raw(head).raw(tail);
        }
        out.raw("\"}}");
    }

    /// The current version of an object.
    pub(crate) fn write_version(&self, out: &mut Out, kind: ObjectKind, index: usize) {
        out.raw("{");
        self.write_version_fields(out, kind, index, self.latest(kind, index));
        out.raw("}");
    }

    /// Writes the common fields of versions.
    pub(crate) fn write_version_fields(
        &self,
        out: &mut Out,
        kind: ObjectKind,
        index: usize,
        number: usize,
    ) {
        let VersionFacts { dice, message, minor } = self.version_facts(kind, index, number);
        out.raw("\"number\":").int(number).raw(",\"message\":\"").raw(message);
        let minor = if minor { "true" } else { "false" };
        out.raw("\",\"minorEdit\":").raw(minor).raw(",\"authorId\":");
        self.write_user(out, dice);
        out.raw(",\"createdAt\":").time(self.version_time(kind, index, number));
        if matches!(kind, ObjectKind::Page | ObjectKind::BlogPost) {
            out.raw(",\"ncsStepVersion\":\"").num(dice % 90).raw("\"");
        }
    }

    /// The attributes of a version except its time.
    pub(crate) fn version_facts(
        &self,
        kind: ObjectKind,
        index: usize,
        number: usize,
    ) -> VersionFacts {
        let dice = mix(self.dice_of(kind, index) ^ number as u64);
        let message = if dice.is_multiple_of(7) { "tidied up" } else { "" };
        VersionFacts { dice, message, minor: dice.is_multiple_of(4) }
    }

    /// Writes a quoted account ID.
    pub(crate) fn write_user(&self, out: &mut Out, dice: u64) {
        let user = mix(self.options.seed ^ (dice % 40));
        out.raw("\"712020:").raw(&uuid(user)).raw("\"");
    }
}

/// Closes `_links` and the object.
fn close_links(out: &mut Out, base: Option<&str>) {
    if let Some(base) = base {
        out.raw(",\"base\":\"").raw(base).raw("/wiki\"");
    }
    out.raw("}}");
}
