//! Where the state of a replication is kept, and the lock on the replication.

use std::{path::Path, sync::Arc};

use crate::error::Result;
use crate::state::Store;
use crate::write::files::state::local::LocalStore;
use crate::write::files::state::paths;
use crate::write::files::state::store::RemoteStore;
use crate::write::storage::bucket::Bucket;

/// The state of one replication, beside its files.
#[derive(Clone, Debug)]
pub(crate) enum StateLocation {
    Local(Arc<LocalStore>),
    Remote(Arc<RemoteStore>),
}

impl StateLocation {
    /// Below a folder on local disk.
    pub(crate) fn in_folder(root: &Path, replication: &str) -> Self {
        Self::Local(Arc::new(LocalStore::new(root, replication)))
    }

    /// Below the prefix of a bucket.
    pub(crate) fn in_bucket(bucket: &Bucket, replication: &str) -> Self {
        let path = bucket.below(&paths::state(replication));
        let remote = RemoteStore::new(bucket.store(), path, bucket.shown(), replication);
        Self::Remote(Arc::new(remote))
    }

    /// The store.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Local(store) => Arc::<LocalStore>::clone(store),
            Self::Remote(store) => Arc::<RemoteStore>::clone(store),
        }
    }

    /// Fails when this process has taken the lock on the replication and lost it.
    pub(crate) fn check_lock(&self) -> Result<()> {
        match self {
            // The operating system's lock lasts as long as the process.
            Self::Local(_) => Ok(()),
            Self::Remote(store) => store.check_lock(),
        }
    }
}
