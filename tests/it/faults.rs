//! APIs, targets and files that break weir's assumptions: one small fake per fault.

mod answers;
mod keys;
mod names;
mod network;
mod paging;
mod said;
mod trust;
mod values;
mod writing;
