//! The options of a run in addition to its plan.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::plan::Run;

/// Options of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// The start time.
    pub now: DateTime<Utc>,
    /// Random part of the run's ID, which distinguishes runs of the same millisecond; also the seed for
    /// jitter.
    pub random: u32,
    /// Discards the saved state of the streams.
    pub fresh: bool,
    /// Requests only the refused slices.
    pub retry: bool,
    /// Maximum wait for a lock that another run holds; 0 does not wait.
    pub wait: Duration,
    /// Takes over tables that weir did not write, or that belong to another replication.
    pub adopt: bool,
}

impl RunOptions {
    /// The default options, with the current time.
    pub fn now() -> Self {
        let mut random = [0_u8; 4];
        // Without randomness, two runs of the same millisecond would share an ID, which is harmless.
        if getrandom::fill(&mut random).is_err() {
            random = [0; 4];
        }
        let random = u32::from_le_bytes(random);
        let wait = Duration::ZERO;
        Self { now: Utc::now(), random, fresh: false, retry: false, adopt: false, wait }
    }

    /// A new run. Its ID sorts by time.
    pub fn run(&self) -> Run {
        let id = format!("{}{:08x}", self.now.format("%Y%m%d%H%M%S%3f"), self.random);
        Run { id, started_at: self.now }
    }
}
