//! The interfaces through which a run reaches the outside.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::http::exchange::Transport;
use crate::quota::ledger::Ledger;
use crate::report::Reporter;
use crate::state::Store;
use crate::write::Target;

/// The interfaces through which a run reaches the outside.
#[derive(Clone)]
pub struct Services {
    /// The transport to the API.
    pub transport: Arc<dyn Transport>,
    /// The target.
    pub target: Arc<dyn Target>,
    /// The store of the state; `None` for the target's own.
    pub state: Option<Arc<dyn Store>>,
    /// The shared ledger of points; `None` counts them in this process only.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Receives the events.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop.
    pub cancel: CancellationToken,
}
