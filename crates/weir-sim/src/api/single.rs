//! Single objects, with the collections requested by `include-…`, at most 50 items each.

use hyper::StatusCode;

use crate::api::answer::{Asked, Reply};
use crate::api::listing::{List, SortOrder};
use crate::api::out::Out;
use crate::api::query::Query;
use crate::tenant::Tenant;
use crate::tenant::content::{Shape, SpaceShape};
use crate::tenant::ids::{ObjectKind, SortBy, id_of};
use crate::tenant::text::below;

/// Maximum number of items of an included collection.
const INCLUDED: usize = 50;

/// Permitted operations of the caller, for all objects.
const OPERATIONS: [&str; 4] = ["read", "update", "delete", "export"];

/// Maximum number of likes of a page or blog post.
const LIKES: usize = 4;

/// A single object that is being written, with the number and cost of embedded objects.
struct Carrier<'a> {
    tenant: &'a Tenant,
    query: &'a Query<'a>,
    path: &'a str,
    out: Out,
    rows: usize,
    points: u64,
}

/// A collection that the object includes.
struct Included<'a> {
    /// Name of the field.
    field: &'static str,
    /// Path of the corresponding list, below the object's.
    list: &'static str,
    kind: ObjectKind,
    items: &'a [usize],
    /// Cost of an item in points.
    cost: u64,
}

impl<'a> Carrier<'a> {
    fn new(tenant: &'a Tenant, asked: &'a Asked) -> Self {
        let out = Out::with_capacity(4096);
        Self { tenant, query: &asked.query, path: asked.path, out, rows: 0, points: 0 }
    }

    fn wants(&self, parameter: &str) -> bool {
        self.query.flag(parameter, false)
    }

    /// Writes a collection in the order of its own list.
    fn carry(&mut self, included: &Included, mut write: impl FnMut(&mut Out, usize)) {
        let Included { field, list, kind, items, cost } = *included;
        let out = &mut self.out;
        out.raw(",\"").raw(field).raw("\":{\"results\":[");
        let shown = items.get(..INCLUDED).unwrap_or(items);
        for (at, item) in shown.iter().enumerate() {
            write(out.raw(if at > 0 { "," } else { "" }), *item);
        }
        out.raw("],\"meta\":{\"hasMore\":");
        match shown.last() {
            Some(last) if shown.len() < items.len() => {
                let by = match kind {
                    ObjectKind::Label => SortBy::Id,
                    ObjectKind::Folder => SortBy::Position,
                    _ => SortBy::Number,
                };
                let list = List::sorted(self.tenant, kind, Vec::new(), SortOrder::ascending(by));
                out.raw("true,\"cursor\":\"").raw(&list.cursor(*last)).raw("\"");
            }
            _ => _ = out.raw("false"),
        }
        let own = self.path.strip_prefix("/wiki").unwrap_or(self.path);
        out.raw("},\"_links\":{\"self\":\"").raw(own).raw("/").raw(list).raw("\"}}");
        self.rows += shown.len();
        self.points += shown.len() as u64 * cost;
    }

    fn labels(&mut self, mut labels: Vec<usize>) {
        let tenant = self.tenant;
        labels.sort_unstable();
        let included = Included {
            field: "labels",
            list: "labels",
            kind: ObjectKind::Label,
            items: &labels,
            cost: 1,
        };
        self.carry(&included, |out, label| {
            tenant.write_label(out, label);
        });
    }

    fn properties(&mut self, kind: ObjectKind, owner: usize) {
        let tenant = self.tenant;
        let all = tenant.parts(kind, owner);
        let included =
            Included { field: "properties", list: "properties", kind, items: &all, cost: 1 };
        self.carry(&included, |out, property| {
            tenant.write_property(out, kind, property);
        });
    }

    fn permissions(&mut self, space: usize) {
        let tenant = self.tenant;
        let all = tenant.parts(ObjectKind::Permission, space);
        let included = Included {
            field: "permissions",
            list: "permissions",
            kind: ObjectKind::Permission,
            items: &all,
            cost: 2,
        };
        self.carry(&included, |out, one| {
            tenant.write_permission(out, one);
        });
    }

    /// Operations count as access: 2 points each.
    fn operations(&mut self, kind: ObjectKind) {
        let target = match kind {
            ObjectKind::Space => "space",
            ObjectKind::Page => "page",
            ObjectKind::BlogPost => "blogpost",
            _ => "attachment",
        };
        let all: Vec<usize> = (0..OPERATIONS.len()).collect();
        let included =
            Included { field: "operations", list: "operations", kind, items: &all, cost: 2 };
        self.carry(&included, |out, at| {
            out.raw("{\"operation\":\"").raw(OPERATIONS[at]).raw("\",\"targetType\":\"");
            out.raw(target).raw("\"}");
        });
    }

    /// Likes count as users: 2 points each.
    fn likes(&mut self, kind: ObjectKind, index: usize) {
        let tenant = self.tenant;
        let dice = tenant.dice("likes", tenant.content_of(kind, index));
        let all: Vec<usize> = (0..below(dice, LIKES)).collect();
        let included = Included { field: "likes", list: "likes/users", kind, items: &all, cost: 2 };
        self.carry(&included, |out, at| {
            tenant.write_user(out.raw("{\"accountId\":"), (dice >> 8) + at as u64);
            out.raw("}");
        });
    }

    fn versions(&mut self, kind: ObjectKind, index: usize) {
        let tenant = self.tenant;
        let numbers: Vec<usize> = (1..=tenant.latest(kind, index)).rev().collect();
        let included =
            Included { field: "versions", list: "versions", kind, items: &numbers, cost: 1 };
        self.carry(&included, |out, number| {
            tenant.write_version_fields(out.raw("{"), kind, index, number);
            out.raw("}");
        });
    }

    /// The documentation does not name the field. Clients read `directChildren`.
    fn children(&mut self, page: usize) {
        let tenant = self.tenant;
        let mut nodes = tenant.child_nodes(page);
        nodes.sort_by_cached_key(|node| {
            (tenant.sort_key(ObjectKind::Folder, SortBy::Position, *node), *node)
        });
        let included = Included {
            field: "directChildren",
            list: "direct-children",
            kind: ObjectKind::Folder,
            items: &nodes,
            cost: 1,
        };
        self.carry(&included, |out, node| {
            tenant.write_child(out, node, false);
        });
    }

    /// The response: 1 point for the request, 1 for the object, and the points of embedded objects.
    fn reply(self) -> Reply {
        let carried = self.tenant.cost_of_embedded(self.points);
        Reply::json(StatusCode::OK, self.out.into_bytes()).counted(1 + self.rows, 2 + carried)
    }
}

impl Tenant {
    pub(crate) fn single_space(&self, asked: &Asked, space: usize) -> Reply {
        let mut carrier = Carrier::new(self, asked);
        let shape = SpaceShape::of(&asked.query);
        self.open_space(&mut carrier.out, space, shape);
        if carrier.wants("include-labels") {
            carrier.labels(self.space_labels(space));
        }
        if carrier.wants("include-properties") {
            carrier.properties(ObjectKind::SpaceProperty, space);
        }
        if carrier.wants("include-permissions") {
            carrier.permissions(space);
        }
        if carrier.wants("include-operations") {
            carrier.operations(ObjectKind::Space);
        }
        self.close_space(&mut carrier.out, space, Some(&self.options.site));
        carrier.reply()
    }

    /// A page, blog post or attachment. By ID, trashed objects are found, too.
    pub(crate) fn single_content(&self, asked: &Asked, kind: ObjectKind, index: usize) -> Reply {
        let query = &asked.query;
        let version = query.flag("include-version", true);
        let shape = Shape { body: query.text("body-format"), version };
        let base = Some(self.options.site.as_str());
        let mut carrier = Carrier::new(self, asked);
        let out = &mut carrier.out;
        match kind {
            ObjectKind::Page => self.open_page(out, index, shape),
            ObjectKind::BlogPost => self.open_blog(out, index, shape),
            _ => self.open_attachment(out, index, version),
        }
        self.include_parts(&mut carrier, kind, index);
        let out = &mut carrier.out;
        match kind {
            ObjectKind::Page => self.close_page(out, index, base),
            ObjectKind::BlogPost => self.close_blog(out, index, base),
            _ => self.close_attachment(out, index, base),
        }
        carrier.reply()
    }

    /// Parameters that the route does not declare are not in the query.
    fn include_parts(&self, carrier: &mut Carrier, kind: ObjectKind, index: usize) {
        let content = self.content_of(kind, index);
        if carrier.wants("include-labels") {
            carrier.labels(self.content_labels(content));
        }
        if carrier.wants("include-properties") {
            carrier.properties(ObjectKind::Property, content);
        }
        if carrier.wants("include-operations") {
            carrier.operations(kind);
        }
        if carrier.wants("include-likes") {
            carrier.likes(kind, index);
        }
        if carrier.wants("include-versions") {
            carrier.versions(kind, index);
        }
        if carrier.wants("include-direct-children") {
            carrier.children(index);
        }
    }

    /// Points of embedded objects, by the options.
    pub(crate) fn cost_of_embedded(&self, points: u64) -> u64 {
        if self.options.embedded_are_free { 0 } else { points }
    }
}

/// The ID of an object, as printed by the API.
pub(crate) fn printed_id(kind: ObjectKind, index: usize) -> String {
    let prefix = if kind == ObjectKind::Attachment { "att" } else { "" };
    format!("{prefix}{}", id_of(kind, index))
}
