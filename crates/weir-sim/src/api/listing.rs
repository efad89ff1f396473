//! Pages of a listing: keyset cursors, limits, and the envelope with its links.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::api::out::Out;
use crate::api::query::{Query, QueryProblem};
use crate::tenant::Tenant;
use crate::tenant::ids::{ObjectKind, SortBy, SortKey, from_id, id_of};
use crate::tenant::text::{below, mix};

/// Objects of one kind in the requested order.
pub(crate) struct List<'a> {
    tenant: &'a Tenant,
    items: Items,
    kind: ObjectKind,
    order: SortOrder,
    /// Maximum number of rows of a page, even if the parameter `limit` is higher.
    cap: usize,
    /// Cost of a row in points.
    cost: u64,
}

/// A sort key and a direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SortOrder {
    by: SortBy,
    descending: bool,
}

impl SortOrder {
    pub(crate) fn new(by: SortBy, descending: bool) -> Self {
        Self { by, descending }
    }

    pub(crate) fn ascending(by: SortBy) -> Self {
        Self::new(by, false)
    }

    /// The order that the parameter `sort` requests, or ascending by `default`.
    pub(crate) fn of(query: &Query, default: SortBy) -> Self {
        let Some(sort) = query.text("sort") else { return Self::ascending(default) };
        let by = match sort.trim_start_matches('-') {
            "created-date" => SortBy::Created,
            "modified-date" => SortBy::Modified,
            "title" | "name" => SortBy::Title,
            "child-position" => SortBy::Position,
            "key" => SortBy::Key,
            _ => SortBy::Id,
        };
        Self::new(by, sort.starts_with('-'))
    }
}

enum Items {
    /// All objects of the kind, by index.
    All(usize),
    /// All objects of the kind, in another order.
    Ranked(Arc<Vec<usize>>),
    /// These objects, in this order.
    Chosen(Vec<usize>),
}

impl<'a> List<'a> {
    /// All objects of a kind, sorted by the query, by default by ID.
    pub(crate) fn all(tenant: &'a Tenant, kind: ObjectKind, query: &Query) -> Self {
        let order = SortOrder::of(query, SortBy::Id);
        let items = if in_index_order(kind, order.by) {
            Items::All(tenant.count(kind))
        } else {
            Items::Ranked(tenant.ranked(kind, order.by))
        };
        Self::new(tenant, kind, items, order)
    }

    /// These objects of a kind in this order.
    pub(crate) fn sorted(
        tenant: &'a Tenant,
        kind: ObjectKind,
        mut chosen: Vec<usize>,
        order: SortOrder,
    ) -> Self {
        if in_index_order(kind, order.by) {
            chosen.sort_unstable();
        } else {
            chosen.sort_by_cached_key(|index| (tenant.sort_key(kind, order.by, *index), *index));
        }
        Self::new(tenant, kind, Items::Chosen(chosen), order)
    }

    /// A list whose pages have no cap and whose rows cost 1 point each.
    fn new(tenant: &'a Tenant, kind: ObjectKind, items: Items, order: SortOrder) -> Self {
        Self { tenant, items, kind, order, cap: usize::MAX, cost: 1 }
    }

    pub(crate) fn with_cap(mut self, cap: usize) -> Self {
        self.cap = cap;
        self
    }

    pub(crate) fn with_cost(mut self, cost: u64) -> Self {
        self.cost = cost;
        self
    }

    pub(crate) fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Cost of a row in points.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    fn len(&self) -> usize {
        match &self.items {
            Items::All(count) => *count,
            Items::Ranked(chosen) => chosen.len(),
            Items::Chosen(chosen) => chosen.len(),
        }
    }

    fn at(&self, place: usize) -> usize {
        let place = if self.order.descending { self.len() - 1 - place } else { place };
        match &self.items {
            Items::All(_) => place,
            Items::Ranked(chosen) => chosen[place],
            Items::Chosen(chosen) => chosen[place],
        }
    }

    /// Whether the object still exists. Parts with numbers of the list itself always do.
    fn holds(&self, index: usize) -> bool {
        matches!(self.order.by, SortBy::Number | SortBy::Key) && self.kind != ObjectKind::Space
            || self.tenant.exists(self.kind, index)
    }

    fn key(&self, index: usize) -> SortKey {
        if in_index_order(self.kind, self.order.by) {
            return SortKey::Number(id_of(self.kind, index));
        }
        self.tenant.sort_key(self.kind, self.order.by, index)
    }

    /// Token that continues after an object, wherever the object is at that time.
    pub(crate) fn cursor(&self, index: usize) -> String {
        let position = CursorPosition {
            id: id_of(self.kind, index).to_string(),
            order: order_name(self.order.by).into(),
            value: self.key(index),
        };
        STANDARD.encode(serde_json::to_vec(&position).unwrap_or_default())
    }

    /// The position after that of a token, whether or not its object still exists.
    fn resume(&self, token: &str) -> Option<usize> {
        let json = STANDARD.decode(token.replace(' ', "+")).ok()?;
        let position: CursorPosition = serde_json::from_slice(&json).ok()?;
        let (kind, index) = from_id(position.id.parse().ok()?)?;
        if kind != self.kind || position.order != order_name(self.order.by) {
            return None;
        }
        let seen = (position.value, index);
        let passed = |other: usize| match (self.key(other), other).cmp(&seen) {
            Ordering::Less => !self.order.descending,
            Ordering::Equal => true,
            Ordering::Greater => self.order.descending,
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if passed(self.at(middle)) { low = middle + 1 } else { high = middle }
        }
        Some(low)
    }
}

#[derive(Serialize, Deserialize)]
struct CursorPosition<'a> {
    id: String,
    #[serde(rename = "contentOrder")]
    order: Cow<'a, str>,
    #[serde(rename = "contentOrderValue")]
    value: SortKey,
}

/// Whether this order equals the index order.
fn in_index_order(kind: ObjectKind, by: SortBy) -> bool {
    matches!(by, SortBy::Number | SortBy::Id | SortBy::Created) && kind != ObjectKind::Folder
}

fn order_name(by: SortBy) -> &'static str {
    match by {
        SortBy::Id | SortBy::Number => "id",
        SortBy::Created => "created-date",
        SortBy::Modified => "modified-date",
        SortBy::Title => "title",
        SortBy::Position => "child-position",
        SortBy::Key => "key",
    }
}

/// The requested page of a list.
pub(crate) struct PageRequest<'a> {
    pub(crate) list: &'a List<'a>,
    /// Path without the gateway's prefix, for the links.
    pub(crate) path: &'a str,
    /// Query of the request.
    pub(crate) query: &'a Query<'a>,
    /// Number of rows without a `limit` parameter.
    pub(crate) default: u64,
    /// Whether `next` repeats the cursor of this page.
    pub(crate) repeat: bool,
}

/// A written page.
pub(crate) struct Listed {
    pub(crate) rows: usize,
    pub(crate) next: Option<String>,
}

impl Tenant {
    /// Writes one page of a list with its envelope.
    pub(crate) fn write_list(
        &self,
        out: &mut Out,
        page: &PageRequest,
        keep: impl Fn(usize) -> bool,
        mut write: impl FnMut(&mut Out, usize),
    ) -> Result<Listed, QueryProblem> {
        let list = page.list;
        let token = page.query.text("cursor");
        let mut place = match token {
            Some(token) => list.resume(token).ok_or_else(QueryProblem::bad_cursor)?,
            None => 0,
        };
        let keep = |index: usize| list.holds(index) && keep(index);
        let limit = self.rows_of_page(page, place);
        let (mut rows, mut last) = (0, 0);
        out.raw("{\"results\":[");
        while rows < limit && place < list.len() {
            let index = list.at(place);
            place += 1;
            if keep(index) {
                if rows > 0 {
                    out.raw(",");
                }
                write(out, index);
                (rows, last) = (rows + 1, index);
            }
        }
        let more = rows > 0 && (place..list.len()).any(|place| keep(list.at(place)));
        let next = match token {
            Some(token) if page.repeat => Some(token.to_owned()),
            _ => more.then(|| list.cursor(last)),
        };
        let next = next.map(|cursor| {
            if self.options.bare_links {
                format!("{}?cursor={cursor}", page.path)
            } else {
                next_link(page, &cursor)
            }
        });
        self.write_links(out, next.as_deref());
        Ok(Listed { rows, next })
    }

    fn rows_of_page(&self, page: &PageRequest, place: usize) -> usize {
        let asked = page.query.number("limit").unwrap_or(page.default);
        let limit = usize::try_from(asked).unwrap_or(usize::MAX).min(page.list.cap);
        let dice = mix(self.dice(page.path, place));
        if chance(dice) < self.options.short_pages { 1 + below(mix(dice), limit) } else { limit }
    }

    fn write_links(&self, out: &mut Out, next: Option<&str>) {
        out.raw("],\"_links\":{");
        if let Some(next) = next {
            out.raw("\"next\":").string(next).raw(",");
        }
        out.raw("\"base\":\"").raw(&self.options.site).raw("/wiki\"}}");
    }

    /// The `Link` header of a page.
    pub(crate) fn link_header(&self, next: Option<&str>) -> String {
        let base = format!("<{}/wiki>; rel=\"base\"", self.options.site);
        next.map_or(base.clone(), |next| format!("<{next}>; rel=\"next\", {base}"))
    }
}

/// The raw cursor comes first, then the parameters as sent.
fn next_link(page: &PageRequest, cursor: &str) -> String {
    let mut link = format!("{}?cursor={cursor}", page.path);
    let mut echoed = false;
    for pair in page.query.raw.split('&').filter(|pair| !pair.is_empty()) {
        if pair != "cursor" && !pair.starts_with("cursor=") {
            link.push('&');
            link.push_str(pair);
            echoed = true;
        }
    }
    if !echoed {
        link.push_str("&limit=");
        link.push_str(&page.default.to_string());
    }
    link
}

/// Bits as a number from 0 (inclusive) to 1 (exclusive).
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
pub(crate) fn chance(dice: u64) -> f64 {
    (dice >> 11) as f64 / (1_u64 << 53) as f64
}
