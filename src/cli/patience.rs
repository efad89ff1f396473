//! What a command waits for, told while no run tells of itself.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use crate::cli::args::{LogFormat, Shared};
use crate::cli::output::printer;

/// Time after which the first line comes.
const FIRST: Duration = Duration::from_secs(3);
/// Time between two lines.
const STEP: Duration = Duration::from_secs(10);

/// Tells on stderr what is waited for, from the third second on until it is dropped.
pub(crate) struct Patience {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Patience {
    /// Begins to wait; `what` is told as `waiting for …`. A quiet command tells nothing.
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
                        let told = json!({ "event": "waiting", "message": message });
                        printer::event("INFO", &told);
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
