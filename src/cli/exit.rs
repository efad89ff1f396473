//! Exit codes, and the async runtime of a command.

use crate::error::{Error, Kind, Result};

/// The exit code of a command. Exit codes are part of the public interface and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done. All streams are complete in the target.
    Done = 0,
    /// Failed. A stream or the command failed; tables of failed streams are unchanged.
    Failed = 1,
    /// Wrong input: arguments, a replication, a spec or a connection. No records were requested; a retry does not help.
    WrongInput = 2,
    /// Done, but the API refused slices, or records are missing. The summary and `_weir_errors` name them.
    DoneWithErrors = 3,
    /// Busy. Another run holds the lock, or another session uses a table. Run again later.
    Busy = 4,
    /// Paused. The points budget is spent. weir has saved what it has read, and the next run resumes.
    Paused = 75,
    /// Interrupted by Ctrl-C (SIGINT). weir has saved what it has read, and the next run resumes.
    Interrupted = 130,
    /// Like 130, by SIGTERM, or by SIGHUP when the terminal closes (except under `nohup`).
    Terminated = 143,
}

pub(crate) fn exit_of(error: &Error) -> Exit {
    match error.kind() {
        Kind::Input => Exit::WrongInput,
        Kind::Interrupted => Exit::Interrupted,
        Kind::Paused => Exit::Paused,
        Kind::Busy => Exit::Busy,
        _ => Exit::Failed,
    }
}

/// Creates the runtime for a command that uses the network. It has one thread per core and at least
/// two, so that decoding does not delay responses.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().map_err(|error| {
        Error::new(Kind::Unreachable, "weir cannot start its threads").because(error)
    })
}
