//! Paths of what weir keeps below a root beside the files: hidden from programs that look for data.

use crate::error::{Error, Kind};
use crate::state::Holder;
use crate::write::staging::names::unique;

/// Folder for the states of replications.
const STATES: &str = ".weir/state";
/// Folder for the records of who owns which object.
const RECORDS: &str = ".weir/tables";

/// Folder for the state of a replication, below a root.
pub(crate) fn state(replication: &str) -> String {
    format!("{STATES}/{}", unique(replication))
}

/// File that records the owner of an object, below a root.
pub(crate) fn owner(object: &str) -> String {
    format!("{RECORDS}/{}.json", unique(object))
}

/// The error of a replication that another run has locked.
pub(crate) fn taken(replication: &str, holder: Option<&Holder>) -> Error {
    let holder = holder.map_or_else(|| "an unknown process".to_owned(), ToString::to_string);
    Error::new(Kind::Busy, format!("another run of `{replication}` is in progress: {holder}"))
        .with_hint(
            "wait until it has ended, for example with `weir sync run --wait 90s`, or stop it",
        )
}
