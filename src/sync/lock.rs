//! The lock of a replication.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::error::{Kind, Result};
use crate::run::services::Services;
use crate::state::{Holder, Lock, Store};
use crate::sync::announce::doing;

/// Time between attempts to take a lock that another run holds.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Takes the lock of the replication. Waits up to `wait` if another run holds it.
pub(crate) async fn acquire(
    store: &dyn Store,
    run_id: &str,
    services: &Services,
    wait: Duration,
) -> Result<Arc<dyn Lock>> {
    let until = Instant::now() + wait;
    loop {
        match store.lock(&Holder::here(run_id)).await {
            Ok(lock) => return Ok(Arc::from(lock)),
            Err(error) if error.kind() == Kind::Busy => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(error);
                }
                let what = format!("waiting up to {} s: {error}", left.as_secs().max(1));
                doing(services, &what);
                tokio::select! {
                    () = services.cancel.cancelled() => return Err(error),
                    () = tokio::time::sleep(left.min(RETRY_INTERVAL)) => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
}
