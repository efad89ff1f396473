//! Ground truth: the rows that each stream of the tenant must contain, computed without paging.

use serde_json::{Map, Value};

use crate::api::out::Out;
use crate::api::single::printed_id;
use crate::tenant::Tenant;
use crate::tenant::content::{Shape, SpaceShape};
use crate::tenant::ids::ObjectKind;

/// The streams with ground truth.
pub const STREAMS: [&str; 24] = [
    "spaces",
    "pages",
    "blog_posts",
    "attachments",
    "tasks",
    "groups",
    "custom_content",
    "page_footer_comments",
    "page_inline_comments",
    "page_labels",
    "page_versions",
    "page_content_properties",
    "child_pages",
    "blog_post_footer_comments",
    "blog_post_inline_comments",
    "blog_post_labels",
    "blog_post_versions",
    "blog_post_content_properties",
    "attachment_labels",
    "attachment_versions",
    "attachment_content_properties",
    "space_labels",
    "space_permissions",
    "space_properties",
];

/// Filters and representation of the rows.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Statuses of pages, blog posts and attachments, and of the parents of child streams; `None` for the
    /// API's defaults.
    pub statuses: Option<Vec<String>>,
    /// Representation of the bodies, such as `storage`; `None` for no bodies.
    pub body_format: Option<String>,
}

type Row = Map<String, Value>;

impl Tenant {
    pub(crate) fn truth(&self, stream: &str, wanted: &Wanted) -> Option<Vec<Row>> {
        let body = wanted.body_format.as_deref();
        let rows = match stream {
            "spaces" => self
                .all(ObjectKind::Space, |out, at| self.write_space(out, at, SpaceShape::default())),
            "pages" | "blog_posts" | "attachments" => self.content_rows(kind_of(stream)?, wanted),
            "tasks" => self.all(ObjectKind::Task, |out, at| self.write_task(out, at, body)),
            "groups" => self.all(ObjectKind::Group, |out, at| self.write_group(out, at)),
            "custom_content" => {
                self.all(ObjectKind::Custom, |out, at| self.write_custom(out, at, body))
            }
            "child_pages" => self.children_rows(ObjectKind::Page, wanted, |page| {
                rows(self.child_nodes(page).into_iter(), |out, node| {
                    self.write_child(out, node, false);
                })
            }),
            "space_labels" | "space_permissions" | "space_properties" => self.space_rows(stream),
            _ => self.parts_rows(stream, wanted)?,
        };
        Some(rows)
    }

    fn all(&self, kind: ObjectKind, write: impl FnMut(&mut Out, usize)) -> Vec<Row> {
        rows((0..self.count(kind)).filter(|index| self.exists(kind, *index)), write)
    }

    fn content_rows(&self, kind: ObjectKind, wanted: &Wanted) -> Vec<Row> {
        let shape = Shape { body: wanted.body_format.as_deref(), version: true };
        let shown = self.shown(kind, wanted);
        rows(shown.into_iter(), |out, index| match kind {
            ObjectKind::Page => self.write_page(out, index, shape),
            ObjectKind::BlogPost => self.write_blog(out, index, shape),
            _ => self.write_attachment(out, index),
        })
    }

    /// The objects of a kind that a listing with these statuses contains.
    fn shown(&self, kind: ObjectKind, wanted: &Wanted) -> Vec<usize> {
        let default: &[&str] =
            if kind == ObjectKind::BlogPost { &["current"] } else { &["current", "archived"] };
        let is_shown = |index: &usize| {
            let status = self.content_status(self.content_of(kind, *index));
            match &wanted.statuses {
                Some(statuses) => statuses.iter().any(|one| one == status),
                None => default.contains(&status),
            }
        };
        let existing = (0..self.count(kind)).filter(|index| self.exists(kind, *index));
        existing.filter(is_shown).collect()
    }

    /// Rows of all listed parents of a kind, each with the ID of its parent.
    fn children_rows(
        &self,
        kind: ObjectKind,
        wanted: &Wanted,
        of_parent: impl Fn(usize) -> Vec<Row>,
    ) -> Vec<Row> {
        let mut all = Vec::new();
        for index in self.shown(kind, wanted) {
            add_parent(&mut all, of_parent(index), kind, index);
        }
        all
    }

    fn parts_rows(&self, stream: &str, wanted: &Wanted) -> Option<Vec<Row>> {
        let (kind, part) = split_name(stream)?;
        let body = wanted.body_format.as_deref();
        let of_parent = |index: usize| {
            let content = self.content_of(kind, index);
            match part {
                "labels" => rows(self.content_labels(content).into_iter(), |out, label| {
                    self.write_label(out, label);
                }),
                "versions" => rows(1..=self.versions(content), |out, number| {
                    self.write_content_version(out, content, number, body);
                }),
                "content_properties" => {
                    rows(self.parts(ObjectKind::Property, content).into_iter(), |out, property| {
                        self.write_property(out, ObjectKind::Property, property);
                    })
                }
                _ => {
                    let comment = if part == "footer_comments" {
                        ObjectKind::Footer
                    } else {
                        ObjectKind::Inline
                    };
                    rows(self.comments_of(comment, content).into_iter(), |out, at| {
                        self.write_comment(out, comment, at, body);
                    })
                }
            }
        };
        Some(self.children_rows(kind, wanted, of_parent))
    }

    fn space_rows(&self, stream: &str) -> Vec<Row> {
        let mut all = Vec::new();
        for space in (0..self.options.spaces).filter(|at| self.exists(ObjectKind::Space, *at)) {
            let found = match stream {
                "space_labels" => rows(self.space_labels(space).into_iter(), |out, label| {
                    self.write_label(out, label);
                }),
                "space_permissions" => {
                    let all = self.parts(ObjectKind::Permission, space);
                    rows(all.into_iter(), |out, one| self.write_permission(out, one))
                }
                _ => {
                    let all = self.parts(ObjectKind::SpaceProperty, space);
                    rows(all.into_iter(), |out, one| {
                        self.write_property(out, ObjectKind::SpaceProperty, one);
                    })
                }
            };
            add_parent(&mut all, found, ObjectKind::Space, space);
        }
        all
    }
}

/// Splits a stream name into the kind of the parents and the part: `page_labels` is `labels` of pages.
fn split_name(stream: &str) -> Option<(ObjectKind, &str)> {
    let parents = [
        ("page_", ObjectKind::Page),
        ("blog_post_", ObjectKind::BlogPost),
        ("attachment_", ObjectKind::Attachment),
    ];
    let found = parents
        .into_iter()
        .find_map(|(prefix, kind)| stream.strip_prefix(prefix).map(|part| (kind, part)));
    let parts = ["labels", "versions", "content_properties"];
    let comments = ["footer_comments", "inline_comments"];
    found.filter(|(kind, part)| {
        parts.contains(part) || (*kind != ObjectKind::Attachment && comments.contains(part))
    })
}

fn kind_of(stream: &str) -> Option<ObjectKind> {
    match stream {
        "pages" => Some(ObjectKind::Page),
        "blog_posts" => Some(ObjectKind::BlogPost),
        "attachments" => Some(ObjectKind::Attachment),
        _ => None,
    }
}

fn add_parent(all: &mut Vec<Row>, found: Vec<Row>, kind: ObjectKind, index: usize) {
    let name = match kind {
        ObjectKind::Space => "space_id",
        ObjectKind::Page => "page_id",
        ObjectKind::BlogPost => "blog_post_id",
        _ => "attachment_id",
    };
    for mut row in found {
        row.insert(name.to_owned(), Value::String(printed_id(kind, index)));
        all.push(row);
    }
}

fn rows(indexes: impl Iterator<Item = usize>, mut write: impl FnMut(&mut Out, usize)) -> Vec<Row> {
    let parse = |index| {
        let mut out = Out::default();
        write(&mut out, index);
        serde_json::from_slice(&out.into_bytes()).expect("an item is a JSON object")
    };
    indexes.map(parse).collect()
}
