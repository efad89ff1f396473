//! Short texts by which a run tells that it is about the same rows as an earlier one.

use std::sync::Arc;

use super::{Draft, Output, Stage, StreamPlan, request};
use crate::spec::RequestSpec;

impl Draft<'_> {
    /// What decides which rows a stream has: its requests, the inputs, the connection's open fields,
    /// and what decides that of its parents, which are among the streams `before` it.
    pub(super) fn reads(&self, stage: &Stage<'_>, before: &[Arc<StreamPlan>]) -> String {
        let spec = self.documents.spec;
        let feeds = |parent: &&Arc<StreamPlan>| {
            let feeds = &spec.streams.get(&parent.name).map(|stream| &stream.feeds);
            // By which route a stream is read does not change what it reads.
            let own = stage.requests.iter().chain(&stage.changes);
            let mut queues = own.filter_map(request::items_of).map(|items| &items.queue);
            feeds.is_some_and(|feeds| queues.any(|queue| feeds.contains_key(queue)))
        };
        let parents: Vec<&str> =
            before.iter().filter(feeds).map(|parent| parent.reads.as_str()).collect();
        let cursor = stage.stream.cursor.as_ref();
        let parts = (
            stage.requests.iter().map(asked).collect::<Vec<_>>(),
            stage.changes.iter().map(asked).collect::<Vec<_>>(),
            (cursor.map(|cursor| (&cursor.field, &cursor.anchor)), &stage.stream.replaces),
            (&spec.base_url, &self.documents.fields.open, &stage.inputs, parents),
        );
        digest(&format!("{parts:?}"))
    }
}

/// What of a request decides which records come. Named one by one, so that whatever the language
/// gains does not count as a change.
fn asked(request: &RequestSpec) -> String {
    let RequestSpec { for_each, get, post, query, body, records, descend, having, .. } = request;
    format!("{:?}", (for_each, get, post, query, body, records, descend, having))
}

/// What decides how a stream's rows are written, and where to; `-` for a feeder.
pub(super) fn writes(output: Option<&Output>, ignore: &[String]) -> String {
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
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
}
