//! The store of a run that is saved, and the lock that gives the right to save.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::state::{Lock, Store};

/// Where a run saves what it has done.
#[derive(Clone)]
pub struct StateSession {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The right to save.
    pub lock: Arc<dyn Lock>,
    /// Whether the store is the target's own, so that rows and state are saved in one step.
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
