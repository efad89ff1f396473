//! Exit codes, and the async runtime of a command.

use crate::error::{Error, Kind, Result};

/// The exit code of a command. Exit codes are part of the public interface and do not change.
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

/// Creates the runtime for a command that uses the network. It has one thread per core and at least
/// two, so that decoding does not delay responses.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all().build().map_err(|error| {
        Error::new(Kind::Unreachable, "weir cannot start its threads").because(error)
    })
}
