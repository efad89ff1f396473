//! weir extracts the records of REST APIs into databases and files.
//!
//! A *spec* (YAML) declares an API's streams, a *replication* (YAML) says what goes where, and the
//! engine runs it:
//!
//! ```text
//! spec, replication, connection ─▶ plan ─▶ engine ─▶ fetch ─▶ decode ─▶ write ─▶ commit
//! ```
//!
//! Modules are listed from the bottom up; imports point to lower ones only.

pub mod error;
mod hash;

pub mod certificates;
pub mod path;
pub mod report;
pub mod schema;
pub mod secret;
pub mod state;
pub mod template;
pub mod yaml;

pub mod decode;
pub mod quota;

pub mod spec;
pub mod write;

pub mod http;
pub mod replication;

pub mod connection;

pub mod plan;

pub mod progress;
mod queue;

pub mod planner;

mod extract;

pub mod run;

pub mod sync;

pub mod cli;
