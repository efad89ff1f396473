//! The signals that stop a run in an orderly way: Ctrl-C, SIGTERM and SIGHUP.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Exit;
use crate::cli::output::progress::ProgressReporter;
use crate::report::{Event, Reporter};

/// Cancels the run at the first signal. A second signal ends the program at once.
pub(crate) async fn stop_on_signal(
    cancel: CancellationToken,
    progress: Arc<ProgressReporter>,
) -> Exit {
    let Some(mut signals) = Signals::listen() else { return Exit::Interrupted };
    let exit = signals.next().await;
    let message = "stopping; press Ctrl-C again to quit at once".to_owned();
    progress.report(&Event::Warning { stream: None, message });
    let what = "stopping: saving the progress".to_owned();
    progress.report(&Event::Doing { stream: None, what });
    cancel.cancel();
    tokio::spawn(async move {
        signals.next().await;
        progress.close();
        quit(exit);
    });
    exit
}

/// The listeners for the signals.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if SIGHUP is ignored, as under `nohup`.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> Option<Self> {
        let hangup = (!ignores_hangup()).then(|| signal(SignalKind::hangup()).ok()).flatten();
        Some(Self {
            interrupt: signal(SignalKind::interrupt()).ok()?,
            terminate: signal(SignalKind::terminate()).ok()?,
            hangup,
        })
    }

    async fn next(&mut self) -> Exit {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = hangup => Exit::Terminated,
        }
    }
}

/// Whether the parent process made the program ignore SIGHUP, as `nohup` does. `false` if the system
/// does not report it.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[expect(clippy::exit, reason = "the user sent a second signal")]
fn quit(exit: Exit) {
    std::process::exit(exit as i32);
}
