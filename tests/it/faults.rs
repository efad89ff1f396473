//! APIs, targets and files that break weir's assumptions: one small fake per fault.

mod answers;
mod confluence;
mod refused;
mod tokens;
