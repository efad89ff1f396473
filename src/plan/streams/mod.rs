//! The parts of a stream, resolved.

pub(crate) mod columns;
pub(crate) mod confirm;
pub(crate) mod cost;
pub(crate) mod count;
pub(crate) mod cursor;
pub(crate) mod fingerprint;
pub(crate) mod stage;
pub(crate) mod stream;
