//! The program itself, killed again and again while it reads a tenant over a socket, and robbed of its
//! database and its disk: whatever happens, a run in peace leaves the tables equal to the tenant.

mod disk;
mod server;
mod signals;
