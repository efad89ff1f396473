//! Staged rows that no run goes on with.

use chrono::{DateTime, TimeDelta, Utc};

/// What any run staged so many days ago is left over.
const STALE_DAYS: i64 = 14;

/// What of the staged rows is left over, as the holder of a replication's lock sees it: what runs of the replication
/// have staged but one, and what any run staged long ago.
#[derive(Clone, Debug)]
pub struct Leftovers {
    replication: String,
    kept: Option<String>,
    /// What ids of runs that began too long ago sort before.
    stale: String,
}

impl Leftovers {
    /// Those of a replication, whose run `kept` may go on.
    pub fn of(replication: &str, kept: Option<&str>, now: DateTime<Utc>) -> Self {
        let stale = (now - TimeDelta::days(STALE_DAYS)).format("%Y%m%d%H%M%S").to_string();
        Self { replication: replication.to_owned(), kept: kept.map(str::to_owned), stale }
    }

    /// Name of the replication.
    pub(super) fn replication(&self) -> &str {
        &self.replication
    }

    /// Whether what a run of a replication has staged is one of them.
    pub(super) fn include(&self, replication: &str, run_id: &str) -> bool {
        let began = run_id.get(..self.stale.len());
        let began = began.filter(|began| began.bytes().all(|byte| byte.is_ascii_digit()));
        let is_old = began.is_some_and(|began| *began < *self.stale);
        self.kept.as_deref() != Some(run_id) && (replication == self.replication || is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_goes_on_with_stays() {
        let now = "2026-01-24T00:00:00Z".parse().unwrap();
        let leftovers = Leftovers::of("nightly", Some("20260112000000000aa"), now);
        for (replication, run, is_one) in [
            ("nightly", "20260112000000000aa", false),
            ("nightly", "20260111000000000bb", true),
            ("other, run x", "20260111000000000bb", false),
            ("other", "20260109000000000cc", true),
            ("other", "reset", false),
            ("", "20260109000000000cc", true),
            ("", "20260111000000000cc", false),
        ] {
            assert_eq!(leftovers.include(replication, run), is_one, "{replication} {run}");
        }
    }
}
