//! Which route of each stream is the cheapest, and what a run will cost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::state::{Reach, Recall};
use crate::plan::Plan;

/// Chooses the routes of the streams that read all there is.
pub(super) fn routes(
    plan: &Plan,
    _recall: &Recall,
    _needs: &BTreeMap<String, Reach>,
    _now: DateTime<Utc>,
) -> BTreeMap<String, usize> {
    let wanted = plan.streams.iter().filter_map(|stream| {
        Some((stream.name.clone(), stream.wanted?))
    });
    wanted.collect()
}
