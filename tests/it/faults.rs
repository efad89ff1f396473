//! APIs, targets and files that break weir's assumptions: one small fake per fault.

mod answers;
mod goes_on;
mod paging;
mod state;
mod trust;
