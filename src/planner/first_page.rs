//! Chooses the size of the first page of a listing that ends at a cursor value. If each object costs points, the
//! page is no larger than the expected number of changes.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::plan::{RequestPlan, StreamPlan};
use crate::planner::numbers::whole;
use crate::planner::read_plan::ReadPlan;
use crate::progress::saved::{SavedState, StreamState};

/// Minimum size of a first page, and its size if the number of changes is unknown.
const LEAST: u32 = 25;
/// Factor for more changes than expected, because a second page has the full size.
const ROOM: f64 = 1.25;

/// Sizes of the first pages of listings, by stream and number of the request. Streams that read the same listing
/// request the same page.
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
            let Some(size) = size(plan, request, *read_plan, &state, now) else { continue };
            let listing = request.listing();
            let largest = listings.entry(listing.clone()).or_default();
            *largest = size.max(*largest);
            all.push(((plan.name.clone(), number), listing));
        }
    }
    let size = |listing: &String| listings.get(listing).copied().unwrap_or(LEAST);
    all.into_iter().map(|(place, listing)| (place, size(&listing))).collect()
}

/// Size of the first page of a listing; `None` for the size of all other pages.
pub(crate) fn size(
    stream: &StreamPlan,
    request: &RequestPlan,
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
    // The first unchanged record ends the listing.
    let wanted = u32::try_from(whole((expected * ROOM).ceil() + 1.0)).unwrap_or(u32::MAX);
    Some(wanted.max(LEAST).min(largest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{plan_under, plan_with_points, stream};
    use crate::plan::{Plan, PlanOptions};
    use crate::progress::saved::ChangeStats;

    #[test]
    fn changes_are_extrapolated_from_the_last_read() {
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
    const STREAMS: &str = "
  listed: { get: /listed, key: [id], columns: { id: text, at: timestamp },
    page_size: { param: limit, max: 250 }, paginate: { next_url: { at: next } },
    cursor: { field: at, newest_first: true } }
  same: { get: /listed, key: [id], columns: { id: text, at: timestamp },
    page_size: { param: limit, max: 250 }, paginate: { next_url: { at: next } },
    cursor: { field: at, newest_first: true } }
  numbered: { get: /numbered, key: [id], columns: { id: text, at: timestamp },
    page_size: { param: limit, max: 250 }, paginate: { page: { param: page } },
    cursor: { field: at, newest_first: true } }
  filtered: { get: /filtered, key: [id], columns: { id: text, at: timestamp },
    page_size: { param: limit, max: 250 }, paginate: { next_url: { at: next } },
    cursor: { field: at, query: { since: '{{ cursor }}' } } }
  unsized: { get: /unsized, key: [id], columns: { id: text, at: timestamp },
    paginate: { next_url: { at: next } }, cursor: { field: at, newest_first: true } }
";
    const DAY: i64 = 86_400_000_000;

    fn now() -> DateTime<Utc> {
        "2026-03-02T00:00:00Z".parse().unwrap()
    }

    fn changes() -> ReadPlan {
        ReadPlan::Changes { since: now().timestamp_micros() - DAY }
    }

    /// A state of a stream in which `rows` records change per day.
    fn daily(rows: u64) -> StreamState {
        let changes = Some(ChangeStats { days: 1.0, rows, ..ChangeStats::default() });
        StreamState { changes, ..StreamState::default() }
    }

    fn with_points() -> Plan {
        plan_with_points(STREAMS, "mode: incremental", &PlanOptions::default())
    }

    #[track_caller]
    fn check(
        plan: &Plan,
        name: &str,
        read_plan: ReadPlan,
        state: &StreamState,
        expected: Option<u32>,
    ) {
        let stream = stream(plan, name);
        let found = size(stream, &stream.requests[0], read_plan, state, now());
        assert_eq!(found, expected, "{name} {read_plan:?}");
    }

    #[test]
    fn a_first_page_is_as_large_as_the_expected_changes() {
        let plan = with_points();
        check(&plan, "listed", changes(), &StreamState::default(), Some(25));
        check(&plan, "listed", changes(), &daily(10), Some(25));
        check(&plan, "listed", changes(), &daily(20), Some(26));
        check(&plan, "listed", changes(), &daily(80), Some(101));
        check(&plan, "listed", changes(), &daily(5000), Some(250));
        check(&plan, "listed", ReadPlan::Full { route: 0 }, &daily(80), None);
        check(&plan, "listed", ReadPlan::Retry, &daily(80), None);
        check(&plan, "filtered", changes(), &daily(80), None);
        check(&plan, "unsized", changes(), &daily(80), None);
        // With numbered pages, another size would shift all later pages.
        check(&plan, "numbered", changes(), &daily(80), None);
        let free = plan_under(STREAMS, "mode: incremental", &PlanOptions::default());
        check(&free, "listed", changes(), &daily(80), None);
    }

    #[test]
    fn streams_that_read_a_listing_together_take_the_largest_page() {
        let plan = with_points();
        let mut saved = SavedState::default();
        saved.streams.insert("listed".to_owned(), daily(40));
        saved.streams.insert("same".to_owned(), daily(80));
        let plans: Vec<_> =
            plan.streams.iter().map(|stream| (Arc::clone(stream), changes())).collect();
        let sizes = sizes(&plans, &saved, now());
        let expected = [("listed", 101), ("same", 101)];
        let expected = expected.map(|(name, size)| ((name.to_owned(), 0), size));
        assert_eq!(sizes, HashMap::from(expected));
    }
}
