//! Progress lines of commands that wait outside a run.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use crate::cli::args::{LogFormat, Shared};
use crate::cli::output::printer;

/// Time before the first line.
const FIRST: Duration = Duration::from_secs(3);
/// Time between lines.
const STEP: Duration = Duration::from_secs(10);

/// Prints on stderr what the command waits for, from [`FIRST`] until it is dropped.
pub(crate) struct Patience {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Patience {
    /// Starts a wait. `what` completes the line `waiting for …`. A quiet command prints nothing.
    pub(crate) fn new(shared: Shared, what: impl Into<String>) -> Self {
        if shared.quiet {
            return Self { end: None, thread: None };
        }
        let (what, begun) = (what.into(), Instant::now());
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut wait = FIRST;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let seconds = begun.elapsed().as_secs();
                let message = format!("waiting for {what} (for {seconds}s)");
                match shared.log_format {
                    LogFormat::Text => printer::stamped(&message),
                    LogFormat::Json => {
                        let line = json!({ "event": "waiting", "message": message });
                        printer::event("INFO", &line);
                    }
                }
                wait = STEP;
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
