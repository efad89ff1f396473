//! Staged rows that no run resumes.

use chrono::{DateTime, TimeDelta, Utc};

/// Days after which staged rows are leftovers when no row was added to them.
const STALE_DAYS: i64 = 14;

/// Decides which staged rows are leftovers, for the holder of a replication's lock: those of all runs of the
/// replication except one, and those of any run that are older than 14 days.
#[derive(Clone, Debug)]
pub struct Leftovers {
    replication: String,
    /// Id of the run that may be resumed.
    kept: Option<String>,
    now: DateTime<Utc>,
}

impl Leftovers {
    /// The leftovers of a replication; the run `kept` may be resumed.
    pub fn of(replication: &str, kept: Option<&str>, now: DateTime<Utc>) -> Self {
        Self { replication: replication.to_owned(), kept: kept.map(str::to_owned), now }
    }

    /// Name of the replication.
    pub(crate) fn replication(&self) -> &str {
        &self.replication
    }

    /// Whether the rows that a run of a replication has staged are leftovers; `at` is when it last staged one.
    pub(crate) fn include(&self, replication: &str, run_id: &str, at: DateTime<Utc>) -> bool {
        let is_old = self.now - at > TimeDelta::days(STALE_DAYS);
        self.kept.as_deref() != Some(run_id) && (replication == self.replication || is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_a_run_may_resume_with_stay() {
        let now = "2026-01-24T00:00:00Z".parse().unwrap();
        let leftovers = Leftovers::of("nightly", Some("run 2"), now);
        let (late, early) = (now - TimeDelta::days(13), now - TimeDelta::days(15));
        for (replication, run, at, is_one) in [
            ("nightly", "run 2", early, false),
            ("nightly", "run 1", late, true),
            ("other", "run 1", late, false),
            ("other", "run 1", early, true),
            ("", "run 1", early, true),
            ("", "run 1", late, false),
        ] {
            assert_eq!(leftovers.include(replication, run, at), is_one, "{replication} {run} {at}");
        }
    }
}
