//! The state store of a run, and its lock.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::{Lock, Store};

/// The state store of a run, and its lock.
#[derive(Clone)]
pub struct StateSession {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The lock that permits saving.
    pub lock: Arc<dyn Lock>,
    /// Whether the store is in the target, so that rows and state are saved atomically.
    pub in_target: bool,
}

impl StateSession {
    pub(crate) fn check(&self) -> Result<()> {
        if self.lock.is_held() {
            return Ok(());
        }
        Err(Error::target("the lock on the replication's state was lost")
            .with_hint("run again: it continues from what was saved last"))
    }
}
