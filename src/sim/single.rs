//! Single objects, with the collections that `include-…` asks for: at most 50 items each.

use super::answer::{Asked, Reply, single};
use super::content::Shape;
use super::listing::List;
use super::out::Out;
use super::tenant::{Kind, SortBy, Tenant, id_of};

/// Items of an included collection.
const INCLUDED: usize = 50;

impl Tenant {
    pub(super) fn single_space(&self, asked: &Asked, space: usize) -> Reply {
        let query = &asked.query;
        let mut out = Out::with_capacity(2048);
        let form = (query.text("description-format"), query.flag("include-icon", false));
        self.open_space(&mut out, space, form);
        if query.flag("include-labels", false) {
            let mut labels = self.space_labels(space);
            labels.sort_unstable();
            include(
                self,
                &mut out,
                (asked.path, "labels"),
                (Kind::Label, &labels),
                |out, label| {
                    self.write_label(out, label);
                },
            );
        }
        if query.flag("include-properties", false) {
            let all = self.parts(Kind::SpaceProperty, space);
            include(
                self,
                &mut out,
                (asked.path, "properties"),
                (Kind::SpaceProperty, &all),
                |out, one| {
                    self.write_property(out, Kind::SpaceProperty, one);
                },
            );
        }
        if query.flag("include-permissions", false) {
            let all = self.parts(Kind::Permission, space);
            include(
                self,
                &mut out,
                (asked.path, "permissions"),
                (Kind::Permission, &all),
                |out, one| {
                    self.write_permission(out, one);
                },
            );
        }
        self.close_space(&mut out, space, Some(&self.options.site));
        single(out)
    }

    /// A page, blog post or attachment. Asked for by id, a trashed one is found too.
    pub(super) fn single_content(&self, asked: &Asked, kind: Kind, index: usize) -> Reply {
        let query = &asked.query;
        let version = query.flag("include-version", true);
        let shape = Shape { body: query.text("body-format"), version };
        let base = Some(self.options.site.as_str());
        let mut out = Out::with_capacity(4096);
        match kind {
            Kind::Page => self.open_page(&mut out, index, shape),
            Kind::BlogPost => self.open_blog(&mut out, index, shape),
            _ => self.open_attachment(&mut out, index, version),
        }
        self.include_parts(&mut out, asked, (kind, index));
        match kind {
            Kind::Page => self.close_page(&mut out, index, base),
            Kind::BlogPost => self.close_blog(&mut out, index, base),
            _ => self.close_attachment(&mut out, index, base),
        }
        single(out)
    }

    fn include_parts(&self, out: &mut Out, asked: &Asked, (kind, index): (Kind, usize)) {
        let (query, path) = (&asked.query, asked.path);
        let content = self.content_of(kind, index);
        if query.flag("include-labels", false) {
            let mut labels = self.content_labels(content);
            labels.sort_unstable();
            include(self, out, (path, "labels"), (Kind::Label, &labels), |out, label| {
                self.write_label(out, label);
            });
        }
        if query.flag("include-properties", false) {
            let all = self.parts(Kind::Property, content);
            include(self, out, (path, "properties"), (Kind::Property, &all), |out, property| {
                self.write_property(out, Kind::Property, property);
            });
        }
        if query.flag("include-versions", false) {
            let latest = self.versions(content);
            let numbers: Vec<usize> = (1..=latest).rev().collect();
            include(self, out, (path, "versions"), (kind, &numbers), |out, number| {
                self.write_version_fields(out.raw("{"), (kind, index), number);
                out.raw("}");
            });
        }
    }
}

/// Writes a collection under the name that its own list has.
fn include(
    tenant: &Tenant,
    out: &mut Out,
    (path, name): (&str, &str),
    (kind, items): (Kind, &[usize]),
    mut write: impl FnMut(&mut Out, usize),
) {
    out.raw(",\"").raw(name).raw("\":{\"results\":[");
    let shown = items.get(..INCLUDED).unwrap_or(items);
    for (at, item) in shown.iter().enumerate() {
        write(out.raw(if at > 0 { "," } else { "" }), *item);
    }
    out.raw("],\"meta\":{\"hasMore\":");
    match shown.last() {
        Some(last) if shown.len() < items.len() => {
            let by = if kind == Kind::Label { SortBy::Id } else { SortBy::Number };
            let cursor = List::sorted(tenant, kind, Vec::new(), (by, false)).cursor(*last);
            out.raw("true,\"cursor\":\"").raw(&cursor).raw("\"");
        }
        _ => _ = out.raw("false"),
    }
    let own = path.strip_prefix("/wiki").unwrap_or(path);
    out.raw("},\"_links\":{\"self\":\"").raw(own).raw("/").raw(name).raw("\"}}");
}

/// The id of an object as the API prints it.
pub(super) fn printed_id(kind: Kind, index: usize) -> String {
    let prefix = if kind == Kind::Attachment { "att" } else { "" };
    format!("{prefix}{}", id_of(kind, index))
}
