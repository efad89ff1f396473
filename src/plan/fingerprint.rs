//! Short texts by which a run tells that it is about the same rows as an earlier one.

use super::{Draft, Output, Stage};

impl Draft<'_> {
    /// What decides which rows a stream has.
    pub(super) fn reads(&self, stage: &Stage<'_>) -> String {
        let (spec, replication) = (self.documents.spec, self.documents.replication);
        let inputs = stage.settings.as_ref().map(|own| &own.inputs);
        let stream = stage.stream;
        let parts = (
            (&stage.requests, &stage.changes, &stream.feeds, &stream.replaces, &stream.cursor),
            (&spec.base_url, &spec.inputs, &self.documents.fields.open),
            inputs.unwrap_or(&replication.defaults.inputs),
        );
        digest(&format!("{parts:?}"))
    }
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

/// 64 bits of FNV-1a, the same in every build.
fn digest(text: &str) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
}
