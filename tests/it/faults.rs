//! APIs, targets and files that break weir's assumptions: one small fake per fault.

mod answers;
mod goes_on;
mod keys;
mod names;
mod network;
mod owner;
mod paging;
mod said;
mod state;
mod trust;
mod values;
mod writing;
