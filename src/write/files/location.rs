//! Where a target has its files.

use std::sync::Arc;

use crate::write::files::local::folder::LocalFolder;
use crate::write::files::store::objects::StoreFolder;

/// The root of a target.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    /// A folder on local disk.
    Local(Arc<LocalFolder>),
    /// A prefix in a bucket.
    Store(Arc<StoreFolder>),
}
