//! Staged rows that no run goes on with.

use chrono::{DateTime, TimeDelta, Utc};

/// What nobody has staged more of for so many days is left over.
const STALE_DAYS: i64 = 14;

/// What of the staged rows is left over, as the holder of a replication's lock sees it: what runs of the replication
/// have staged but one, and what any run staged long ago.
#[derive(Clone, Debug)]
pub struct Leftovers {
    replication: String,
    kept: Option<String>,
    now: DateTime<Utc>,
}

impl Leftovers {
    /// Those of a replication, whose run `kept` may go on.
    pub fn of(replication: &str, kept: Option<&str>, now: DateTime<Utc>) -> Self {
        Self { replication: replication.to_owned(), kept: kept.map(str::to_owned), now }
    }

    /// Name of the replication.
    pub(crate) fn replication(&self) -> &str {
        &self.replication
    }

    /// Whether what a run of a replication has staged, the last of it at this time, is one of them.
    pub(crate) fn include(&self, replication: &str, run_id: &str, at: DateTime<Utc>) -> bool {
        let is_old = self.now - at > TimeDelta::days(STALE_DAYS);
        self.kept.as_deref() != Some(run_id) && (replication == self.replication || is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_goes_on_with_stays() {
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
