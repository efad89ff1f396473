//! The v1 search for all kinds of objects. Results are wrapped, and the response contains their total
//! number. The simulator supports contents, comments and spaces.

use hyper::StatusCode;

use crate::api::answer::{Asked, Reply};
use crate::api::cql::{Condition, Cql};
use crate::api::out::Out;
use crate::api::query::QueryProblem;
use crate::api::search::{SearchPosition, cursor, resume};
use crate::api::single::printed_id;
use crate::tenant::Tenant;
use crate::tenant::ids::ObjectKind;

/// Maximum page size, applied silently.
const MOST: usize = 1000;

impl Tenant {
    pub(crate) fn search_all(&self, asked: &Asked) -> Result<Reply, Box<Reply>> {
        let query = &asked.query;
        let text = query.text("cql").unwrap_or_default();
        let refused = |title| {
            let problem = QueryProblem { title, detail: None };
            Box::new(Reply::bad_request(&[problem], asked.path))
        };
        let cql =
            Cql::parse(text).ok_or_else(|| refused(format!("Could not parse cql : {text}")))?;
        let number = |name, default| {
            usize::try_from(query.number(name).unwrap_or(default)).unwrap_or(usize::MAX)
        };
        let start = match query.text("cursor") {
            None => number("start", 0),
            Some(token) => {
                resume(token).ok_or_else(|| refused(QueryProblem::bad_cursor().title))?.0
            }
        };
        let limit = number("limit", 25).min(MOST);
        let contents = self.find_by(&cql, asked.now).into_iter();
        let mut found: Vec<(ObjectKind, usize)> =
            contents.map(|(_, one)| self.content(one)).collect();
        found.extend(self.find_comments(&cql, asked.now));
        let spaces = (0..self.count(ObjectKind::Space)).map(|space| (ObjectKind::Space, space));
        found.extend(spaces.filter(|(kind, space)| {
            let conditions = cql.conditions.iter();
            self.exists(*kind, *space)
                && self.space_status(*space) == "current"
                && conditions.clone().any(|one| matches!(one, Condition::Types(_)))
                && conditions.clone().all(|one| self.fits_space(*space, one))
        }));
        let rows = found.get(start..).unwrap_or_default();
        let shown = rows.get(..limit).unwrap_or(rows);
        let mut out = Out::with_capacity(1024);
        out.raw("{\"results\":[");
        for (at, (kind, index)) in shown.iter().enumerate() {
            self.write_wrapped(out.raw(if at > 0 { "," } else { "" }), *kind, *index);
        }
        out.raw("],\"start\":").int(start).raw(",\"limit\":").int(limit).raw(",\"size\":");
        out.int(shown.len()).raw(",\"totalSize\":").int(found.len()).raw(",\"cqlQuery\":");
        out.string(text).raw(",\"searchDuration\":7,\"_links\":{\"base\":\"");
        out.raw(&self.options.site).raw("/wiki\",\"context\":\"/wiki\"");
        if shown.len() < rows.len() && !shown.is_empty() {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            pairs.append_pair("cursor", &cursor(start + shown.len(), SearchPosition::START));
            pairs.append_pair("limit", &limit.to_string()).append_pair("cql", text);
            let next = format!("/rest/api/search?next=true&{}", pairs.finish());
            out.raw(",\"next\":").string(&next);
        }
        out.raw("}}");
        let points = 1 + shown.len() as u64;
        Ok(Reply::json(StatusCode::OK, out.into_bytes()).counted(shown.len(), points))
    }

    fn fits_space(&self, space: usize, condition: &Condition) -> bool {
        match condition {
            Condition::Types(kinds) => kinds.contains(&ObjectKind::Space),
            Condition::Spaces(keys) => keys.contains(&self.space_key(space).to_lowercase()),
            Condition::Ids(_) | Condition::Since(_) => false,
        }
    }

    fn find_comments(&self, cql: &Cql, now: u64) -> Vec<(ObjectKind, usize)> {
        let of_kind = |kind| (0..self.count(kind)).map(move |index| (kind, index));
        let all = [ObjectKind::Footer, ObjectKind::Inline].into_iter().flat_map(of_kind);
        let found = all.filter(|(kind, index)| {
            let container = self.comment_container(*kind, *index);
            self.exists(*kind, *index)
                && self.is_in_index(*kind, *index, container, now)
                && cql.conditions.iter().all(|one| self.fits(*kind, *index, container, one))
        });
        found.collect()
    }

    fn write_wrapped(&self, out: &mut Out, kind: ObjectKind, index: usize) {
        let (id, title) = (printed_id(kind, index), self.title(kind, index));
        if kind == ObjectKind::Space {
            out.raw("{\"space\":{\"id\":").raw(&id).raw(",\"key\":\"").raw(&self.space_key(index));
            out.raw("\",\"name\":").string(&title).raw("},\"title\":").string(&title);
            out.raw(",\"excerpt\":\"\",\"url\":\"/spaces/").raw(&self.space_key(index));
            out.raw("\",\"entityType\":\"space\"}");
            return;
        }
        let typed = match kind {
            ObjectKind::Page => "page",
            ObjectKind::BlogPost => "blogpost",
            ObjectKind::Attachment => "attachment",
            _ => "comment",
        };
        out.raw("{\"content\":{\"id\":\"").raw(&id).raw("\",\"type\":\"").raw(typed);
        out.raw("\",\"status\":\"current\",\"title\":").string(&title);
        out.raw("},\"title\":").string(&title).raw(",\"excerpt\":\"\",\"url\":\"/spaces/");
        out.raw(&id).raw("\",\"entityType\":\"content\",\"lastModified\":");
        out.time(self.modified(kind, index)).raw("}");
    }
}
