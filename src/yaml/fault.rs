//! One thing that keeps data from being read.

use super::place::Place;

/// Something that does not fit.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
    /// The same without the values of the file.
    pub(super) public_message: String,
    pub(super) hint: Option<String>,
}
