//! What a run needs from outside.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::http::exchange::Transport;
use crate::quota::ledger::Ledger;
use crate::report::Reporter;
use crate::state::Store;
use crate::write::Target;

/// What a run needs from outside.
#[derive(Clone)]
pub struct Services {
    /// The transport to the API.
    pub transport: Arc<dyn Transport>,
    /// The target.
    pub target: Arc<dyn Target>,
    /// Where the state is kept; `None`: with the target.
    pub state: Option<Arc<dyn Store>>,
    /// Where points are counted; `None`: in this process alone.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Who is told what happens.
    pub reporter: Arc<dyn Reporter>,
    /// Cancelled when the run is to stop.
    pub cancel: CancellationToken,
}
