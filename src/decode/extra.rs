//! The `_extra` column under construction: one JSON object per record with its undeclared fields.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

#[derive(Debug)]
pub(super) struct ExtraBuilder {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    valid: Vec<bool>,
    /// Whether the object of the current record is open.
    started: bool,
    /// Nested objects that are open inside it.
    depth: usize,
}

impl Default for ExtraBuilder {
    fn default() -> Self {
        Self { bytes: Vec::new(), ends: vec![0], valid: Vec::new(), started: false, depth: 0 }
    }
}

impl ExtraBuilder {
    /// Adds the field `name` with its JSON text, inside the objects named by `parents`.
    pub(super) fn add<'name>(
        &mut self,
        parents: impl ExactSizeIterator<Item = &'name str>,
        name: &str,
        raw: &str,
    ) {
        if !self.started {
            self.started = true;
            self.bytes.push(b'{');
        }
        for parent in parents.skip(self.depth) {
            self.key(parent);
            self.bytes.push(b'{');
            self.depth += 1;
        }
        self.key(name);
        self.bytes.extend_from_slice(raw.as_bytes());
    }

    /// Closes the objects deeper than `depth`.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.depth > depth {
            self.bytes.push(b'}');
            self.depth -= 1;
        }
    }

    pub(super) fn end_record(&mut self) {
        self.leave(0);
        if self.started {
            self.bytes.push(b'}');
        }
        self.valid.push(self.started);
        self.started = false;
        self.ends.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    pub(super) fn finish(self) -> ArrayRef {
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Arc::new(StringArray::new(offsets, Buffer::from_vec(self.bytes), nulls))
    }

    fn key(&mut self, name: &str) {
        if self.bytes.last() != Some(&b'{') {
            self.bytes.push(b',');
        }
        let text = serde_json::Value::from(name).to_string();
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(b':');
    }
}
