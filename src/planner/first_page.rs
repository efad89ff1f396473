//! How large the first page of a listing is that ends at the bound: where each object costs points, no larger
//! than what is expected to have changed.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::plan::{RequestPlan, StreamPlan};
use crate::planner::numbers::whole;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{SavedState, StreamState};

/// Records of a first page at least, and where nobody knows how many have changed.
const LEAST: u32 = 25;
/// Room for more changes than are expected: a second page is a full one.
const ROOM: f64 = 1.25;

/// Sizes of the first pages of the listings that streams read, by stream and number of the request. Those that
/// read the same listing ask for the same page.
pub(crate) fn sizes(
    plans: &[(Arc<StreamPlan>, ReadPlan)],
    saved: &SavedState,
    now: DateTime<Utc>,
) -> HashMap<(String, usize), u32> {
    let mut listings: HashMap<String, u32> = HashMap::new();
    let mut all = Vec::new();
    for (plan, read_plan) in plans {
        let state = saved.stream(&plan.name);
        for (number, request) in read_plan.active(plan) {
            let Some(size) = size((plan, request), *read_plan, &state, now) else { continue };
            let listing = request.listing();
            let largest = listings.entry(listing.clone()).or_default();
            *largest = size.max(*largest);
            all.push(((plan.name.clone(), number), listing));
        }
    }
    let size = |listing: &String| listings.get(listing).copied().unwrap_or(LEAST);
    all.into_iter().map(|(place, listing)| (place, size(&listing))).collect()
}

/// Size of the first page of a listing; `None`: that of any other.
pub(crate) fn size(
    (stream, request): (&StreamPlan, &RequestPlan),
    read_plan: ReadPlan,
    state: &StreamState,
    now: DateTime<Utc>,
) -> Option<u32> {
    let bound = read_plan.bound()?;
    let ends = stream.cursor.as_ref().is_some_and(|cursor| cursor.newest_first);
    if !ends || stream.cost.base == 0 || !request.pager.takes_any_size() {
        return None;
    }
    let largest = request.pager.largest_page()?;
    let expected = state.expected_changes(bound, now).unwrap_or_default();
    // One that has not changed ends the listing.
    let wanted = u32::try_from(whole((expected * ROOM).ceil() + 1.0)).unwrap_or(u32::MAX);
    Some(wanted.max(LEAST).min(largest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::saved::ChangeStats;

    #[test]
    fn what_changed_is_expected_to_go_on() {
        let now: DateTime<Utc> = "2026-03-02T00:00:00Z".parse().unwrap();
        let day_ago = now.timestamp_micros() - 86_400_000_000;
        let of = |days, rows| StreamState {
            changes: Some(ChangeStats { days, rows, ..ChangeStats::default() }),
            ..StreamState::default()
        };
        assert_eq!(StreamState::default().expected_changes(day_ago, now), None);
        assert_eq!(of(0.0, 7).expected_changes(day_ago, now), None);
        assert_eq!(of(0.5, 40).expected_changes(day_ago, now), Some(80.0));
    }
}
