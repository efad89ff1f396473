//! What a run is told besides its plan.
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::plan::Run;

/// How a run is begun.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// The time.
    pub now: DateTime<Utc>,
    /// Tells the run from others of the same millisecond, and spreads its waits.
    pub random: u32,
    /// Forgets all that is remembered of the streams.
    pub fresh: bool,
    /// Asks again for the slices that were refused, and for nothing else.
    pub retry: bool,
    /// Longest wait for a lock that another run holds.
    pub wait: Duration,
    /// Takes over tables that are nobody's, or another replication's.
    pub adopt: bool,
}

impl Beginning {
    /// An ordinary run, now.
    pub fn now() -> Self {
        let mut random = [0_u8; 4];
        // Without randomness two runs of the same millisecond would share their id, no worse.
        if getrandom::fill(&mut random).is_err() {
            random = [0; 4];
        }
        let random = u32::from_le_bytes(random);
        let wait = Duration::ZERO;
        Self { now: Utc::now(), random, fresh: false, retry: false, adopt: false, wait }
    }

    /// A new run; its id sorts by time.
    pub fn run(&self) -> Run {
        let id = format!("{}{:08x}", self.now.format("%Y%m%d%H%M%S%3f"), self.random);
        Run { id, started_at: self.now }
    }
}
