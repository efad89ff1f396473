//! One file per command.

pub(crate) mod conns;
pub(crate) mod conns_set;
pub(crate) mod discover;
pub(crate) mod loaded;
pub(crate) mod quota;
pub(crate) mod schema;
pub(crate) mod sim;
pub(crate) mod specs;
pub(crate) mod state;
pub(crate) mod sync;
pub(crate) mod trusted;
