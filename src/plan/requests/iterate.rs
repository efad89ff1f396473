//! The values that requests are sent for, compiled.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::plan::requests::compiler::{Compiler, unfed};
use crate::plan::requests::templates::{invalid, template};
use crate::spec::{ForEach, RequestSpec};
use crate::template::{Expression, Value};

/// The values that a request is sent for.
#[derive(Debug)]
pub enum Iterate {
    /// No values: it is sent once.
    Once,
    /// The values of a queue: one value per request, or a chunk.
    Queue {
        /// Index of the queue.
        queue: usize,
        /// Number of values per request. `None`: one, and the variable is not a list.
        chunk: Option<usize>,
        /// Variable.
        variable: Arc<str>,
        /// Variables of the carried values, each with its position in
        /// [`crate::plan::requests::queue::QueuePlan::carried`].
        carried: Vec<(Arc<str>, usize)>,
        /// Values for which it is false are left to other requests.
        only: Option<Expression>,
    },
    /// A list of values.
    Values {
        /// The values; each is a single value or a chunk.
        values: Vec<Value>,
        /// Variable.
        variable: Arc<str>,
    },
    /// The integers from the first to the last, with a step.
    Range {
        /// First.
        from: i64,
        /// Last, inclusive.
        to: i64,
        /// Step.
        step: i64,
        /// Variable.
        variable: Arc<str>,
    },
}

impl Compiler<'_> {
    pub(crate) fn iterate(
        &self,
        request: &RequestSpec,
        notes: &mut Vec<String>,
    ) -> Result<Iterate> {
        match &request.for_each {
            None => Ok(Iterate::Once),
            Some(ForEach::Queue(items)) => {
                let queue = self.queue(&items.queue).ok_or_else(|| unfed(&items.queue))?;
                let variable = items.variable_name().into();
                let along = self.queues.get(queue).map_or(&[][..], |queue| &queue.carried);
                let carried = items.carry.iter().filter_map(|(name, path)| {
                    let at = along.iter().position(|one| one == path)?;
                    Some((Arc::from(name.as_str()), at))
                });
                let only = items.only.as_deref().map(Expression::parse).transpose();
                Ok(Iterate::Queue {
                    queue,
                    chunk: items.chunk.map(size),
                    variable,
                    carried: carried.collect(),
                    only: only.map_err(|error| invalid(&error))?,
                })
            }
            Some(ForEach::Input(items)) => {
                let list = self.scope.get(&items.input).ok_or_else(|| {
                    Error::input(format!("the spec has no input `{}`", items.input))
                })?;
                let values: Vec<Value> = list
                    .try_iter()
                    .map_err(|_| Error::input(format!("input `{}` is not a list", items.input)))?
                    .collect();
                if let Some(note) = items.when_empty.as_ref().filter(|_| values.is_empty()) {
                    notes.push(note.clone());
                }
                let values = match items.chunk.map(size) {
                    Some(chunk) => {
                        let bytes = ChunkSize::bytes(request.get.is_some());
                        let chunks = ChunkSize { count: chunk, bytes }.split(&values, |value| {
                            value.as_str().map_or_else(|| encoded(&value.to_string()), encoded)
                        });
                        chunks.into_iter().map(|chunk| Value::from(chunk.to_vec())).collect()
                    }
                    None => values,
                };
                Ok(Iterate::Values { values, variable: items.variable.as_str().into() })
            }
            Some(ForEach::Values(items)) => {
                let render = |text: &String| {
                    template(text)?
                        .render(self.scope)
                        .map(Value::from)
                        .map_err(|error| invalid(&error))
                };
                let values = items.values.iter().map(render).collect::<Result<_>>()?;
                Ok(Iterate::Values { values, variable: items.variable.as_str().into() })
            }
            Some(ForEach::Range(items)) => {
                let number = |text: &str| -> Result<i64> {
                    let text =
                        template(text)?.render(self.scope).map_err(|error| invalid(&error))?;
                    text.trim().parse().map_err(|_| {
                        Error::input(format!("`range`: `{text}` is not a whole number"))
                    })
                };
                Ok(Iterate::Range {
                    from: number(&items.range.from.0)?,
                    to: number(&items.range.to.0)?,
                    step: i64::from(items.range.step.max(1)),
                    variable: items.variable.as_str().into(),
                })
            }
        }
    }
}

/// Maximum size of the values in a query, in bytes. The whole URL then stays below 6 KB.
const QUERY: usize = 5000;

/// Maximum number and size of the values of a request.
#[derive(Clone, Copy, Debug)]
pub struct ChunkSize {
    /// Maximum number of values.
    pub count: usize,
    /// Maximum size of the values in bytes, as encoded in a query.
    pub bytes: usize,
}

impl From<usize> for ChunkSize {
    fn from(count: usize) -> Self {
        Self { count, bytes: usize::MAX }
    }
}

impl ChunkSize {
    /// Maximum size of a chunk in bytes; unlimited in a body.
    pub fn bytes(in_query: bool) -> usize {
        if in_query { QUERY } else { usize::MAX }
    }

    /// Number of values that fit, given their sizes; at least one.
    pub fn fits(self, sizes: impl Iterator<Item = usize>) -> usize {
        let mut bytes = 0_usize;
        let fits = |size: &usize| {
            // An encoded comma between two values takes three bytes.
            bytes = bytes.saturating_add(*size).saturating_add(3);
            bytes <= self.bytes
        };
        sizes.take(self.count).take_while(fits).count().max(1)
    }

    /// Cuts values into chunks.
    pub fn split<T>(self, mut values: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
        let mut chunks = Vec::new();
        while !values.is_empty() {
            let (chunk, rest) =
                values.split_at(self.fits(values.iter().map(&size)).min(values.len()));
            chunks.push(chunk);
            values = rest;
        }
        chunks
    }
}

/// Size of a text in a query, in bytes.
pub fn encoded(text: &str) -> usize {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum()
}

fn size(chunk: u32) -> usize {
    usize::try_from(chunk.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, bytes: usize, values: &[&str], expected: &[usize]) {
        let chunks = ChunkSize { count, bytes }.split(values, |value| encoded(value));
        let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, expected, "{count}, {bytes}, {values:?}");
    }

    #[test]
    fn chunks_are_limited_by_number_and_by_size() {
        check(2, usize::MAX, &["a", "b", "c"], &[2, 1]);
        check(9, usize::MAX, &[], &[]);
        // Each value counts with a comma of three bytes.
        check(9, 8, &["a", "b", "c"], &[2, 1]);
        check(9, 8, &["a b", "c"], &[1, 1]);
        // A single value may be larger than the limit.
        check(9, 2, &["abc", "d"], &[1, 1]);
    }
}
