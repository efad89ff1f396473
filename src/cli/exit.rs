//! How a command ends, and the runtime in which it runs.

use crate::error::{Error, Kind, Result};

/// How a command ended: exit codes are part of the interface and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    WrongInput = 2,
    DoneWithErrors = 3,
    Busy = 4,
    Paused = 75,
    Interrupted = 130,
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

/// A runtime for a command that talks to the network: a thread per core, and two at least, so that
/// decoding never holds up the answers.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().map_err(|error| {
        Error::new(Kind::Unreachable, "the program's threads cannot be started").because(error)
    })
}
