//! Sessions of the server: connections, the locks they hold, and waits for the locks of others.

pub(crate) mod lock_wait;
pub(crate) mod pool;
pub(crate) mod pooler;
pub(crate) mod table_lock;
pub(crate) mod tls;
