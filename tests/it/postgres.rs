//! The Postgres target, against a real server.
