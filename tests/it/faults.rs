//! APIs, targets and files that break weir's assumptions: one small fake per fault.

mod alike;
mod answers;
mod appearing;
mod confluence;
mod goes_on;
mod keys;
mod names;
mod network;
mod owner;
mod paging;
mod parquet;
mod refused;
mod said;
mod secrets;
mod session;
mod signs;
mod silent;
mod snapshots;
mod state;
mod tokens;
mod trust;
mod trusted;
mod values;
mod waits;
mod writing;
