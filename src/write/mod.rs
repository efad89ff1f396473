//! Rows to their target: the `Target` and `Writer` seams, what targets share, and the targets.
//!
//! `formats` (rows and bytes), `storage` (local disk and object stores) and `staging` (rows that outlive
//! a process) serve every target; no target knows another one.
//!
//! A new target is a file or a folder here that implements [`Target`] and [`Writer`]. It keeps the contract
//! of [`Target`], which `tests/it/support/target_contract.rs` checks. A target without staging of its own
//! uses `staging`.

mod duplicate_keys;
pub mod files;
pub(crate) mod formats;
mod leftovers;
pub mod memory;
mod owner;
pub mod postgres;
mod slice_number;
pub(crate) mod staging;
pub(crate) mod storage;
mod table;
mod target;

pub use self::leftovers::Leftovers;
pub use self::owner::{ExistingTable, Owner};
pub use self::slice_number::SliceNumber;
pub use self::table::{Deletes, Disposition, Table};
pub use self::target::{CommitInfo, Committed, Deletable, SAMPLE, Target, Watch, Writer};
