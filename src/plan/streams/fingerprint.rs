//! Digests that show whether a run reads and writes the same rows as an earlier one.

use std::sync::Arc;

use crate::hash;
use crate::plan::documents::Documents;
use crate::plan::draft::Draft;
use crate::plan::requests::merged;
use crate::plan::requests::queue::QueuePlan;
use crate::plan::streams::columns::Output;
use crate::plan::streams::stage::StreamDraft;
use crate::plan::streams::stream::StreamPlan;
use crate::spec::{Filter, RequestSpec};

impl Draft<'_> {
    /// Digest of everything that determines which rows a stream has: its requests, the inputs, the
    /// connection's non-secret fields, and the digests of its parents, which are among the streams
    /// `before` it.
    pub(crate) fn reads(&self, stage: &StreamDraft<'_>, before: &[Arc<StreamPlan>]) -> String {
        let spec = self.documents.spec;
        let feeds = |parent: &&Arc<StreamPlan>| {
            let feeds = &spec.streams.get(&parent.name).map(|stream| &stream.feeds);
            // The route does not change which rows a stream has.
            let own = stage.requests.iter().chain(&stage.changes);
            let mut queues = own.filter_map(merged::items_of).map(|items| &items.queue);
            feeds.is_some_and(|feeds| queues.any(|queue| feeds.contains_key(queue)))
        };
        let parents: Vec<&str> =
            before.iter().filter(feeds).map(|parent| parent.reads.as_str()).collect();
        let cursor = stage.stream.cursor.as_ref();
        let parts = (
            stage.requests.iter().map(asked).collect::<Vec<_>>(),
            stage.changes.iter().map(asked).collect::<Vec<_>>(),
            (cursor.map(|cursor| (&cursor.field, &cursor.anchor)), &stage.stream.replaces),
            (&spec.base_url, self.open_fields(), &stage.inputs, parents),
        );
        digest(&format!("{parts:?}"))
    }

    /// The connection's non-secret fields that differ from their defaults. An unset field that a
    /// new version of the spec adds does not change the digest.
    fn open_fields(&self) -> Vec<(&String, &String)> {
        let Documents { spec, fields, .. } = self.documents;
        let usual = |name: &String| spec.connection.get(name).and_then(|one| one.default.as_ref());
        let open = fields.open.iter();
        open.filter(|(name, value)| !value.is_empty() && usual(name) != Some(*value)).collect()
    }

    /// Digest of what the indexes of a stream's requests and of its carried values refer to.
    pub(crate) fn shape(stage: &StreamDraft<'_>, queues: &[QueuePlan]) -> String {
        let carried = queues.iter().filter(|queue| stage.queues().any(|name| name == queue.name));
        let carried: Vec<_> = carried.map(|queue| (&queue.name, &queue.carried)).collect();
        let parts = (&stage.requests, &stage.changes, &stage.routes, carried);
        // It determines how rows are staged.
        let confirms = if stage.stream.confirm_deletes.is_some() { "confirms" } else { "" };
        digest(&format!("{parts:?}{confirms}"))
    }
}

/// The parts of a request that determine which records it returns. They are listed one by one, so
/// that a new key of the language does not change the digest.
fn asked(request: &RequestSpec) -> String {
    let RequestSpec { for_each, get, post, query, body, records, children, filter, .. } = request;
    let items = merged::items_of(request);
    let items = items.map(|items| (&items.queue, items.chunk, &items.variable));
    let others = for_each.as_ref().filter(|_| items.is_none());
    let children = children.as_ref();
    let children = children.map(|one| (&one.with, &one.get, &one.query, one.max_depth));
    let filter = filter.as_ref().map(Filter::all);
    format!("{:?}", (items, others, get, post, query, body, records, children, filter))
}

/// Digest of what determines how and where a stream's rows are written; `-` for a stream that only
/// feeds.
pub(crate) fn writes(output: Option<&Output>, ignore: &[String]) -> String {
    let Some(output) = output else { return "-".to_owned() };
    let columns: Vec<_> = output
        .columns
        .iter()
        .map(|plan| (&plan.column.name, plan.column.kind, &plan.value))
        .collect();
    let table = &output.table;
    digest(&format!("{:?}", (output.mode, columns, &table.schema.key, &table.object, ignore)))
}

/// 64 bits of FNV-1a.
fn digest(text: &str) -> String {
    format!("{:016x}", hash::fnv(text.bytes()))
}

#[cfg(test)]
mod tests {
    use crate::plan::documents::PlanOptions;
    use crate::plan::testing::{plan, spec, stream};

    const STREAM: &str = "get: /s, key: [id], columns: { id: text, n: int }";

    /// Whether `reads`, `shape` and `writes` differ from those of `STREAM` in mode full-refresh.
    #[track_caller]
    fn check(text: &str, defaults: &str, expected: [bool; 3]) {
        let digests = |text: &str, defaults: &str| {
            let plan =
                plan(&spec(&format!("  s: {{ {text} }}\n")), defaults, &PlanOptions::default());
            let plan = plan.unwrap();
            let stream = stream(&plan, "s");
            [stream.reads.clone(), stream.shape.clone(), stream.writes.clone()]
        };
        let (before, after) = (digests(STREAM, ""), digests(text, defaults));
        let differ: Vec<bool> =
            before.iter().zip(&after).map(|(one, other)| one != other).collect();
        assert_eq!(differ, expected, "{text}; {defaults}");
    }

    #[test]
    fn each_digest_changes_with_what_it_stands_for() {
        check(STREAM, "", [false, false, false]);
        // Other records.
        check(&STREAM.replace("/s", "/t"), "", [true, true, false]);
        check(&format!("{STREAM}, query: {{ a: 1 }}"), "", [true, true, false]);
        check(&format!("{STREAM}, filter: n"), "", [true, true, false]);
        // Another route to the same records.
        check(&format!("{STREAM}, routes: {{ r: {{ get: /r }} }}"), "", [false, true, false]);
        // Other pages of the same records.
        check(&format!("{STREAM}, max_pages: 5"), "", [false, true, false]);
        // The same records, written otherwise.
        check(&STREAM.replace("n: int", "n: float"), "", [false, false, true]);
        check(&STREAM.replace("n: int", "n: { int: m }"), "", [false, false, true]);
        check(STREAM, "object: other", [false, false, true]);
        check(STREAM, "mode: truncate", [false, false, true]);
        check(STREAM, "columns: { n: text }", [false, false, true]);
        // Documentation and limits.
        check(&format!("{STREAM}, doc: x, concurrency: 2"), "max_errors: 5", [false, false, false]);
    }
}
