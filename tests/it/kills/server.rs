//! The database crashes.
