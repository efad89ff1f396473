//! The CQL search of v1 for contents.
//!
//! It finds current pages, blog posts and attachments in current containers. Archived and trashed objects,
//! and archived spaces, are not in the index.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use hyper::StatusCode;
use serde::Deserialize;

use crate::api::answer::{Asked, Reply};
use crate::api::cql::{Condition, Cql, Order};
use crate::api::listing::chance;
use crate::api::out::Out;
use crate::api::query::{Query, QueryProblem};
use crate::api::single::printed_id;
use crate::tenant::Tenant;
use crate::tenant::ids::{ObjectKind, from_id, id_of};
use crate::tenant::text::{below, mix};

/// Maximum number of labels per content.
const LABELS: usize = 200;

/// The position of a content in the order: its sort value, then its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct SearchPosition(u64, u64);

impl SearchPosition {
    /// Precedes all contents.
    pub(crate) const START: Self = Self(0, 0);
}

/// The position of a content in the order, and the content.
type Found = (SearchPosition, usize);

/// The requested parts of each content.
struct Expand<'a> {
    names: Vec<&'a str>,
    /// Representation of the body.
    body: Option<&'a str>,
    /// Maximum page size, applied silently.
    cap: usize,
}

impl<'a> Expand<'a> {
    fn of(query: &'a Query) -> Self {
        let names: Vec<&str> = query.list("expand").collect();
        let body = names.iter().find_map(|name| name.strip_prefix("body."));
        let cap = match (names.is_empty(), body) {
            (true, _) => 1000,
            (false, None) => 200,
            (false, Some(_)) => 50,
        };
        Self { names, body, cap }
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

impl Tenant {
    pub(crate) fn search(&self, asked: &Asked) -> Result<Reply, Box<Reply>> {
        let query = &asked.query;
        let text = query.text("cql").unwrap_or_default();
        let refused = |title| {
            let problem = QueryProblem { title, detail: None };
            Box::new(Reply::bad_request(&[problem], asked.path))
        };
        // This route finds only contents.
        let cql = Cql::parse(text).filter(|cql| !cql.asks_for_others());
        let cql = cql.ok_or_else(|| refused(format!("Could not parse cql : {text}")))?;
        let mut found = self.find_by(&cql, asked.now);
        let (start, after) = match query.text("cursor") {
            None => (0, None),
            Some(token) => {
                let read =
                    resume(token).ok_or_else(|| refused(QueryProblem::bad_cursor().title))?;
                (read.0, Some(read.1))
            }
        };
        if let Some(after) = after {
            let newest = cql.order == Order::Newest;
            found.retain(|(key, _)| if newest { *key < after } else { *key > after });
        }
        Ok(self.write_search(asked, start, &found))
    }

    fn write_search(&self, asked: &Asked, start: usize, found: &[Found]) -> Reply {
        let query = &asked.query;
        let expand = Expand::of(query);
        let wanted = usize::try_from(query.number("limit").unwrap_or(25)).unwrap_or(usize::MAX);
        let limit = wanted.min(expand.cap);
        let shown = found.get(..self.rows_of_search(start, limit)).unwrap_or(found);
        let mut out = Out::with_capacity(4096);
        let mut labels = 0;
        out.raw("{\"results\":[");
        for (at, (_, content)) in shown.iter().enumerate() {
            labels += self.write_found(out.raw(if at > 0 { "," } else { "" }), *content, &expand);
        }
        out.raw("],\"start\":").int(start).raw(",\"limit\":").int(limit).raw(",\"size\":");
        out.int(shown.len()).raw(",\"_links\":{\"base\":\"").raw(&self.options.site);
        out.raw("/wiki\",\"context\":\"/wiki\",");
        let end = start + shown.len();
        let cursor = match (query.text("cursor"), shown.last()) {
            (Some(token), _) if asked.repeat => Some(token.to_owned()),
            (_, Some((key, _))) if shown.len() < found.len() => Some(cursor(end, *key)),
            _ => None,
        };
        if let Some(cursor) = cursor {
            out.raw("\"next\":").string(&next_link(query, &cursor, limit, end)).raw(",");
        }
        let own = format!("{}/wiki/rest/api/content/search?{}", self.options.site, query.raw);
        out.raw("\"self\":").string(&own).raw("}}");
        let points = 1 + shown.len() as u64 + self.cost_of_embedded(labels);
        let rows = shown.len() + usize::try_from(labels).unwrap_or(usize::MAX);
        Reply::json(StatusCode::OK, out.into_bytes()).counted(rows, points)
    }

    /// Pages in the middle may be short, too.
    fn rows_of_search(&self, start: usize, limit: usize) -> usize {
        let dice = mix(self.dice("search", start));
        let short = limit > 0 && chance(dice) < self.options.short_pages;
        if short { 1 + below(mix(dice), limit) } else { limit }
    }

    /// The matching contents in the requested order. `now` is in epoch milliseconds.
    pub(crate) fn find_by(&self, cql: &Cql, now: u64) -> Vec<Found> {
        let ids = cql.conditions.iter().find_map(|condition| match condition {
            Condition::Ids(ids) => Some(ids),
            _ => None,
        });
        let matches = |content: &usize| {
            self.is_indexed(*content, now)
                && cql.conditions.iter().all(|condition| self.meets(*content, condition))
        };
        let mut found: Vec<Found> = match ids {
            None => self.all_contents().filter(matches).map(|one| self.placed(one, cql)).collect(),
            Some(ids) => {
                let known = ids.iter().filter_map(|id| self.known_content(*id));
                known.filter(matches).map(|one| self.placed(one, cql)).collect()
            }
        };
        found.sort_unstable();
        found.dedup();
        if cql.order == Order::Newest {
            found.reverse();
        }
        found
    }

    fn known_content(&self, id: u64) -> Option<usize> {
        let (kind, index) = from_id(id)?;
        let is_content =
            matches!(kind, ObjectKind::Page | ObjectKind::BlogPost | ObjectKind::Attachment);
        (is_content && index < self.count(kind)).then(|| self.content_of(kind, index))
    }

    fn placed(&self, content: usize, cql: &Cql) -> Found {
        let (kind, index) = self.content(content);
        let id = id_of(kind, index);
        let first = if cql.order == Order::Id { id } else { self.modified(kind, index) };
        (SearchPosition(first, id), content)
    }

    /// Whether a content is in the index. Recently modified contents are not.
    fn is_indexed(&self, content: usize, now: u64) -> bool {
        let (kind, index) = self.content(content);
        self.content_exists(content)
            && self.content_status(content) == "current"
            && self.is_in_index(kind, index, self.holder(content), now)
    }

    /// Whether an object in a container is in the index: both are current and the index is up to date.
    pub(crate) fn is_in_index(
        &self,
        kind: ObjectKind,
        index: usize,
        container: usize,
        now: u64,
    ) -> bool {
        let space = self.container_space(container);
        let lag = u64::try_from(self.options.index_lag.as_millis()).unwrap_or(u64::MAX);
        self.container_status(container) == "current"
            && self.space_status(space) == "current"
            && (lag == 0 || self.modified(kind, index).saturating_add(lag) <= now)
    }

    /// The page or blog post of a content, or the content itself.
    fn holder(&self, content: usize) -> usize {
        match self.content(content) {
            (ObjectKind::Attachment, index) => self.attachment_container(index),
            _ => content,
        }
    }

    fn meets(&self, content: usize, condition: &Condition) -> bool {
        let (kind, index) = self.content(content);
        self.fits(kind, index, self.holder(content), condition)
    }

    /// Whether an object on a page or blog post meets a condition.
    pub(crate) fn fits(
        &self,
        kind: ObjectKind,
        index: usize,
        container: usize,
        condition: &Condition,
    ) -> bool {
        match condition {
            Condition::Ids(ids) => ids.contains(&id_of(kind, index)),
            Condition::Types(kinds) => kinds.contains(&kind),
            Condition::Spaces(keys) => {
                let key = self.space_key(self.container_space(container));
                keys.contains(&key.to_lowercase())
            }
            Condition::Since(time) => self.modified(kind, index) >= *time,
        }
    }

    /// Writes a content in the format of v1. Returns the number of its labels.
    fn write_found(&self, out: &mut Out, content: usize, expand: &Expand) -> u64 {
        let (kind, index) = self.content(content);
        let (id, title) = (printed_id(kind, index), self.title(kind, index));
        let typed = match kind {
            ObjectKind::Page => "page",
            ObjectKind::BlogPost => "blogpost",
            _ => "attachment",
        };
        out.raw("{\"id\":\"").raw(&id).raw("\",\"type\":\"").raw(typed);
        out.raw("\",\"status\":\"current\",\"title\":").string(&title);
        if expand.has("space") {
            self.write_old_space(out, self.container_space(self.holder(content)));
        }
        if expand.has("history") {
            out.raw(",\"history\":{\"latest\":true,\"createdBy\":");
            self.write_old_user(out, self.dice_of(kind, index));
            out.raw(",\"createdDate\":").time(self.created(kind, index)).raw("}");
        }
        if expand.has("version") {
            self.write_old_version(out, kind, index);
        }
        if expand.body.is_some() && kind != ObjectKind::Attachment {
            self.write_body(out, expand.body, &self.content_body(kind, index, &title));
        }
        let mut shown = 0;
        if expand.has("metadata.labels") {
            shown = self.write_old_labels(out, &id, content);
        }
        out.raw(",\"_links\":{\"webui\":\"/spaces/").raw(&id).raw("\",\"self\":\"");
        out.raw(&self.options.site).raw("/wiki/rest/api/content/").raw(&id).raw("\"}}");
        shown as u64
    }

    fn write_old_space(&self, out: &mut Out, space: usize) {
        let key = self.space_key(space);
        out.raw(",\"space\":{\"id\":")
            .num(id_of(ObjectKind::Space, space))
            .raw(",\"key\":\"")
            .raw(&key);
        out.raw("\",\"name\":").string(&self.title(ObjectKind::Space, space)).raw(",\"type\":\"");
        out.raw(Self::space_type(space)).raw("\",\"status\":\"");
        out.raw(self.space_status(space)).raw("\"}");
    }

    fn write_old_user(&self, out: &mut Out, dice: u64) {
        out.raw("{\"type\":\"known\",\"accountId\":");
        self.write_user(out, dice);
        out.raw(",\"accountType\":\"atlassian\",\"email\":\"\",\"publicName\":\"A. User\",");
        out.raw("\"displayName\":\"A. User\"}");
    }

    /// The current version, in the format of v1.
    fn write_old_version(&self, out: &mut Out, kind: ObjectKind, index: usize) {
        let number = self.latest(kind, index);
        let facts = self.version_facts(kind, index, number);
        self.write_old_user(out.raw(",\"version\":{\"by\":"), facts.dice);
        out.raw(",\"when\":").time(self.version_time(kind, index, number));
        out.raw(",\"number\":").int(number).raw(",\"message\":").string(facts.message);
        out.raw(",\"minorEdit\":").raw(if facts.minor { "true" } else { "false" }).raw("}");
    }

    fn write_old_labels(&self, out: &mut Out, id: &str, content: usize) -> usize {
        let mut labels = self.content_labels(content);
        labels.sort_unstable();
        let shown = labels.get(..LABELS).unwrap_or(&labels);
        out.raw(",\"metadata\":{\"labels\":{\"results\":[");
        for (at, label) in shown.iter().enumerate() {
            let name = self.title(ObjectKind::Label, *label);
            out.raw(if at > 0 { "," } else { "" }).raw("{\"prefix\":\"");
            out.raw(Self::label_prefix(*label)).raw("\",\"name\":").string(&name);
            out.raw(",\"id\":")
                .id(id_of(ObjectKind::Label, *label))
                .raw(",\"label\":")
                .string(&name);
            out.raw("}");
        }
        out.raw("],\"start\":0,\"limit\":").int(LABELS).raw(",\"size\":").int(shown.len());
        out.raw(",\"_links\":{");
        if shown.len() < labels.len() {
            out.raw("\"next\":\"/rest/api/content/").raw(id).raw("/label?next=true&limit=");
            out.int(LABELS).raw("&start=").int(LABELS).raw("\",");
        }
        out.raw("\"self\":\"").raw(&self.options.site).raw("/wiki/rest/api/content/").raw(id);
        out.raw("/label\"}}}");
        shown.len()
    }
}

/// Token that continues after the position `after`, with `offset` contents already returned.
pub(crate) fn cursor(offset: usize, after: SearchPosition) -> String {
    let after = format!("[{},{}]", after.0, after.1);
    format!("_f_{}_sa_{}", STANDARD.encode(offset.to_string()), STANDARD.encode(after))
}

pub(crate) fn resume(token: &str) -> Option<(usize, SearchPosition)> {
    let (offset, after) = token.strip_prefix("_f_")?.split_once("_sa_")?;
    let offset = String::from_utf8(STANDARD.decode(offset).ok()?).ok()?.parse().ok()?;
    let after = STANDARD.decode(after.replace(' ', "+")).ok()?;
    Some((offset, serde_json::from_slice(&after).ok()?))
}

/// The link to the next page, relative to the site's context path.
fn next_link(query: &Query, cursor: &str, limit: usize, start: usize) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("next", "true").append_pair("cursor", cursor);
    for expand in query.list("expand") {
        pairs.append_pair("expand", expand);
    }
    pairs.append_pair("limit", &limit.to_string()).append_pair("start", &start.to_string());
    pairs.append_pair("cql", query.text("cql").unwrap_or_default());
    format!("/rest/api/content/search?{}", pairs.finish())
}
