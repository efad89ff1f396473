//! A part of the staged rows of a run.

use std::io::Read;

/// Which staged rows are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedRun<'a> {
    /// Id of the run that staged them.
    pub(crate) run_id: &'a str,
    /// Number of rows at its last checkpoint, from which it resumes; `None` when it starts over.
    pub(crate) rows: Option<u64>,
}

/// One stream of staged rows.
pub(crate) struct Segment {
    /// An Arrow IPC stream.
    pub(crate) bytes: Box<dyn Read + Send>,
    /// Number of its first rows that count.
    pub(crate) rows: u64,
}
