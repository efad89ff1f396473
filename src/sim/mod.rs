//! The simulated API: a deterministic tenant, in process and on a socket.
